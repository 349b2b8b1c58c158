-- kong.tools and other modules that plugins for Kong require, over what is there.
local native = ...
local ngx, kong = ngx, kong
local type, tostring, tonumber, error, pairs, ipairs, select = type, tostring, tonumber, error, pairs, ipairs, select

local function module(name, make)
  package.preload[name] = function() return make() end
end

module("kong.tools.string", function()
  local stringx = require("pl.stringx")
  local tools = { join = stringx.join, split = stringx.split, to_hex = native.hex }
  function tools.strip(value)
    if value == nil then return "" end
    return (tostring(value):gsub("^%s+", ""):gsub("%s+$", ""))
  end
  function tools.validate_utf8(value)
    local at = native.malformed_utf8(tostring(value))
    if at then return false, at end
    return true
  end
  local units = { k = { 10, "KiB" }, m = { 20, "MiB" }, g = { 30, "GiB" } }
  function tools.bytes_to_str(bytes, unit, scale)
    local small = (unit or ""):lower()
    if small == "" or small == "b" then return ("%d"):format(bytes) end
    scale = scale or 2
    if type(scale) ~= "number" or scale < 0 then error("scale must be equal or greater than 0", 2) end
    local chosen = units[small]
    if not chosen then error("invalid unit '" .. unit .. "' (expected 'k/K', 'm/M', or 'g/G')", 2) end
    return ("%." .. scale .. "f %s"):format(bytes / 2 ^ chosen[1], chosen[2])
  end
  function tools.parse_ngx_size(text)
    local unit = units[text:sub(-1):lower()]
    return (tonumber(unit and text:sub(1, -2) or text) or 0) * (unit and 2 ^ unit[1] or 1)
  end
  local function decoded(value)
    return type(value) == "string" and (native.decode_base64(value) or native.decode_base64url(value)) or value
  end
  function tools.try_decode_base64(value)
    if type(value) ~= "table" then return decoded(value) end
    for at, one in ipairs(value) do value[at] = decoded(one) end
    return value
  end
  function tools.replace_dashes(text) return (text:gsub("-", "_")) end
  function tools.replace_dashes_lower(text) return (text:lower():gsub("-", "_")) end
  return tools
end)

