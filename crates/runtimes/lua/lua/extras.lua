-- Timers, shared dictionaries, caches, rows, and what schemas are written with.
local native = ...
local ngx, kong = ngx, kong
local unpack, select, setmetatable, type, pairs = unpack, select, setmetatable, type, pairs

-- Timers.
local function started(seconds, again, callback, ...)
  local count, arguments = select("#", ...), { ... }
  local function run()
    if again then
      local problem = native.timer(seconds, again)
      if problem then ngx.log(ngx.ERR, problem) end
    end
    callback(false, unpack(arguments, 1, count))
  end
  return run
end
ngx.timer = {
  at = function(seconds, callback, ...)
    local problem = native.timer(seconds, started(seconds, nil, callback, ...))
    if problem then return nil, problem end
    return 1
  end,
  every = function(seconds, callback, ...)
    local count, arguments = select("#", ...), { ... }
    local run
    run = function()
      native.timer(seconds, run)
      callback(false, unpack(arguments, 1, count))
    end
    local problem = native.timer(seconds, run)
    if problem then return nil, problem end
    return 1
  end,
  pending_count = function() return native.timers() end,
  running_count = function() return 0 end,
}
kong.timer = {
  at = function(_, ...) return ngx.timer.at(...) end,
  every = function(_, ...) return ngx.timer.every(...) end,
  named_at = function(_, name, ...) return ngx.timer.at(...) and name end,
  named_every = function(_, name, ...) return ngx.timer.every(...) and name end,
}
-- Shared dictionaries.
local dict = {}
local function made(name) return setmetatable({ name = name }, { __index = dict }) end
local function set(self, key, value, ttl, flags, mode)
  if key == nil then return nil, "nil key" end
  if key == "" then return nil, "empty key" end
  if ttl ~= nil and ttl < 0 then error('bad "exptime" argument', 3) end
  local problem, forced = native.shared_set(self.name, tostring(key), value, ttl, flags, mode)
  if problem then return false, problem, false end
  return true, nil, forced
end
local function mode(name) return function(self, key, value, ttl, flags) return set(self, key, value, ttl, flags, name) end end
dict.set, dict.add, dict.replace = mode("set"), mode("add"), mode("replace")
dict.safe_set, dict.safe_add = mode("safe_set"), mode("safe_add")
function dict:get(key)
  if key == nil then return nil, "nil key" end
  if key == "" then return nil, "empty key" end
  local value, flags = native.shared_get(self.name, tostring(key))
  return value, flags
end
function dict:get_stale(key) return native.shared_get(self.name, tostring(key), true) end
function dict:delete(key) return set(self, key, nil, nil, nil, "set") end
function dict:incr(key, by, start, ttl)
  if type(by) ~= "number" then error("cannot convert 'nil' to 'double'", 2) end
  return native.shared_increase(self.name, tostring(key), by, start, ttl)
end
function dict:expire(key, ttl) if native.shared_expire(self.name, tostring(key), ttl) then return true end return nil, "not found" end
function dict:ttl(key) local ttl = native.shared_ttl(self.name, tostring(key)) if ttl then return ttl end return nil, "not found" end
function dict:get_keys(max) return native.shared_keys(self.name, max or 1024) end
function dict:flush_all() native.shared_clear(self.name) end
function dict:flush_expired(max) return native.shared_sweep(self.name, max) end
function dict:capacity() return (native.shared_room(self.name)) end
function dict:free_space() return (select(2, native.shared_room(self.name))) end
function dict:lpush(key, value) return native.shared_push(self.name, tostring(key), tostring(value), true) end
function dict:rpush(key, value) return native.shared_push(self.name, tostring(key), tostring(value), false) end
function dict:lpop(key) return native.shared_pop(self.name, tostring(key), true) end
function dict:rpop(key) return native.shared_pop(self.name, tostring(key), false) end
function dict:llen(key) return native.shared_length(self.name, tostring(key)) end
ngx.shared = setmetatable({}, { __index = function(self, name)
  local one = made(name)
  rawset(self, name, one)
  return one
end })

