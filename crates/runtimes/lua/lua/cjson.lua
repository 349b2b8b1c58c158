-- cjson and cjson.safe: JSON as OpenResty's users know it.
local native = ...

local array_mt = { __jsontype_array = true }

local function new()
  local cjson = {
    _NAME = "cjson", _VERSION = "2.1.0.14", null = native.null,
    encode = native.encode, decode = native.decode, new = nil,
    array_mt = array_mt, empty_array_mt = array_mt,
    empty_array = setmetatable({}, array_mt),
  }
  local function ignored() return true end
  for _, name in ipairs({ "encode_max_depth", "decode_max_depth", "encode_number_precision", "encode_keep_buffer",
    "encode_sparse_array", "encode_invalid_numbers", "decode_invalid_numbers", "encode_empty_table_as_object",
    "decode_array_with_array_mt", "encode_escape_forward_slash" }) do
    cjson[name] = ignored
  end
  return cjson
end

local cjson = new()
cjson.new = new
local safe = new()
local function guarded(f)
  return function(...)
    local ok, result = pcall(f, ...)
    if ok then return result end
    return nil, (tostring(result):gsub("^runtime error: ", ""):gsub("\nstack traceback.*$", ""))
  end
end
safe.encode, safe.decode = guarded(native.encode), guarded(native.decode)
safe.new = function()
  local copy = new()
  copy.encode, copy.decode = safe.encode, safe.decode
  return copy
end

package.loaded["cjson"], package.loaded["cjson.safe"] = cjson, safe
native.cjson, native.cjson_safe = cjson, safe
