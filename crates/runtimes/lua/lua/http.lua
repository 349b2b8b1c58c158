-- ngx.socket.tcp and resty.http over it.
local native = ...
local ngx = ngx

local socket = {}
socket.__index = socket
local function waited(f, ...)
  f(...)
  return native.wait()
end
function socket:connect(host, port, options)
  if type(port) == "table" or port == nil then return nil, "unix sockets are not supported" end
  return waited(native.socket_connect, self.own, host, port, options and options.pool)
end
function socket:sslhandshake(session, name, verify)
  self.name = name
  local ok, problem = waited(native.socket_handshake, self.own, name or "", verify and true or false)
  if not ok then return nil, problem end
  return session == false and true or {}
end
function socket:send(data)
  local function flat(value)
    if type(value) ~= "table" then return tostring(value) end
    local out = {}
    for at, one in ipairs(value) do out[at] = flat(one) end
    return table.concat(out)
  end
  local text = flat(data)
  local ok, problem = waited(native.socket_send, self.own, text)
  if not ok then return nil, problem end
  return #text
end
function socket:receive(wanted) return waited(native.socket_receive, self.own, wanted or "*l") end
function socket:receiveany(max) return waited(native.socket_receive, self.own, max or "*l") end
function socket:settimeout(ms) native.socket_timeouts(self.own, ms, ms, ms) end
function socket:settimeouts(connect, send, read) native.socket_timeouts(self.own, connect, send, read) end
function socket:setoption() return 1 end
function socket:setkeepalive(idle) if native.socket_keep(self.own, idle) then return 1 end return nil, "closed" end
function socket:close() if native.socket_close(self.own) then return 1 end return nil, "closed" end
function socket:getreusedtimes() return native.socket_reused(self.own) end
local function tcp() return setmetatable({ own = native.socket() }, socket) end
ngx.socket = { tcp = tcp, stream = tcp, connect = function(host, port)
  local one = tcp()
  local ok, problem = one:connect(host, port)
  if not ok then return nil, problem end
  return one
end }

-- resty.http
local http = { _VERSION = "0.17.1" }
local client = { __index = http }
function http.new() return setmetatable({ sock = tcp(), ssl_verify = true }, client) end
function http.parse_uri(_, uri, query_in_path)
  local scheme, authority, rest = uri:match("^(https?)://([^/?#]+)(.*)$")
  if not scheme then return nil, "bad uri: " .. tostring(uri) end
  local host, port = authority:match("^(.-):(%d+)$")
  host = (host or authority):gsub("^.*@", "")
  rest = rest:gsub("#.*$", "")
  local path, query = rest:match("^([^?]*)%??(.*)$")
  if path == "" then path = "/" end
  if query_in_path ~= false and query ~= "" then path = path .. "?" .. query end
  return { scheme, host, tonumber(port) or (scheme == "https" and 443 or 80), path, query }
end
function http:set_timeout(ms) self.sock:settimeout(ms) end
function http:set_timeouts(connect, send, read) self.sock:settimeouts(connect, send, read) end
function http:connect(options, port)
  if type(options) ~= "table" then options = { host = options, port = port, scheme = "http" } end
  local scheme = options.scheme or "http"
  self.host, self.port, self.scheme = options.host, options.port or (scheme == "https" and 443 or 80), scheme
  local verify = options.ssl_verify ~= false
  local pool = scheme .. ":" .. self.host .. ":" .. self.port .. ":" .. tostring(verify)
  local ok, problem = self.sock:connect(self.host, self.port, { pool = options.pool or pool })
  if not ok then return nil, problem end
  if scheme == "https" then
    ok, problem = self.sock:sslhandshake(nil, options.ssl_server_name or self.host, verify)
    if not ok then return nil, problem end
  end
  return true
end
function http:ssl_handshake(session, name, verify) return self.sock:sslhandshake(session, name, verify) end
function http:set_keepalive(...)
  if self.keep == false then return self.sock:close() and 2 or nil, "closed" end
  return self.sock:setkeepalive(...)
end
function http:get_reused_times() return self.sock:getreusedtimes() end
function http:close() return self.sock:close() end

local function header_table()
  local names = {}
  return setmetatable({}, {
    __index = function(self, name) return rawget(self, names[tostring(name):lower():gsub("_", "-")]) end,
    __newindex = function(self, name, value)
      names[name:lower()] = name
      rawset(self, name, value)
    end,
  })
