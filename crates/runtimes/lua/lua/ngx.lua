-- ngx: the part of OpenResty's API that plugins use.
local native = ...

-- What is yielded to whoever runs the code comes back with the phase first: other code may have run meanwhile.
local at = native.at
do
  local raw_yield, WAIT = coroutine.yield, native.WAIT
  local function resumed(phase, ...)
    at[1] = phase
    return ...
  end
  function native.wait() return resumed(raw_yield(WAIT)) end
end
local yield = coroutine.yield
local EXIT = native.EXIT
local type, tostring, floor = type, tostring, math.floor

local ngx = {
  null = native.null,
  OK = 0, ERROR = -1, AGAIN = -2, DONE = -4, DECLINED = -5,
  HTTP_CONTINUE = 100, HTTP_SWITCHING_PROTOCOLS = 101, HTTP_OK = 200, HTTP_CREATED = 201, HTTP_ACCEPTED = 202,
  HTTP_NO_CONTENT = 204, HTTP_PARTIAL_CONTENT = 206, HTTP_SPECIAL_RESPONSE = 300, HTTP_MOVED_PERMANENTLY = 301,
  HTTP_MOVED_TEMPORARILY = 302, HTTP_SEE_OTHER = 303, HTTP_NOT_MODIFIED = 304, HTTP_TEMPORARY_REDIRECT = 307,
  HTTP_PERMANENT_REDIRECT = 308, HTTP_BAD_REQUEST = 400, HTTP_UNAUTHORIZED = 401, HTTP_PAYMENT_REQUIRED = 402,
  HTTP_FORBIDDEN = 403, HTTP_NOT_FOUND = 404, HTTP_NOT_ALLOWED = 405, HTTP_NOT_ACCEPTABLE = 406, HTTP_REQUEST_TIMEOUT = 408,
  HTTP_CONFLICT = 409, HTTP_GONE = 410, HTTP_UPGRADE_REQUIRED = 426, HTTP_TOO_MANY_REQUESTS = 429, HTTP_CLOSE = 444,
  HTTP_ILLEGAL = 451, HTTP_INTERNAL_SERVER_ERROR = 500, HTTP_METHOD_NOT_IMPLEMENTED = 501, HTTP_NOT_IMPLEMENTED = 501,
  HTTP_BAD_GATEWAY = 502, HTTP_SERVICE_UNAVAILABLE = 503, HTTP_GATEWAY_TIMEOUT = 504,
  HTTP_VERSION_NOT_SUPPORTED = 505, HTTP_INSUFFICIENT_STORAGE = 507,
  STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7, DEBUG = 8,
  config = { subsystem = "http", ngx_lua_version = 10026, nginx_version = 1025003, nginx_configure = function() return "" end,
    debug = false, prefix = function() return "" end, is_console = 0 },
}
for number, name in ipairs({ "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE", "PROPFIND", "PROPPATCH",
  "LOCK", "UNLOCK", "PATCH", "TRACE" }) do
  ngx["HTTP_" .. name] = 2 ^ number
end

