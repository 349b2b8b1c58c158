-- Asks another service about the caller, and lets in whom it knows.
local http = require "resty.http"
local cjson = require "cjson.safe"

local Lookup = { PRIORITY = 900, VERSION = "0.1.0" }

function Lookup:access(conf)
  local client = http.new()
  client:set_timeout(conf.timeout)
  local res, err = client:request_uri(conf.url, {
    method = "POST",
    headers = { ["Content-Type"] = "application/json" },
    body = cjson.encode({ who = kong.request.get_header("x-who") }),
  })
  if not res then
    kong.log.err("lookup failed: ", err)
    return kong.response.exit(502, { message = "lookup failed: " .. err })
  end
  local asked = cjson.decode(res.body)
  kong.service.request.set_header("X-Looked-Up", res.status .. " " .. asked.method .. " " .. asked.body)
  ngx.shared.lookups:incr("count", 1, 0)
end

function Lookup:log()
  local count = ngx.shared.lookups:get("count")
  ngx.timer.at(0, function(premature, text)
    kong.log.notice("lookups so far: ", text)
  end, tostring(count))
end

return Lookup
