-- Replaces a word in every response body.
local words = require "kong.plugins.stamp.words"

local Stamp = { PRIORITY = 10, VERSION = "2.0.0" }

function Stamp:header_filter()
  kong.response.clear_header("Content-Length")
end

function Stamp:body_filter(conf)
  local body = kong.response.get_raw_body()
  if body then kong.response.set_raw_body(words.replaced(body, conf.word, conf.with)) end
end

return Stamp
