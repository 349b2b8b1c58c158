-- kong.ctx, kong.log, kong.tracing: what code keeps beside a request and says about it.
local native = ...
local kong = kong
local type, tostring, error, pairs, ipairs = type, tostring, error, pairs, ipairs

-- kong.ctx
local contexts = native.contexts
local init_shared, init_plugin = {}, {}
local function in_request() return native.phase() ~= "init" end
local function plugin_context()
  if not in_request() then return init_plugin end
  local all, owner = contexts().plugin, native.owner()
  local own = all[owner]
  if not own then
    own = {}
    all[owner] = own
  end
  return own
end
local function forward(of)
  return setmetatable({}, {
    __index = function(_, key) return of()[key] end,
    __newindex = function(_, key, value) of()[key] = value end,
  })
end
kong.ctx = {
  shared = forward(function() return in_request() and contexts().shared or init_shared end),
  plugin = forward(plugin_context),
}

-- kong.log
local levels = { emerg = 1, alert = 2, crit = 3, err = 4, warn = 5, notice = 6, info = 7, debug = 8 }
local function joined(...)
  local out = {}
  for at = 1, select("#", ...) do
    local value = (select(at, ...))
    out[at] = native.text_of(value) or tostring(value)
  end
  return table.concat(out)
end
local log = {}
local function write(level, ...)
  if not native.log_is_on(level) then return end
  local owner = native.phase() ~= "init" and native.owner():match("^[^:]*") or ""
  local prefix = owner ~= "" and "[kong] [" .. owner .. "] " or "[kong] "
  -- Whoever called the function that called this one.
  native.log(level, prefix, joined(...), 3)
end
for name, level in pairs(levels) do
  log[name] = function(...) write(level, ...) end
end
local function inspected(value, depth)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  if depth > 8 then return "{...}" end
  local out, counted = {}, #value
  for at = 1, counted do out[at] = inspected(value[at], depth + 1) end
  local names = {}
  for key in pairs(value) do
    if not (type(key) == "number" and key >= 1 and key <= counted and key == math.floor(key)) then names[#names + 1] = key end
  end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(names) do
    local name = type(key) == "string" and key:match("^[%a_][%w_]*$") and key or "[" .. inspected(key, depth + 1) .. "]"
    out[#out + 1] = name .. " = " .. inspected(value[key], depth + 1)
  end
  return "{ " .. table.concat(out, ", ") .. " }"
end
native.inspected = function(value) return inspected(value, 0) end
log.inspect = setmetatable({ on = function() end, off = function() end }, { __call = function(_, ...)
  local out = {}
  for at = 1, select("#", ...) do out[at] = inspected((select(at, ...)), 0) end
  write(levels.debug, table.concat(out, " "))
end })
log.deprecation = setmetatable({ write = function(...) write(levels.warn, ...) end }, { __call = function(_, ...) write(levels.warn, ...) end })
function log.serialize() return native.serialize() end
function log.set_serialize_value(key, value, options)
  if type(key) ~= "string" then error("key must be a string", 2) end
  local kind = type(value)
  if kind == "thread" then value = nil end
  local mode = options and options.mode or "set"
  if mode ~= "set" and mode ~= "add" and mode ~= "replace" then error("mode must be 'set', 'add' or 'replace'", 2) end
  native.set_log_field(key, value, mode)
end
function log.new(namespace)
  if type(namespace) ~= "string" then error("namespace must be a string", 2) end
  return log
end
function log.set_format() end
function log.reset_format() end
kong.log = setmetatable(log, { __call = function(_, ...) write(levels.notice, ...) end })

-- kong.tracing: spans are made, and go nowhere of their own.
local span = {}
span.__index = span
function span:set_attribute(key, value) self.attributes[key] = value end
function span:add_event(name, attributes) self.events[#self.events + 1] = { name = name, attributes = attributes } end
function span:record_error(message) self:add_event("exception", { ["exception.message"] = message }) end
function span:set_status(status) self.status = status end
function span:finish() self.end_time_ns = native.now() * 1e9 end
function span:each_baggage_item() return pairs({}) end
local function new_span(name)
  return setmetatable({ name = name, attributes = {}, events = {}, start_time_ns = native.now() * 1e9 }, span)
end
kong.tracing = {
  start_span = function(name) return new_span(name) end,
  active_span = function() return nil end,
  set_active_span = function() end,
  process_span = function() end,
  new = function() return kong.tracing end,
}

-- kong.telemetry
local function telemetry_log(plugin_name, plugin_config, message_type, message, attributes)
  if type(plugin_name) ~= "string" then return nil, "plugin_name must be a string" end
  if type(plugin_config) ~= "table" then return nil, "plugin_config must be a table" end
  if type(message_type) ~= "string" then return nil, "message_type must be a string" end
  if message and type(message) ~= "string" then return nil, "message must be a string" end
  if attributes and type(attributes) ~= "table" then return nil, "attributes must be a table" end
  attributes = attributes or {}
  attributes["message.type"] = message_type
  attributes["plugin.name"] = plugin_name
  attributes["plugin.id"] = plugin_config.__plugin_id
  attributes["plugin.instance.name"] = plugin_config.plugin_instance_name
  if native.telemetry(message or nil, attributes, 2) then return true end
  return nil, "Telemetry logging is disabled: log entry will not be recorded. "
    .. "Ensure the OpenTelemetry plugin is correctly configured to report logs in order to use this feature."
end
kong.telemetry = { log = telemetry_log }
