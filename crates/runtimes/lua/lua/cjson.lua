-- cjson and cjson.safe: JSON as OpenResty's users know it.
local native = ...
local pcall, tostring, error, select = pcall, tostring, error, select

local settings = { "encode_max_depth", "decode_max_depth", "encode_number_precision", "encode_keep_buffer", "encode_sparse_array",
  "encode_invalid_numbers", "decode_invalid_numbers", "encode_empty_table_as_object", "decode_array_with_array_mt",
  "encode_escape_forward_slash" }

local function words(problem)
  return (tostring(problem):gsub("^runtime error: ", ""):gsub("\nstack traceback.*$", ""))
end
local function kept(ok, ...)
  if ok then return ... end
  if native.expired() then error((...), 0) end
  return nil, words((...))
end

-- One cjson with settings of its own. A safe one gives nil and a message where others raise an error.
local function new(safe)
  local codec = native.codec()
  local cjson = {
    _NAME = safe and "cjson.safe" or "cjson", _VERSION = "2.1.0.14", null = native.null,
    array_mt = native.array_mt, empty_array_mt = native.empty_array_mt, empty_array = native.empty_array,
  }
  local function encode(value) return native.encode(codec, value) end
  local function decode(text)
    if type(text) ~= "string" and type(text) ~= "number" then
      error("bad argument #1 to 'decode' (string expected, got " .. (text == nil and "no value" or type(text)) .. ")", 0)
    end
    return native.decode(codec, tostring(text))
  end
  if safe then
    cjson.encode = function(value) return kept(pcall(encode, value)) end
    cjson.decode = function(text) return kept(pcall(decode, text)) end
  else
    cjson.encode = function(value)
      local ok, text = pcall(encode, value)
      if ok then return text end
      if native.expired() then error(text, 0) end
      error(words(text), 2)
    end
    cjson.decode = function(text)
      local ok, value = pcall(decode, text)
      if ok then return value end
      if native.expired() then error(value, 0) end
      error(words(value), 2)
    end
  end
  for _, name in ipairs(settings) do
    cjson[name] = function(...) return native.codec_set(codec, name, ...) end
  end
  cjson.new = function() return new(safe) end
  return cjson
end

local cjson, safe = new(false), new(true)
package.loaded["cjson"], package.loaded["cjson.safe"] = cjson, safe
native.cjson, native.cjson_safe = cjson, safe
