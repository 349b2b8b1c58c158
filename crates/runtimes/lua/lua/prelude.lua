-- What runs code: coroutines that may wait inside coroutines, environments, the driver.
local native = ...
local DONE, EXIT, WAIT = native.DONE, native.EXIT, native.WAIT
local type, setmetatable, pairs, ipairs, error, select, unpack = type, setmetatable, pairs, ipairs, error, select, unpack
local raw_create, raw_resume, raw_yield, raw_status = coroutine.create, coroutine.resume, coroutine.yield, coroutine.status
local raw_pcall, raw_xpcall = pcall, xpcall

-- A coroutine that waits, or ends the request, makes those around it do so.
local function passed_on(co, ok, mark, ...)
  if ok and (mark == WAIT or mark == EXIT) then
    return passed_on(co, raw_resume(co, raw_yield(mark)))
  end
  return ok, mark, ...
end
function coroutine.resume(co, ...) return passed_on(co, raw_resume(co, ...)) end
function coroutine.wrap(f)
  local co = raw_create(f)
  local function checked(ok, ...)
    if ok then return ... end
    error((...), 0)
  end
  return function(...) return checked(passed_on(co, raw_resume(co, ...))) end
end

-- Running out of time is not for code to catch.
local null = native.null
local function failed(problem)
  if native.expired() then error(problem, 0) end
  -- What native code complains of is text to Lua code, as in Kong.
  if type(problem) == "userdata" and problem ~= null then
    problem = tostring(problem):gsub("\nstack traceback:.*$", ""):gsub("^runtime error: ", "")
  end
  return false, problem
end
local function caught(ok, ...)
  if ok then return ok, ... end
  return failed(...)
end
function pcall(...) return caught(raw_pcall(...)) end
function xpcall(...)
  local function kept(ok, ...)
    if not ok and native.expired() then error((...), 0) end
    return ok, ...
  end
  return kept(raw_xpcall(...))
end

debug = { traceback = function(message) return message end }

-- Runs one function after the other in one coroutine. What it is given begins with the phase.
local at = native.at
function native.driver(phase, f, one, two, three)
  while true do
    at[1] = phase
    f(one, two, three)
    phase, f, one, two, three = raw_yield(DONE)
  end
end

-- Light threads: each runs at once until it first waits, and goes on beside its starter from then on.
local function light_body(own, f, ...)
  local function keep(...) own.results, own.count = { ... }, select("#", ...) end
  keep(raw_pcall(f, ...))
  if native.expired() then error(own.results[2], 0) end
  raw_yield(DONE)
end
ngx.thread = {
  spawn = function(f, ...)
    if type(f) ~= "function" then error("bad argument #1 to 'spawn' (function expected, got " .. type(f) .. ")", 2) end
    local id = native.light()
    if not id then error("too many light threads", 2) end
    local own = { id = id }
    local co = raw_create(light_body)
    local ok, mark = raw_resume(co, own, f, ...)
    if not ok then error(mark, 0) end
    if mark == WAIT then native.park(co, id) elseif mark == EXIT then raw_yield(EXIT) end
    return own
  end,
  wait = function(...)
    local threads = { ... }
    while true do
      local ids = {}
      for place, own in ipairs(threads) do
        if own.waited then return nil, "already waited or killed" end
        if own.results then
          own.waited = true
          return unpack(own.results, 1, own.count)
        end
        ids[place] = own.id
      end
      native.join(ids)
      native.wait()
    end
  end,
  kill = function(own)
    if own.results or own.waited then return nil, "already terminated" end
    own.waited = true
    native.kill(own.id)
    return true
  end,
}

-- A function that calls another with these.
function native.bind(f, one, two)
  return function() return f(one, two) end
end

-- One function of several; each may give another in its place when it first runs.
function native.combine(chunks)
  local ready = {}
  return function()
    for at = 1, #chunks do
      local known = ready[at]
      if known then
        known()
      else
        local given = chunks[at]()
        if type(given) == "function" then
          ready[at] = given
          given()
        else
          ready[at] = chunks[at]
        end
      end
    end
  end
end