local function text_of(value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return native.tostring(value) end
  if kind == "nil" then return "nil" end
  if kind == "boolean" then return tostring(value) end
  if value == native.null then return "null" end
  return nil
end

-- Answers.
local function flat(value, out)
  if type(value) == "table" then
    for _, element in ipairs(value) do flat(element, out) end
  else
    out[#out + 1] = text_of(value) or error("bad argument to 'print' (string, number, boolean, nil, ngx.null or array table expected)", 3)
  end
end
function ngx.print(...)
  local out = {}
  for at = 1, select("#", ...) do flat((select(at, ...)), out) end
  native.said(table.concat(out))
  return true
end
function ngx.say(...)
  ngx.print(...)
  native.said("\n")
  return true
end
function ngx.flush() return true end
function ngx.eof() yield(EXIT) end
function ngx.send_headers() return true end
function ngx.exit(status)
  status = tonumber(status) or 0
  local phase = native.phase()
  if phase == "header_filter" then
    if status >= 100 then native.set_status(status) end
    return yield(EXIT)
  end
  if phase == "rewrite" or phase == "access" then
    if native.has_said() then
      if not native.status() and status >= 100 then native.set_status(status) end
    elseif status >= 100 then
      native.answer(native.status() or status, nil, nil)
    end
  end
  return yield(EXIT)
end
function ngx.redirect(uri, status)
  native.answer(status or 302, nil, { Location = uri })
  return yield(EXIT)
end
function ngx.exec() error("ngx.exec is not available", 2) end

-- Variables, headers, contexts.
ngx.var = setmetatable({}, {
  __index = function(_, name)
    if type(name) ~= "string" then
      if type(name) == "number" then return nil end
      error("bad variable name", 2)
    end
    return native.var(name)
  end,
  __newindex = function(_, name, value) native.set_var(name, value == nil and "" or tostring(value)) end,
})
ngx.header = setmetatable({}, {
  __index = function(_, name) return native.response_header_values((tostring(name):gsub("_", "-"))) end,
  __newindex = function(_, name, value)
    name = tostring(name):gsub("_", "-")
    if value == nil or (type(value) == "table" and #value == 0) then native.clear_response_header(name)
    else native.set_response_header(name, value) end
  end,
})
ngx.arg = setmetatable({}, {
  __index = function(_, place)
    local chunk, last = native.chunk()
    if place == 1 then return chunk end
    if place == 2 then return last end
  end,
  __newindex = function(_, place, value)
    if place == 1 then native.set_chunk(value) end
  end,
})
local process_ctx = {}
setmetatable(ngx, {
  __index = function(_, name)
    if name == "status" then return native.status() or 0 end
    if name == "ctx" then
      if native.phase() == "init" then return process_ctx end
      return native.contexts().ngx
    end
    if name == "headers_sent" then
      local phase = native.phase()
      return phase == "body_filter" or phase == "log"
    end
  end,
  __newindex = function(self, name, value)
    if name == "status" then native.set_status(tonumber(value))
    elseif name == "ctx" then native.contexts().ngx = value
    else rawset(self, name, value) end
  end,
})

-- Requests.
local function case_blind(headers)
  return setmetatable(headers, { __index = function(self, name)
    if type(name) ~= "string" then return nil end
    return rawget(self, (name:lower():gsub("_", "-")))
  end })
end
native.case_blind = case_blind
local req = {}
ngx.req = req
function req.get_method() return native.var("request_method") end
function req.set_method(method)
  if type(method) ~= "number" then error("bad method number", 2) end
  for name, number in pairs(ngx) do
    if number == method and type(name) == "string" and name:match("^HTTP_%u+$") then return native.set_method(name:sub(6)) end
  end
  error("unsupported HTTP method: " .. method, 2)
end
function req.http_version() return tonumber(native.var("http_version")) end
function req.raw_header(no_request_line)
  local out = {}
  if not no_request_line then out[1] = native.var("request") .. "\r\n" end
  out[#out + 1] = native.raw_header()
  out[#out + 1] = "\r\n"
  return table.concat(out)
end
function req.get_headers(max, raw)
  local headers, problem = native.request_headers(max, raw)
  return raw and headers or case_blind(headers), problem
end
function req.set_header(name, value)
  if value == nil then return native.clear_request_header(name) end
  native.set_request_header(name, value)
end
function req.clear_header(name) native.clear_request_header(name) end
function req.get_uri_args(max) return native.decode_args(native.var("args") or "", max) end
function req.set_uri_args(args)
  native.set_query(type(args) == "table" and native.encode_args(args) or tostring(args))
end
function req.set_uri() end
function req.read_body() end
function req.discard_body() end
function req.get_body_data(max)
  local body = native.raw_body()
  if body == "" then return nil end
  return body and max and body:sub(1, max) or body
end
function req.get_body_file() return nil end
function req.get_post_args(max) return native.decode_args(native.raw_body() or "", max) end
function req.set_body_data(body) native.set_body(body) end
function req.start_time() return native.started_at() / 1000 end
function req.is_internal() return false end
function req.get_cookies() return native.var("http_cookie") end
ngx.resp = {
  get_headers = function(max, raw)
    local headers, problem = native.response_headers(max, raw)
    return raw and headers or case_blind(headers), problem
  end,
}
function ngx.get_phase() return native.phase() end
function ngx.is_subrequest() return false end
ngx.is_subrequest = false

-- Encodings.
function ngx.encode_base64(text, unpadded) return native.encode_base64(text == nil and "" or tostring(text), unpadded) end
function ngx.decode_base64(text)
  if type(text) ~= "string" then error("string argument only", 2) end
  return native.decode_base64(text)
end
ngx.encode_args, ngx.decode_args = native.encode_args, native.decode_args
function ngx.escape_uri(text, kind)
  if kind ~= nil then
    if type(kind) ~= "number" then error('"type" is not a number', 2) end
    if kind < 0 or kind > 6 then error(('"type" %d out of range'):format(kind), 2) end
  end
  return native.escape(text == nil and "" or tostring(text), kind)
end
function ngx.unescape_uri(text) return native.unescape(text == nil and "" or tostring(text)) end
local function bytes_of(value) return value == nil and "" or tostring(value) end
function ngx.md5_bin(text) return native.md5(bytes_of(text)) end
function ngx.sha1_bin(text) return native.sha1(bytes_of(text)) end
function ngx.md5(text) return native.hex(native.md5(bytes_of(text))) end
function ngx.hmac_sha1(key, text) return native.hmac("sha1", key, text) end
ngx.crc32_short, ngx.crc32_long = native.crc32, native.crc32
local quoted = { ["\0"] = "\\0", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\26"] = "\\Z", ["\\"] = "\\\\",
  ["'"] = "\\'", ['"'] = '\\"' }
function ngx.quote_sql_str(text)
  if type(text) ~= "string" and type(text) ~= "number" then
    error("bad argument #1 to 'quote_sql_str' (string expected, got " .. type(text) .. ")", 2)
  end
  return "'" .. tostring(text):gsub("[%z\n\r\t\b\26\\'\"]", quoted) .. "'"
end

-- Time.
ngx.now = native.now
function ngx.time() return floor(native.now()) end
function ngx.update_time() end
local function want_number(value) if type(value) ~= "number" then error("number argument only", 3) end end
function ngx.http_time(seconds)
  want_number(seconds)
  return native.http_time(seconds)
end
function ngx.parse_http_time(text)
  if type(text) ~= "string" then error("string argument only", 2) end
  return native.parse_http_time(text)
end
function ngx.cookie_time(seconds)
  want_number(seconds)
  return (native.http_time(seconds):gsub("(%d%d) (%a%a%a) (%d%d)(%d%d)", "%1-%2-%4"))
end
function ngx.utctime()
  return ("%04d-%02d-%02d %02d:%02d:%02d"):format(native.civil(native.now()))
end
ngx.localtime = ngx.utctime
function ngx.today() return ngx.utctime():sub(1, 10) end
function ngx.sleep(seconds)
  local length = tonumber(seconds)
  if not length then error("bad argument #1 to 'sleep' (number expected, got " .. type(seconds) .. ")", 2) end
  if length < 0 then error(('invalid sleep duration "%d"'):format(length * 1000), 2) end
  native.sleep(seconds)
  return native.wait()
end

function ngx.log(level, ...)
  local out = {}
  for at = 1, select("#", ...) do out[at] = text_of((select(at, ...))) or tostring((select(at, ...))) end
  native.log(level, "[lua] ", table.concat(out), 2)
end

-- Expressions.
local re = {}
ngx.re = re
local function flags(options) return options or "" end
function re.match(subject, pattern, options, context, result)
  subject = tostring(subject)
  local start = context and context.pos and context.pos - 1 or 0
  local captures, from, to = native.regex_find(subject, pattern, flags(options), start)
  if not captures then return nil, from end
  if context then context.pos = to + 1 end
  if result then
    for key, value in pairs(captures) do result[key] = value end
    return result
  end
  return captures
end
function re.find(subject, pattern, options, context, nth)
  local start = context and context.pos and context.pos - 1 or 0
  local captures, from, to, places = native.regex_find(tostring(subject), pattern, flags(options), start)
  if not captures then return nil, nil, from end
  if context then context.pos = to + 1 end
  if nth and nth > 0 then return places[nth * 2], places[nth * 2 + 1] end
  return from, to
end
function re.gmatch(subject, pattern, options)
  subject = tostring(subject)
  local at = 0
  return function()
    if at > #subject then return nil end
    local captures, from, to = native.regex_find(subject, pattern, flags(options), at)
    if not captures then
      at = #subject + 1
      return nil, from
    end
    at = to >= from and to or to + 1
    return captures
  end
end
local function filled(template, captures)
  return (template:gsub("%$(%$?)({?)([%w]*)(}?)", function(dollar, open, name, close)
    if dollar ~= "" then return "$" .. open .. name .. close end
    local digits = open == "" and name:match("^%d+") or name
    local value = captures[tonumber(digits) or digits]
    local rest = open == "" and name:sub(#digits + 1) .. close or ""
    return (value or "") .. rest
  end))
end
local function replace(subject, pattern, replacement, options, all)
  subject = tostring(subject)
  local out, at, count = {}, 0, 0
  while at <= #subject do
    local captures, from, to = native.regex_find(subject, pattern, flags(options), at)
    if not captures then
      if from then return nil, nil, from end
      break
    end
    count = count + 1
    out[#out + 1] = subject:sub(at + 1, from - 1)
    out[#out + 1] = type(replacement) == "function" and tostring(replacement(captures)) or filled(tostring(replacement), captures)
    if to < from then
      out[#out + 1] = subject:sub(from, from)
      at = from
    else
      at = to
    end
    if not all then break end
  end
  out[#out + 1] = subject:sub(at + 1)
  return table.concat(out), count
end
function re.sub(subject, pattern, replacement, options) return replace(subject, pattern, replacement, options, false) end
function re.gsub(subject, pattern, replacement, options) return replace(subject, pattern, replacement, options, true) end

ngx.worker = {
  id = function() return 0 end, count = function() return 1 end, exiting = function() return false end,
  pid = function() return tonumber(native.var("pid")) end, pids = function() return { tonumber(native.var("pid")) } end,
}

native.text_of = text_of
_G.ngx = ngx