module("kong.tools.table", function()
  local tools = {
    EMPTY = setmetatable({}, { __newindex = function() error("attempt to modify a read-only table", 2) end }),
    pack = function(...) return { n = select("#", ...), ... } end,
    unpack = function(list, from, to) return unpack(list, from or 1, to or list.n or #list) end,
    table_merge = kong.table.merge,
  }
  function tools.shallow_copy(value)
    if type(value) ~= "table" then return value end
    local out = {}
    for key, one in pairs(value) do out[key] = one end
    return out
  end
  function tools.null_aware_table_merge(one, two)
    local out = tools.shallow_copy(one or {})
    for key, value in pairs(two or {}) do
      if out[key] == nil or value ~= ngx.null then out[key] = value end
    end
    return out
  end
  function tools.table_contains(list, wanted)
    for _, value in pairs(list or {}) do
      if value == wanted then return true end
    end
    return false
  end
  function tools.is_array(value, way)
    if type(value) ~= "table" then return false end
    if way == "fast" then return #value > 0 or next(value) == nil end
    local count = 0
    for key in pairs(value) do
      if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then return false end
      count = count + 1
    end
    return count == #value
  end
  tools.is_lapis_array = tools.is_array
  -- Tables that are met again are the copy that was made of them.
  local function copied(value, plain, keys, seen)
    if type(value) ~= "table" then return value end
    if seen[value] then return seen[value] end
    local out = {}
    seen[value] = out
    for key, one in pairs(value) do out[keys and copied(key, plain, keys, seen) or key] = copied(one, plain, keys, seen) end
    return plain and out or setmetatable(out, getmetatable(value))
  end
  function tools.deep_copy(value, with_metatables) return copied(value, with_metatables == false, true, {}) end
  function tools.cycle_aware_deep_copy(value, plain, keys, seen) return copied(value, plain, keys, seen or {}) end
  local function merged(one, two, copy)
    local out = copy(one)
    for key, value in pairs(two) do
      out[key] = type(value) == "table" and type(out[key]) == "table" and merged(out[key], value, copy) or copy(value)
    end
    return out
  end
  function tools.deep_merge(one, two) return merged(one, two, tools.deep_copy) end
  function tools.cycle_aware_deep_merge(one, two, plain, keys, seen)
    seen = seen or {}
    return merged(one, two, function(value) return copied(value, plain, keys, seen) end)
  end
  function tools.concat(...)
    local out = {}
    for _, list in ipairs({ ... }) do
      for _, value in ipairs(list) do out[#out + 1] = value end
    end
    return out
  end
  local several = {}
  function tools.add_error(errors, key, value)
    errors = errors or {}
    local known = errors[key]
    if known == nil then errors[key] = value return errors end
    if getmetatable(known) ~= several then known = setmetatable({ known }, several) errors[key] = known end
    known[#known + 1] = value
    return errors
  end
  function tools.table_path(value, path)
    for _, name in ipairs(path) do
      if value[name] == nil then return nil end
      value = value[name]
    end
    return value
  end
  return tools
end)

module("kong.tools.rand", function()
  return {
    get_rand_bytes = function(count) return native.random_bytes(count) end,
    random_string = function()
      local text = native.encode_base64(native.random_bytes(24), true)
      return (text:gsub("[/+]", function() return string.char(math.random(97, 122)) end))
    end,
  }
end)
module("kong.tools.sha256", function()
  local function bin(text) return native.sha2(256, text) end
  return {
    sha256_bin = bin,
    sha256_hex = function(text) return native.hex(bin(text)) end,
    sha256_base64 = function(text) return native.encode_base64(bin(text)) end,
    sha256_base64url = function(text) return native.encode_base64url(bin(text)) end,
  }
end)
module("kong.tools.time", function()
  local function now_ms() return ngx.now() * 1000 end
  return {
    time_ns = function() return ngx.now() * 1e9 end,
    get_updated_now = ngx.now, get_now_ms = now_ms, get_updated_now_ms = now_ms, get_updated_monotonic_ms = now_ms,
    get_start_time_ms = function() return ngx.req.start_time() * 1000 end,
  }
end)
module("kong.tools.cjson", function()
  local codec = require("cjson.safe").new()
  codec.decode_array_with_array_mt(true)
  codec.encode_sparse_array(nil, nil, 2 ^ 15)
  codec.encode_number_precision(16)
  return { encode = codec.encode, decode_with_array_mt = codec.decode, array_mt = codec.array_mt }
end)
module("kong.tools.uri", function()
  return {
    normalize = function(path) return native.normal_path(path) end,
    escape = function(path)
      return (path:gsub("[^!#$&'()*+,/:;=?@%[%]%w_.~%%-]", function(byte) return ("%%%02X"):format(byte:byte()) end))
    end,
  }
end)
module("kong.tools.module", function()
  return { load_module_if_exists = function(name)
    local found, loaded = pcall(require, name)
    if found then return true, loaded end
    if type(loaded) == "string" and loaded:find("module '" .. name .. "' not found", 1, true) then return false, loaded end
    error("error loading module '" .. name .. "':\n" .. tostring(loaded))
  end }
end)
module("kong.tools.http", function()
  local tools = { encode_args = native.encode_args, decode_args = function(text) return (native.decode_args(text, 0)) end }
  function tools.validate_http_token(token)
    if token == nil or token == "" then return nil, "no token provided" end
    if not token:find('[%c%s()<>@,;:\\"/?={}%[%]]') then return token end
    return nil, "contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters "
      .. "()<>@,;:\\\"/?={}[] are not allowed."
  end
  tools.validate_cookie_name = tools.validate_http_token
  function tools.validate_header_name(name)
    if name == nil or name == "" then return nil, "no header name provided" end
    if name:match("^[%w_-]+$") then return name end
    return nil, "bad header name '" .. name .. "', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
  end
  function tools.parse_directive_header(header)
    local out = {}
    if type(header) == "table" then header = table.concat(header, ", ") end
    for part in (header or ""):gmatch("[^,]+") do
      local name, value = part:match("^%s*([^=]+)=?(.*)$")
      if name then out[name:lower()] = value ~= "" and (tonumber(value) or value) or true end
    end
    return out
  end
  function tools.calculate_resource_ttl(directives)
    local age = directives and (directives["s-maxage"] or directives["max-age"])
    local expires = not age and native.parse_http_time(tostring(ngx.var.sent_http_expires))
    if expires then age = expires - ngx.time() end
    return age and math.max(age, 0) or 0
  end
  local always = { [405] = "Method not allowed", [500] = "An unexpected error occurred", [502] = "Bad gateway" }
  local otherwise = { [401] = "Unauthorized", [404] = "Not found", [503] = "Service unavailable" }
  function tools.get_default_exit_body(status, message)
    if type(status) ~= "number" then error("code must be a number", 2) end
    if status < 100 or status > 599 then error("code must be a number between 100 and 599", 2) end
    if status == 204 then return nil end
    local body = always[status] or message or otherwise[status]
    return body ~= nil and type(body) ~= "table" and { message = body } or body
  end
  return tools
end)
module("kong.tools.ip", function()
  local tools = {}
  local function family(text, with_prefix)
    if type(text) ~= "string" then return nil end
    local address, prefix = text:match("^(.-)/(%d+)$")
    if (address ~= nil) ~= with_prefix then return nil end
    local kind = native.address_family(address or text)
    if prefix and tonumber(prefix) > (kind == 4 and 32 or 128) then return nil end
    return kind
  end
  function tools.is_valid_ipv4(text) return family(text, false) == 4 end
  function tools.is_valid_ipv6(text) return family(text, false) == 6 end
  function tools.is_valid_ip(text) return family(text, false) ~= nil end
  function tools.is_valid_cidr_v4(text) return family(text, true) == 4 end
  function tools.is_valid_cidr_v6(text) return family(text, true) == 6 end
  function tools.is_valid_cidr(text) return family(text, true) ~= nil end
  function tools.is_valid_ip_or_cidr_v4(text) return tools.is_valid_ipv4(text) or tools.is_valid_cidr_v4(text) end
  function tools.is_valid_ip_or_cidr_v6(text) return tools.is_valid_ipv6(text) or tools.is_valid_cidr_v6(text) end
  function tools.is_valid_ip_or_cidr(text) return tools.is_valid_ip(text) or tools.is_valid_cidr(text) end
  function tools.hostname_type(name)
    local rest, colons = name:gsub(":", "")
    return colons > 1 and "ipv6" or rest:match("^[%d.]+$") and "ipv4" or "name"
  end
  return tools
end)
module("kong.tools.utils", function()
  local tools = { uuid = native.uuid, hex = native.hex }
  for _, name in ipairs({ "string", "table", "rand", "sha256", "http", "ip", "module" }) do
    for key, value in pairs(require("kong.tools." .. name)) do tools[key] = value end
  end
  return tools
end)
module("kong.tools.uuid", function()
  local form = "^" .. ("%x"):rep(8) .. "%-" .. ("%x"):rep(4) .. "%-" .. ("%x"):rep(4) .. "%-" .. ("%x"):rep(4) .. "%-" .. ("%x"):rep(12) .. "$"
  return { uuid = native.uuid, is_valid_uuid = function(text) return type(text) == "string" and text:match(form) ~= nil end }
end)
module("resty.jit-uuid", function()
  local is_valid = require("kong.tools.uuid").is_valid_uuid
  return setmetatable({ generate_v4 = native.uuid, is_valid = is_valid, seed = function() end }, { __call = native.uuid })
end)
module("table.isempty", function() return function(t) return next(t) == nil end end)
for _, name in ipairs({ "new", "clear", "nkeys", "isarray", "clone", "isempty" }) do table[name] = require("table." .. name) end
module("ngx.req", function() return { add_header = native.add_request_header } end)
module("ngx.resp", function() return { add_header = native.add_response_header } end)

-- Locks in a shared dictionary; whoever waits looks again, less and less often.
module("resty.lock", function()
  local lock = {}
  local class = { __index = lock }
  function lock:lock(key)
    if self.key then return nil, "locked" end
    local step, waited = self.step, 0
    while true do
      local ok, problem = self.dict:add(key, true, self.exptime)
      if ok then self.key = key return waited end
      if problem ~= "exists" then return nil, problem end
      if waited >= self.timeout then return nil, "timeout" end
      step = math.min(step, self.timeout - waited)
      ngx.sleep(step)
      waited = waited + step
      step = math.min(math.max(step * self.ratio, 0.001), self.max_step)
    end
  end
  function lock:unlock()
    if not self.key then return nil, "unlocked" end
    self.dict:delete(self.key)
    self.key = nil
    return 1
  end
  function lock:expire(seconds)
    if not self.key then return nil, "unlocked" end
    self.dict:set(self.key, true, seconds or self.exptime)
    return true
  end
  return { new = function(_, name, options)
    options = options or {}
    local dict = ngx.shared[name]
    if not dict then return nil, "dictionary not found" end
    local timeout, exptime = options.timeout or 5, options.exptime or 30
    return setmetatable({ dict = dict, timeout = math.min(timeout, exptime), exptime = exptime, step = options.step or 0.001,
      ratio = options.ratio or 2, max_step = options.max_step or 0.5 }, class)
  end }
end)
