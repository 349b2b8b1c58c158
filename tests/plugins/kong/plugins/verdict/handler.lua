-- Looks at whole responses, and refuses those that are too long.
local Verdict = { PRIORITY = 20, VERSION = "1.0.0" }

function Verdict:response(conf)
  local body = kong.service.response.get_raw_body()
  if #body > conf.most then return kong.response.exit(507, { message = "too long: " .. #body }) end
  kong.response.set_header("X-Length", #body)
end

return Verdict