-- kong.cache: values by key in this thread; `invalidate` reaches the others through their time to live.
local function cache()
  local entries, size = {}, 0
  local methods = {}
  local function live(key)
    local entry = entries[key]
    if entry and (not entry.expires or entry.expires > ngx.now()) then return entry end
  end
  local function want_ttl(options, name)
    local ttl = options[name]
    if ttl == nil then return end
    if type(ttl) ~= "number" then error("opts." .. name .. " must be a number", 4) end
    if ttl < 0 then error("opts." .. name .. " must be >= 0", 4) end
  end
  local function want(key, options, callback)
    if type(key) ~= "string" then error("key must be a string", 3) end
    if options ~= nil and type(options) ~= "table" then error("opts must be a table", 3) end
    if callback ~= nil and type(callback) ~= "function" then error("callback must be nil or a function", 3) end
    if options then
      want_ttl(options, "ttl")
      want_ttl(options, "neg_ttl")
    end
  end
  function methods:get(key, options, callback, ...)
    want(key, options, callback)
    local entry = live(key)
    if entry then return entry.value, nil, 1 end
    if not callback then return nil end
    local ran, value, problem, ttl = pcall(callback, ...)
    if not ran then return nil, "callback threw an error: " .. tostring(value) end
    if problem then return nil, tostring(problem) end
    if type(value) == "function" or type(value) == "thread" then error("cannot cache value of type " .. type(value), 2) end
    options = options or {}
    local lasting = ttl or (value == nil and options.neg_ttl or options.ttl) or 0
    if not entries[key] then
      if size >= 10000 then entries, size = {}, 0 end
      size = size + 1
    end
    entries[key] = { value = value, expires = lasting > 0 and ngx.now() + lasting or nil }
    return value, nil, 3
  end
  function methods:probe(key)
    local entry = live(key)
    if not entry then return nil end
    return entry.expires and entry.expires - ngx.now() or 0, nil, entry.value
  end
  function methods:invalidate(key)
    if entries[key] then size = size - 1 end
    entries[key] = nil
  end
  methods.invalidate_local = methods.invalidate
  function methods:renew(key, options, callback, ...)
    self:invalidate(key)
    return self:get(key, options, callback, ...)
  end
  function methods:safe_set(key, value) entries[key] = { value = value } return true end
  function methods:purge() entries, size = {}, 0 end
  function methods:cache_key(...) return table.concat({ ... }, ":") end
  return methods
end
kong.cache, kong.core_cache = cache(), cache()

-- kong.db
local function waited(f, ...)
  f(...)
  return native.wait()
end
local dao = {}
local function key_of(...) return ... end
function dao:select(key) return waited(native.row, self.name, nil, key) end
function dao:insert(fields) return waited(native.row_write, self.name, "insert", nil, nil, fields) end
function dao:update(key, fields) return waited(native.row_write, self.name, "update", nil, key, fields) end
function dao:upsert(key, fields) return waited(native.row_write, self.name, "upsert", nil, key, fields) end
function dao:delete(key)
  local _, problem = waited(native.row_write, self.name, "delete", nil, key)
  if problem then return nil, problem end
  return true
end
function dao:page(size, offset) return waited(native.row_page, self.name, size or 100, offset) end
function dao:each(size)
  local list, at, offset, over = nil, 0, nil, false
  return function()
    while true do
      if list and at < #list then
        at = at + 1
        return list[at]
      end
      if over then return nil end
      local problem, _
      list, problem, _, offset = self:page(size, offset)
      if not list then return nil, problem end
      at, over = 0, offset == nil
    end
  end