-- A table as it looks to code that may not change it.
local function protected(original, seen)
  seen = seen or {}
  if seen[original] then return seen[original] end
  local inner = setmetatable({}, { __index = original })
  local proxy
  local meta = { __metatable = false, __index = inner }
  function meta.__newindex(_, key) error("attempt to modify read-only table (" .. tostring(key) .. ")", 2) end
  local own = getmetatable(original)
  if type(own) == "table" and own.__call then
    function meta.__call(_, ...) return original(...) end
  end
  proxy = setmetatable({}, meta)
  seen[original] = proxy
  for key, value in pairs(original) do
    if type(value) == "table" then rawset(inner, key, protected(value, seen)) end
  end
  return proxy
end

local function subset(original, names)
  local out = {}
  for name in names:gmatch("%S+") do out[name] = original[name] end
  return out
end

local function at_path(path)
  local value = _G
  for name in path:gmatch("[^.]+") do
    if type(value) ~= "table" then return nil end
    value = value[name]
  end
  return value
end

local allowed_modules = {}
for _, name in ipairs(native.sandbox_requires) do allowed_modules[name] = true end
local full_require = require
local function sandboxed_require(name)
  if not allowed_modules[name] then error("require '" .. tostring(name) .. "' not allowed within sandbox", 2) end
  return full_require(name)
end

local function sandbox_globals()
  local globals = subset(_G, "_VERSION assert error ipairs next pairs pcall select tonumber tostring type unpack xpcall")
  globals.coroutine = protected(subset(coroutine, "create resume running status wrap yield"))
  globals.math = protected(subset(math, "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max "
    .. "min modf pi pow rad random sin sinh sqrt tan tanh"))
  globals.os = protected(subset(os, "clock date difftime time"))
  globals.string = protected(subset(string, "byte char find format gmatch gsub len lower match rep reverse sub upper"))
  globals.table = protected(subset(table, "concat insert maxn remove sort"))
  globals.require = sandboxed_require
  local ngx_names, ngx_seen = {}, {}
  for name, value in pairs(ngx) do
    ngx_names[name] = value
  end
  for _, name in ipairs({ "header", "arg", "var", "shared" }) do ngx_seen[ngx[name]] = ngx[name] end
  local ngx_own = setmetatable(ngx_names, { __index = function(_, name)
    if name == "status" or name == "ctx" or name == "headers_sent" then return ngx[name] end
  end })
  local ngx_proxy = protected(ngx_own, ngx_seen)
  local ngx_meta = { __metatable = false, __index = ngx_proxy, __newindex = function(_, key, value)
    if key ~= "status" and key ~= "ctx" then error("attempt to modify read-only table (" .. tostring(key) .. ")", 2) end
    ngx[key] = value
  end }
  globals.ngx = setmetatable({}, ngx_meta)
  local kong_seen = { [kong.ctx.shared] = kong.ctx.shared, [kong.ctx.plugin] = kong.ctx.plugin }
  globals.kong = protected(kong, kong_seen)
  for _, path in ipairs(native.sandbox_environment) do
    local first, rest = path:match("^([^.]+)%.?(.*)$")
    if rest == "" then globals[first] = _G[first] end
  end
  return globals
end

local globals
function native.environment(extra)
  if not native.sandboxed then
    return setmetatable(extra or {}, { __index = _G })
  end
  globals = globals or sandbox_globals()
  local own = extra or {}
  own._G = own
  return setmetatable(own, { __index = globals, __metatable = false })
end

-- What templates see, made anew for each expression that runs.
local lookups = {
  headers = function() return native.case_blind((native.request_headers())) end,
  query_params = function()
    return (native.decode_args(native.var("args") or "", 100))
  end,
  uri_captures = function()
    local captures = native.captures() or { named = {}, unnamed = {} }
    return setmetatable({}, { __index = function(_, name) return captures.unnamed[name] or captures.named[name] end })
  end,
  shared = function()
    return setmetatable({}, {
      __index = function(_, key) return kong.ctx.shared[key] end,
      __newindex = function() error("This environment is read-only.", 2) end,
    })
  end,
}
function native.template_environment()
  local base = native.environment()
  return setmetatable({}, {
    __metatable = false,
    __index = function(_, name)
      local lookup = lookups[name]
      if lookup then return lookup() end
      return base[name]
    end,
    __newindex = function() error("This environment is read-only.", 2) end,
  })
end
