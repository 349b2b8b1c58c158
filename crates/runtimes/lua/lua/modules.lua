-- Modules that code expects to find: thin ones over what is there.
local native = ...
local ngx, kong = ngx, kong
local preload = package.preload

local function module(name, make)
  preload[name] = function() return make() end
end
local function digest(of)
  return function()
    return {
      new = function()
        local parts = {}
        return {
          update = function(_, text) parts[#parts + 1] = text return true end,
          final = function() return of(table.concat(parts)) end,
          reset = function() parts = {} return true end,
        }
      end,
    }
  end
end
module("resty.sha1", digest(native.sha1))
module("resty.md5", digest(native.md5))
for _, bits in ipairs({ 224, 256, 384, 512 }) do
  module("resty.sha" .. bits, digest(function(text) return native.sha2(bits, text) end))
end
module("resty.string", function()
  return {
    to_hex = native.hex,
    atoi = tonumber,
  }
end)
module("resty.random", function() return { bytes = function(count) return native.random_bytes(count) end } end)
module("ngx.base64", function() return { encode_base64url = native.encode_base64url, decode_base64url = native.decode_base64url } end)
module("ngx.re", function()
  return {
    opt = function() end,
    split = function(text, pattern, options, context, max, out)
      local place = context and context.pos and context.pos - 1 or 0
      local from_here, count, pieces = place, 0, out or {}
      while place < #text and not (max and max > 0 and count >= max - 1) do
        local captures, from, to = native.regex_find(text, pattern, options or "", place)
        if not captures then
          if from then return nil, from end
          break
        end
        if to < from then
          -- An empty match cuts behind the next byte.
          if from > #text then break end
          place = from
          if from - 1 > from_here then
            count = count + 1
            pieces[#pieces + 1] = text:sub(from_here + 1, from - 1)
            from_here = from - 1
          end
        else
          count = count + 1
          pieces[#pieces + 1] = text:sub(from_here + 1, from - 1)
          for at = 1, #captures do if captures[at] then pieces[#pieces + 1] = captures[at] end end
          place, from_here = to, to
        end
      end
      pieces[#pieces + 1] = text:sub(from_here + 1)
      if context then context.pos = #text + 1 end
      return pieces
    end,
  }
end)
module("ngx.semaphore", function()
  local methods = {}
  function methods:wait(seconds)
    if native.semaphore_try(self.own) then return true end
    if not seconds or seconds <= 0 then return nil, "timeout" end
    native.semaphore_wait(self.own, seconds)
    if native.wait() then return true end
    return nil, "timeout"
  end
  function methods:post(more)
    native.semaphore_post(self.own, more or 1)
    return true
  end
  function methods:count() return native.semaphore_count(self.own) end
  local class = { __index = methods }
  return { new = function(count) return setmetatable({ own = native.semaphore(count or 0) }, class) end }
end)
module("table.new", function() return function() return {} end end)
module("table.clear", function() return kong.table.clear end)
module("table.nkeys", function() return function(t) local count = 0 for _ in pairs(t) do count = count + 1 end return count end end)
module("table.isarray", function() return function(t) return #t > 0 or next(t) == nil end end)
module("table.clone", function() return function(t) local out = {} for key, value in pairs(t) do out[key] = value end return out end end)
module("resty.lrucache", function()
  local methods = {}
  local class = { __index = methods }
  function methods:get(key)
    local entry = self.entries[key]
    if not entry then return nil end
    if entry.expires and entry.expires < ngx.now() then return nil, entry.value end
    return entry.value
  end
  function methods:set(key, value, ttl)
    if not self.entries[key] then
      if self.size >= self.max then self:flush_all() end
      self.size = self.size + 1
    end
    self.entries[key] = { value = value, expires = ttl and ttl > 0 and ngx.now() + ttl or nil }
  end
  function methods:delete(key)
    if self.entries[key] then self.size = self.size - 1 end
    self.entries[key] = nil
  end
  function methods:flush_all() self.entries, self.size = {}, 0 end
  function methods:count() return self.size end
  function methods:capacity() return self.max end
  return { new = function(max) return setmetatable({ max = max, entries = {}, size = 0 }, class) end }
end)
module("inspect", function() return setmetatable({ inspect = native.inspected }, { __call = function(_, value) return native.inspected(value) end }) end)

-- pl: the few functions that plugins use.
module("pl.stringx", function()
  local stringx = {}
  local function plain(text) return (text:gsub("%p", "%%%0")) end
  function stringx.strip(text, chars)
    local class = chars and "[" .. plain(chars) .. "]" or "%s"
    return (text:gsub("^" .. class .. "+", ""):gsub(class .. "+$", ""))
  end
  function stringx.lstrip(text) return (text:gsub("^%s+", "")) end
  function stringx.rstrip(text) return (text:gsub("%s+$", "")) end
  function stringx.startswith(text, prefix) return text:sub(1, #prefix) == prefix end
  function stringx.endswith(text, suffix) return suffix == "" or text:sub(-#suffix) == suffix end
  function stringx.replace(text, old, new, count) return (text:gsub(plain(old), (new:gsub("%%", "%%%%")), count)) end
  function stringx.count(text, part) return select(2, text:gsub(plain(part), "")) end
  function stringx.join(separator, list) return table.concat(list, separator) end
  function stringx.split(text, separator, max)
    local out, at = {}, 1
    if not separator then
      for word in text:gmatch("%S+") do out[#out + 1] = word end
      return out
    end
    while not (max and #out >= max - 1) do
      local from, to = text:find(separator, at, true)
      if not from then break end
      out[#out + 1] = text:sub(at, from - 1)
      at = to + 1
    end
    out[#out + 1] = text:sub(at)
    return out
  end
  function stringx.splitv(text, separator, max) return unpack(stringx.split(text, separator, max)) end
  return stringx
end)
module("pl.tablex", function()
  local tablex = {}
  function tablex.deepcopy(value)
    if type(value) ~= "table" then return value end
    local out = {}
    for key, one in pairs(value) do out[tablex.deepcopy(key)] = tablex.deepcopy(one) end
    return setmetatable(out, getmetatable(value))
  end
  function tablex.copy(t) local out = {} for key, value in pairs(t) do out[key] = value end return out end
  function tablex.keys(t) local out = {} for key in pairs(t) do out[#out + 1] = key end return out end
  function tablex.values(t) local out = {} for _, value in pairs(t) do out[#out + 1] = value end return out end
  function tablex.size(t) local count = 0 for _ in pairs(t) do count = count + 1 end return count end
  function tablex.map(f, t, ...) local out = {} for key, value in pairs(t) do out[key] = f(value, ...) end return out end
  function tablex.filter(t, f, ...) local out = {} for _, value in ipairs(t) do if f(value, ...) then out[#out + 1] = value end end return out end
  function tablex.find(t, wanted) for at, value in ipairs(t) do if value == wanted then return at end end end
  function tablex.merge(one, two, both)
    local out = {}
    for key, value in pairs(one) do if both or two[key] ~= nil then out[key] = value end end
    if both then for key, value in pairs(two) do out[key] = value end end
    return out
  end
  function tablex.deepcompare(one, two)
    if type(one) ~= "table" or type(two) ~= "table" then return one == two end
    for key, value in pairs(one) do if not tablex.deepcompare(value, two[key]) then return false end end
    for key in pairs(two) do if one[key] == nil then return false end end
    return true
  end
  return tablex
end)
module("pl.utils", function()
  local stringx = require("pl.stringx")
  return { split = function(text, separator) return stringx.split(text, separator) end, unpack = unpack }
end)
module("pl.pretty", function() return { write = native.inspected, dump = function(value) print(native.inspected(value)) end } end)
module("kong.meta", function() return { version = native.version, core_version = native.version } end)
module("kong.constants", function()
  return { HEADERS = { CONSUMER_ID = "X-Consumer-ID", CONSUMER_CUSTOM_ID = "X-Consumer-Custom-ID", CONSUMER_USERNAME = "X-Consumer-Username",
    CREDENTIAL_IDENTIFIER = "X-Credential-Identifier", ANONYMOUS = "X-Anonymous-Consumer", AUTHENTICATED_GROUPS = "X-Authenticated-Groups",
    CONSUMER_GROUPS = "X-Consumer-Groups" } }
end)