end
local function read_head(sock)
  local line, problem = sock:receive("*l")
  if not line then return nil, problem end
  local version, status, reason = line:match("^HTTP/(%d%.%d)%s+(%d%d%d)%s*(.*)$")
  if not status then return nil, "bad status line: " .. line end
  local headers = header_table()
  while true do
    line, problem = sock:receive("*l")
    if not line then return nil, problem end
    if line == "" then break end
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    if name then
      local before = headers[name]
      if before == nil then headers[name] = value
      elseif type(before) == "table" then before[#before + 1] = value
      else headers[name] = nil rawset(headers, name, { before, value }) end
    end
  end
  return { status = tonumber(status), reason = reason, version = tonumber(version), headers = headers }
end
local function one(value) return type(value) == "table" and value[1] or value end
local function body_pieces(self, response, method)
  local sock, headers = self.sock, response.headers
  local state = "start"
  local left
  if method == "HEAD" or response.status == 204 or response.status == 304 or response.status < 200 then state = "end" end
  return function(max)
    if state == "end" then return nil end
    local encoding, length = one(headers["Transfer-Encoding"]), tonumber(one(headers["Content-Length"]) or "")
    if encoding and encoding:lower():find("chunked", 1, true) then
      local line, problem = sock:receive("*l")
      if not line then return nil, problem end
      local size = tonumber(line:match("^%x+"), 16)
      if not size then return nil, "bad chunk size" end
      if size == 0 then
        repeat line, problem = sock:receive("*l") until not line or line == ""
        state = "end"
        return nil, problem
      end
      local piece
      piece, problem = sock:receive(size)
      if not piece then return nil, problem end
      sock:receive("*l")
      return piece
    elseif length then
      left = left or length
      if left == 0 then state = "end" return nil end
      local size = math.min(left, max or left)
      local piece, problem = sock:receive(size)
      if not piece then return nil, problem end
      left = left - size
      return piece
    end
    state = "end"
    self.keep = false
    return sock:receive("*a")
  end
end
function http:request(params)
  local method, path = params.method or "GET", params.path or "/"
  local query = params.query
  if type(query) == "table" then query = ngx.encode_args(query) end
  if query and query ~= "" then path = path .. (path:find("?", 1, true) and "&" or "?") .. query:gsub("^%?", "") end
  local body = params.body
  if type(body) == "function" then
    local pieces = {}
    for piece in body do pieces[#pieces + 1] = piece end
    body = table.concat(pieces)
  elseif type(body) == "table" then
    body = table.concat(body)
  end
  local out, seen = { method, " ", path, " HTTP/1.1\r\n" }, {}
  for name, value in pairs(params.headers or {}) do
    seen[name:lower()] = true
    for _, text in ipairs(type(value) == "table" and value or { value }) do
      local clean = tostring(text):gsub("[\r\n]", "")
      out[#out + 1] = name .. ": " .. clean .. "\r\n"
    end
  end
  if not seen["host"] then
    local default = self.scheme == "https" and 443 or 80
    out[#out + 1] = "Host: " .. self.host .. (self.port ~= default and ":" .. self.port or "") .. "\r\n"
  end
  if not seen["user-agent"] then out[#out + 1] = "User-Agent: lua-resty-http/" .. http._VERSION .. " (Lua)\r\n" end
  if body and not seen["content-length"] and not seen["transfer-encoding"] then out[#out + 1] = "Content-Length: " .. #body .. "\r\n" end
  if not body and (method == "POST" or method == "PUT" or method == "PATCH") and not seen["content-length"] then
    out[#out + 1] = "Content-Length: 0\r\n"
  end
  out[#out + 1] = "\r\n"
  if body then out[#out + 1] = body end
  local ok, problem = self.sock:send(table.concat(out))
  if not ok then return nil, problem end
  local response
  repeat
    response, problem = read_head(self.sock)
    if not response then return nil, problem end
  until response.status >= 200 or response.status == 101
  local connection = one(response.headers["Connection"]) or ""
  self.keep = not (connection:lower():find("close", 1, true) or response.version == 1.0)
  response.has_body = method ~= "HEAD" and response.status ~= 204 and response.status ~= 304
  response.body_reader = body_pieces(self, response, method)
  function response.read_body()
    local pieces = {}
    while true do
      local piece, failed = response.body_reader()
      if failed then return nil, failed, table.concat(pieces) end
      if not piece then break end
      pieces[#pieces + 1] = piece
    end
    response.body = table.concat(pieces)
    return response.body
  end
  response.read_trailers = function() end
  return response
end
function http:request_uri(uri, params)
  params = params or {}
  local parsed, problem = self:parse_uri(uri, true)
  if not parsed then return nil, problem end
  local ok
  ok, problem = self:connect({ scheme = parsed[1], host = parsed[2], port = parsed[3], ssl_verify = params.ssl_verify,
    ssl_server_name = params.ssl_server_name })
  if not ok then return nil, problem end
  local response
  response, problem = self:request({ method = params.method, path = params.path or parsed[4], query = params.query,
    headers = params.headers, body = params.body })
  if not response then
    self:close()
    return nil, problem
  end
  local body
  body, problem = response.read_body()
  if not body then
    self:close()
    return nil, problem
  end
  if params.keepalive == false or not self.keep then self:close() else self.sock:setkeepalive(params.keepalive_timeout) end
  return response
end
package.preload["resty.http"] = function() return http end