end
function dao:cache_key(...)
  local parts = { self.name }
  for at = 1, 5 do
    local part = (select(at, ...))
    parts[#parts + 1] = type(part) == "table" and part.id or (part == nil and "" or tostring(part))
  end
  return table.concat(parts, ":")
end
local function made_dao(name)
  return setmetatable({ name = name }, { __index = function(self, method)
    local known = dao[method]
    if known then return known end
    local verb, field = method:match("^(%a+)_by_(.+)$")
    if verb == "select" then return function(_, value) return waited(native.row, self.name, field, value) end end
    if verb == "update" or verb == "upsert" then
      return function(_, value, fields) return waited(native.row_write, self.name, verb, field, value, fields) end
    end
    if verb == "delete" then return function(_, value)
      local _, problem = waited(native.row_write, self.name, "delete", field, value)
      if problem then return nil, problem end
      return true
    end end
    field = method:match("^page_for_(.+)$")
    if field then return function(_, parent, size, offset)
      return waited(native.row_page, self.name, size or 100, offset, { field = field, id = parent.id })
    end end
    field = method:match("^each_for_(.+)$")
    if field then return function(_, parent, size)
      local list, at, offset, over = nil, 0, nil, false
      return function()
        while true do
          if list and at < #list then at = at + 1 return list[at] end
          if over then return nil end
          local problem, _
          list, problem, _, offset = waited(native.row_page, self.name, size or 100, offset, { field = field, id = parent.id })
          if not list then return nil, problem end
          at, over = 0, offset == nil
        end
      end
    end end
  end })
end
kong.db = setmetatable({ strategy = "postgres" }, { __index = function(self, name)
  if type(name) ~= "string" or not native.has_entity(name) then return nil end
  local one = made_dao(name)
  rawset(self, name, one)
  return one
end })
kong.db.daos = kong.db
kong.worker_events = { register = function() end, post = function() return true end, poll = function() return "done" end }
kong.cluster_events = { subscribe = function() return true end, broadcast = function() return true end }

-- kong.vault: references to environment variables.
kong.vault = {
  is_reference = function(text) return type(text) == "string" and text:match("^{vault://.+}$") ~= nil end,
  parse_reference = function(text)
    if not kong.vault.is_reference(text) then return nil, "not a reference [" .. tostring(text) .. "]" end
    local inner, version = text:match("^{vault://(.+)}$"), nil
    inner = inner:gsub("#.*$", function(given)
      version = tonumber(given:sub(2))
      return ""
    end)
    local name, rest = inner:match("^([^/?]+)(.*)$")
    if not name then return nil, "reference url is missing host [" .. text .. "]" end
    local path, query = rest:match("^([^?]*)%??(.*)$")
    if path == "" then return nil, "reference url is missing path [" .. text .. "]" end
    path = path:sub(2)
    if path == "" then return nil, "reference url has empty path [" .. text .. "]" end
    local resource, key = path:match("^(.+)/([^/]*)$")
    if not resource then resource, key = path, nil end
    local config = query ~= "" and native.decode_args(query, 100) or nil
    return { name = name, resource = resource, key = key ~= "" and key or nil, config = config, version = version }
  end,
  get = function(text)
    local parsed, problem = kong.vault.parse_reference(text)
    if not parsed then return nil, problem end
    if parsed.name ~= "env" then return nil, "could not find vault (" .. parsed.name .. ")" end
    local value = os.getenv((parsed.resource:upper():gsub("-", "_")))
    if not value then return nil, "could not get value from external vault (no value found)" end
    if parsed.key then
      local fields = native.cjson_safe.decode(value)
      value = type(fields) == "table" and fields[parsed.key] or nil
    end
    return value
  end,
  try = function(callback, options) return callback(options) end,
  update = function(config) return config end,
  flush = function() end,
  init_worker = function() end,
  warmup = function() end,
}

-- What schemas are written with.
package.preload["kong.db.schema.typedefs"] = function()
  local types = {
    uuid = "string", auto_timestamp_s = "integer", auto_timestamp_ms = "number", port = "integer", timeout = "integer", ttl = "number",
    name = "string", utf8_name = "string", tag = "string", tags = "set", host = "string", host_with_optional_port = "string",
    sni = "string", wildcard_host = "string", path = "string", http_method = "string", header_name = "string", url = "string",
    ip = "string", ip_or_cidr = "string", cookie_name = "string", protocols = "set", protocols_http = "set",
    no_consumer = "foreign", no_route = "foreign", no_service = "foreign",
  }
  local callable = {}
  callable.__call = function(self, extra)
    local out = {}
    for key, value in pairs(self) do out[key] = value end
    for key, value in pairs(extra or {}) do out[key] = value end
    return setmetatable(out, callable)
  end
  local typedefs = {}
  for name, kind in pairs(types) do typedefs[name] = setmetatable({ type = kind, __typedef = name }, callable) end
  local function plain(definition) return setmetatable(definition, callable) end
  typedefs.lua_code = plain({ type = "map", keys = { type = "string", len_min = 1 }, values = { type = "string", len_min = 1 } })
  typedefs.headers = plain({ type = "map", keys = typedefs.header_name, values = { type = "array", elements = { type = "string" } } })
  typedefs.methods = plain({ type = "set", elements = typedefs.http_method })
  typedefs.hosts = plain({ type = "array", elements = typedefs.wildcard_host })
  typedefs.paths = plain({ type = "array", elements = typedefs.path })
  typedefs.certificate = plain({ type = "string" })
  typedefs.key = plain({ type = "string" })
  typedefs.semantic_version = plain({ type = "string", match = "^%d+%.%d+%.%d+.*$" })
  typedefs.redis_auth = plain({ type = "string" })
  return typedefs
end
package.preload["kong.db.schema"] = function()
  return { define = function(definition)
    return setmetatable(definition, { __call = function(self, extra)
      local out = {}
      for key, value in pairs(self) do out[key] = value end
      for key, value in pairs(extra or {}) do out[key] = value end
      return out
    end })
  end }
end
package.preload["kong.plugins.base_plugin"] = function()
  local base = {}
  base.__index = base
  function base:extend()
    local class = setmetatable({}, { __index = self })
    class.__index, class.super = class, self
    return class
  end
  function base.new() end
  for _, phase in ipairs({ "init_worker", "certificate", "rewrite", "access", "header_filter", "body_filter", "log" }) do
    base[phase] = function() end
  end
  return base
end
