-- kong: the plugin development kit.
local native = ...
local ngx, cjson, safe = ngx, native.cjson, native.cjson_safe
local yield = coroutine.yield
local EXIT = native.EXIT
local type, tostring, tonumber, error, pairs, ipairs = type, tostring, tonumber, error, pairs, ipairs

local kong = { version = native.version, configuration = native.configuration }
do
  local major, minor, patch = native.version:match("^(%d+)%.(%d+)%.(%d+)")
  kong.version_num = (tonumber(major) or 0) * 1000000 + (tonumber(minor) or 0) * 1000 + (tonumber(patch) or 0)
end

local function want(kind, value, name, level)
  if type(value) ~= kind then
    error(name .. " must be a " .. kind, (level or 1) + 2)
  end
end
-- Values of headers, in the words of Kong's checks.
local function want_strings(name, list, level)
  for _, one in ipairs(list) do
    if type(one) ~= "string" then
      error(("invalid header value in array %q: got %s, expected string"):format(name, type(one)), level + 1)
    end
  end
end
local function want_header(name, value)
  if type(name) ~= "string" then
    error(("invalid header name %q: got %s, expected string"):format(tostring(name), type(name)), 3)
  end
  local kind = type(value)
  if kind == "table" then return want_strings(name, value, 2) end
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    error(("invalid header value for %q: got %s, expected array of string, string, number or boolean"):format(name, kind), 3)
  end
end
local function want_headers(headers)
  if type(headers) ~= "table" then error("headers must be a table", 3) end
  for name, value in pairs(headers) do
    if type(name) ~= "string" then
      error(("invalid header name %q: got %s, expected string"):format(tostring(name), type(name)), 3)
    end
    local kind = type(value)
    if kind == "table" then want_strings(name, value, 3)
    elseif kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      error(("invalid header value for %q: got %s, expected string, number, boolean or array of strings"):format(name, kind), 3)
    end
  end
end
local function is_framing(name)
  name = name:lower()
  if name ~= "transfer-encoding" and name ~= "transfer_encoding" then return false end
  kong.log.warn("manually setting Transfer-Encoding. Ignored.")
  return true
end
local function want_integer(value, name, low, high)
  if type(value) ~= "number" or math.floor(value) ~= value then error(name .. " must be an integer", 3) end
  if value < low or value > high then
    error(name .. " must be an integer between " .. low .. " and " .. high .. ": given " .. value, 3)
  end
end
local function sorted(headers)
  local names = {}
  for name in pairs(headers) do names[#names + 1] = name end
  table.sort(names)
  local at = 0
  return function()
    at = at + 1
    return names[at], headers[names[at]]
  end
end

-- kong.request
local request = {}
kong.request = request
local var = native.var
local function host_part(value) return value and value:lower():gsub("^%s*([^,]-)%s*$", "%1"):gsub(":%d+$", "") or nil end
local function trusted(name)
  if var("trusted") == "1" then
    local value = native.request_header(name)
    return value and value:match("^%s*([^,]-)%s*$") or value and value:match("^%s*([^,]-)%s*,")
  end
end
function request.get_scheme() return var("scheme") end
function request.get_host() return var("host") end
function request.get_port() return tonumber(var("server_port")) end
function request.get_forwarded_scheme()
  local given = trusted("X-Forwarded-Proto")
  return given and given:lower() or var("scheme")
end
function request.get_forwarded_host()
  return host_part(trusted("X-Forwarded-Host")) or var("host")
end
function request.get_forwarded_port()
  local given = trusted("X-Forwarded-Port")
  if given then return tonumber(given) end
  local host = trusted("X-Forwarded-Host")
  local port = host and tonumber(host:match(":(%d+)$"))
  return port or tonumber(var("server_port"))
end
function request.get_forwarded_path() return trusted("X-Forwarded-Path") or request.get_path() end
function request.get_forwarded_prefix() return var("forwarded_prefix") end
function request.get_http_version() return tonumber(var("http_version")) end
function request.get_method() return var("request_method") end
function request.get_raw_path() return (var("request_uri"):gsub("%?.*$", "")) end
function request.get_path() return native.normal_path(request.get_raw_path()) end
function request.get_path_with_query() return var("request_uri") or "" end
function request.get_raw_query() return var("args") or "" end
function request.get_query_arg(name)
  want("string", name, "query argument name")
  local value = native.decode_args(var("args") or "", 100)[name]
  if type(value) == "table" then return value[1] end
  return value
end
function request.get_query(max)
  if max ~= nil then
    want("number", max, "max_args")
    if max < 1 then error("max_args must be >= 1", 2) end
    if max > 1000 then error("max_args must be <= 1000", 2) end
  end
  return native.decode_args(var("args") or "", max)
end
-- How many arguments of a form are read.
local function want_max(max)
  if max == nil then return end
  want("number", max, "max_args", 2)
  if max < 1 then error("max_args must be >= 1", 3) end
  if max > 1000 then error("max_args must be <= 1000", 3) end
end
function request.get_header(name)
  want("string", name, "header name")
  return native.request_header(name)
end
function request.get_headers(max)
  if max ~= nil then
    want("number", max, "max_headers")
    if max < 1 then error("max_headers must be >= 1", 2) end
    if max > 1000 then error("max_headers must be <= 1000", 2) end
  end
  local headers, problem = native.request_headers(max)
  return native.case_blind(headers), problem
end
function request.get_raw_body()
  local body = native.raw_body()
  if body == nil then return nil, "request body did not fit into client body buffer, consider raising 'client_body_buffer_size'" end
  return body
end
-- Reads JSON so that an empty list is written as one again.
local with_lists = safe.new()
with_lists.decode_array_with_array_mt(true)
local function boundary_of(content_type)
  return content_type:match('boundary="([^"]+)"') or content_type:match("boundary=([^;%s]+)")
end
local function multipart(body, boundary)
  local fields = {}
  local from = 1
  while true do
    local start, stop = body:find("--" .. boundary, from, true)
    if not start then break end
    local next_start = body:find("--" .. boundary, stop + 1, true)
    if not next_start then break end
    local head, value = body:sub(stop + 1, next_start - 1):match("^\r?\n(.-)\r?\n\r?\n(.-)\r?\n$")
    if head then
      local name = head:match('[^e]name="([^"]*)"') or head:match("[^e]name=([^;%s]+)")
      if name then fields[name] = value end
    end
    from = next_start
  end
  return fields
end
function request.get_body(mimetype, max_args)
  local content_type = mimetype or native.request_header("content-type")
  if not content_type then return nil, "missing content type" end
  if type(content_type) == "number" then content_type = tostring(content_type) end
  if type(content_type) ~= "string" then
    error("bad argument #1 to 'lower' (string expected, got " .. type(content_type) .. ")", 2)
  end
  local kind = content_type:match("^%s*([^;%s]+)")
  kind = kind and kind:lower() or ""
  local body, problem = request.get_raw_body()
  if kind == "application/x-www-form-urlencoded" then
    want_max(max_args)
    if not body then return nil, problem, kind end
    return native.decode_args(body, max_args or 100), nil, kind
  elseif kind == "application/json" or kind:match("^application/.+%+json$") then
    if not body then return nil, problem, kind end
    local parsed = with_lists.decode(body)
    if type(parsed) ~= "table" then return nil, "invalid json body", kind end
    return parsed, nil, kind
  elseif kind == "multipart/form-data" then
    if not body then return nil, problem, kind end
    local boundary = boundary_of(native.request_header("content-type") or content_type)
    if not boundary then return nil, "unsupported content type '" .. content_type .. "'", kind end
    return multipart(body, boundary), nil, kind
  end
  return nil, "unsupported content type '" .. content_type .. "'", kind
end
function request.get_start_time() return native.started_at() end
function request.get_uri_captures() return native.captures() or { named = {}, unnamed = {} } end

-- kong.response
local response = {}
kong.response = response
function response.get_status() return native.status() end
function response.get_header(name)
  want("string", name, "header name")
  return native.response_header(name)
end
local function want_max_headers(max)
  if max == nil then return end
  if type(max) ~= "number" then error("max_headers must be a number", 3) end
  if max < 1 then error("max_headers must be >= 1", 3) end
  if max > 1000 then error("max_headers must be <= 1000", 3) end
end
function response.get_headers(max)
  want_max_headers(max)
  local headers, problem = native.response_headers(max)
  return native.case_blind(headers), problem
end
function response.get_source() return native.source() or "exit" end
function response.set_status(status)
  want("number", status, "code")
  if status < 100 or status > 599 then error("code must be a number between 100 and 599", 2) end
  native.set_status(status)
end
function response.set_header(name, value)
  want_header(name, value)
  if is_framing(name) then return end
  native.set_response_header(name, value)
end
function response.add_header(name, value)
  want_header(name, value)
  native.add_response_header(name, value)
end
function response.clear_header(name)
  want("string", name, "header name")
  native.clear_response_header(name)
end
function response.set_headers(headers)
  want_headers(headers)
  for name, value in sorted(headers) do
    if not is_framing(name) then native.set_response_header(name, value) end
  end
end
function response.get_raw_body() return native.gather() end
function response.set_raw_body(body)
  want("string", body, "body")
  native.set_chunk(body)
end
local function want_status(status)
  if type(status) ~= "number" then error("code must be a number", 3) end
  if status < 100 or status > 599 then error("code must be a number between 100 and 599", 3) end
end
function response.exit(status, body, headers)
  want_status(status)
  local kind = type(body)
  if body ~= nil and kind ~= "string" and kind ~= "table" then error("body must be a nil, string or table", 2) end
  if headers ~= nil and type(headers) ~= "table" then error("headers must be a nil or table", 2) end
  if headers ~= nil then want_headers(headers) end
  if native.phase() == "header_filter" then
    native.set_status(status)
    if headers then for name, value in sorted(headers) do native.set_response_header(name, value) end end
    return yield(EXIT)
  end
  native.answer(status, body, headers)
  return yield(EXIT)
end
local messages = {
  [400] = "Bad request", [401] = "Unauthorized", [402] = "Payment required", [403] = "Forbidden", [404] = "Not found",
  [405] = "Method not allowed", [406] = "Not acceptable", [407] = "Proxy authentication required", [408] = "Request timeout",
  [409] = "Conflict", [410] = "Gone", [411] = "Length required", [412] = "Precondition failed", [413] = "Payload too large",
  [414] = "URI too long", [415] = "Unsupported media type", [416] = "Range not satisfiable", [417] = "Expectation failed",
  [418] = "I'm a teapot", [421] = "Misdirected request", [422] = "Unprocessable entity", [423] = "Locked",
  [424] = "Failed dependency", [425] = "Too early", [426] = "Upgrade required", [428] = "Precondition required",
  [429] = "Too many requests", [431] = "Request header fields too large", [451] = "Unavailable for legal reasons",
  [494] = "Request header or cookie too large", [500] = "An unexpected error occurred", [501] = "Not implemented",
  [502] = "An invalid response was received from the upstream server",
  [503] = "The upstream server is currently unavailable", [504] = "The upstream server is timing out",
  [505] = "HTTP version not supported", [506] = "Variant also negotiates", [507] = "Insufficient storage",
  [508] = "Loop detected", [510] = "Not extended", [511] = "Network authentication required",
}
function response.error(status, message, headers)
  if type(status) ~= "number" then error("code must be a number", 2) end
  if status < 400 or status > 599 then error("code must be a number between 400 and 599", 2) end
  if type(message) == "table" then
    local problem
    message, problem = safe.encode(message)
    if not message then error("could not JSON encode the error message: " .. problem, 2) end
  end
  if message ~= nil and type(message) ~= "string" then error("message must be a nil, a string or a table", 2) end
  if headers ~= nil and type(headers) ~= "table" then error("headers must be a nil or table", 2) end
  if headers ~= nil then want_headers(headers) end
  native.error_answer(status, message or messages[status] or ("The upstream server responded with " .. status), headers)
  return yield(EXIT)
end

-- kong.service
local service = {}
kong.service = service
function service.set_upstream(name)
  want("string", name, "host")
  if native.set_upstream(name) then return true end
  return nil, "could not find an Upstream named '" .. name .. "'"
end
function service.set_target(host, port)
  want("string", host, "host")
  want_integer(port, "port", 0, 65535)
  native.set_target(host, port)
end
function service.set_target_retry_callback(callback) want("function", callback, "retry_callback") end
function service.set_retries(retries)
  want_integer(retries, "retries", 0, 32767)
  native.set_patience(nil, nil, nil, retries)
end
function service.set_timeouts(connect, write, read)
  want_integer(connect, "connect_timeout", 1, 2147483646)
  want_integer(write, "write_timeout", 1, 2147483646)
  want_integer(read, "read_timeout", 1, 2147483646)
  native.set_patience(connect, write, read, nil)
end
local upstream = {}
service.request = upstream
function upstream.enable_buffering() native.enable_buffering() end
function upstream.set_scheme(scheme)
  want("string", scheme, "scheme")
  if scheme ~= "http" and scheme ~= "https" then error("invalid scheme: " .. scheme, 2) end
  native.set_scheme(scheme == "https")
end
function upstream.set_path(path)
  want("string", path, "path")
  if path:sub(1, 1) ~= "/" then error("path must start with /", 2) end
  native.set_path(path)
end
function upstream.set_raw_query(query)
  want("string", query, "query")
  native.set_query(query)
end
local function want_names(args)
  for name in pairs(args) do
    if type(name) ~= "string" then error("arg keys must be strings", 3) end
  end
end
function upstream.set_query(args)
  want("table", args, "args")
  want_names(args)
  native.set_query(native.encode_args(args))
end
function upstream.clear_query_arg(name)
  want("string", name, "query argument name")
  native.clear_argument(name)
end
local methods = {}
for _, name in ipairs({ "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE", "PROPFIND", "PROPPATCH", "LOCK",
  "UNLOCK", "PATCH", "TRACE" }) do methods[name] = true end
function upstream.set_method(method)
  want("string", method, "method")
  if not methods[method] then error("invalid method: " .. method, 2) end
  native.set_method(method)
end
function upstream.set_header(name, value)
  want_header(name, value)
  if name:lower() == ":authority" then return nil, "cannot set :authority pseudo-header on non-grpc requests" end
  native.set_request_header(name, value)
end
function upstream.add_header(name, value)
  want_header(name, value)
  native.add_request_header(name, value)
end
function upstream.clear_header(name)
  want("string", name, "header")
  native.clear_request_header(name)
end
function upstream.set_headers(headers)
  want_headers(headers)
  for name, value in sorted(headers) do native.set_request_header(name, value) end
end
function upstream.set_raw_body(body)
  want("string", body, "body")
  native.set_body(body)
end
function upstream.set_body(args, mimetype)
  want("table", args, "args")
  if mimetype and type(mimetype) ~= "string" then error("mime must be a string", 2) end
  local content_type = mimetype or native.request_header("content-type")
  if not content_type then
    return nil, "content type was neither explicitly given as an argument or received as a header"
  end
  local kind = (content_type:match("^%s*([^;%s]+)") or ""):lower()
  local body
  if kind == "application/x-www-form-urlencoded" then
    want_names(args)
    body = native.encode_args(args)
  elseif kind == "application/json" then
    local problem
    body, problem = safe.encode(args)
    if not body then error(problem, 2) end
  elseif kind == "multipart/form-data" then
    local boundary = boundary_of(content_type) or native.hex(native.random_bytes(16))
    local out = {}
    for name, value in pairs(args) do
      local sort = type(value)
      if type(name) ~= "string" then
        error(("invalid key %q: got %s, expected string"):format(tostring(name), type(name)), 2)
      elseif sort ~= "string" and sort ~= "number" and sort ~= "boolean" then
        error(("invalid value %q: got %s, expected string, number or boolean"):format(name, sort), 2)
      end
    end
    for name, value in sorted(args) do
      out[#out + 1] = "--" .. boundary .. '\r\nContent-Disposition: form-data; name="' .. name .. '"\r\n\r\n' .. tostring(value) .. "\r\n"
    end
    body = table.concat(out) .. "--" .. boundary .. "--\r\n"
    if not boundary_of(content_type) then content_type = kind .. "; boundary=" .. boundary end
  else
    error("unsupported content type " .. content_type, 2)
  end
  native.set_body(body)
  native.set_request_header("Content-Type", content_type)
  return true
end
local answered = {}
service.response = answered
local function from_service() return native.source() == "service" end
-- The body can be had while the response is held back whole.
local function want_held()
  if native.phase() == "response" or native.is_held() then return end
  error("service body is only available with buffered proxying (see: kong.service.request.enable_buffering function)", 3)
end
function answered.get_status() if from_service() then return native.status() end end
function answered.get_headers(max)
  want_max_headers(max)
  if not from_service() then return native.case_blind({}) end
  local headers, problem = native.response_headers(max)
  return native.case_blind(headers), problem
end
function answered.get_header(name)
  want("string", name, "name")
  if from_service() then return native.response_header(name) end
end
function answered.get_raw_body()
  want_held()
  return native.gather()
end
function answered.get_body(mimetype)
  want_held()
  local kind = (mimetype or answered.get_header("content-type") or ""):match("^%s*([^;%s]+)")
  local body = native.gather()
  if body == nil then return nil end
  if kind == "application/json" then
    local parsed = safe.decode(body)
    if type(parsed) ~= "table" then return nil, "invalid json body", kind end
    return parsed, nil, kind
  elseif kind == "application/x-www-form-urlencoded" then
    return native.decode_args(body, 100), nil, kind
  end
  return nil, "unsupported content type '" .. tostring(kind) .. "'", kind
end

-- kong.client
local client = { tls = {} }
kong.client = client
function client.get_ip() return var("realip_remote_addr") end
function client.get_forwarded_ip() return var("remote_addr") end
function client.get_port() return tonumber(var("realip_remote_port")) end
function client.get_forwarded_port() return tonumber(var("remote_port")) end
function client.get_credential() return native.credential() end
function client.get_consumer() return native.entity("consumer") end
function client.load_consumer(id, by_username)
  if type(id) ~= "string" then error("consumer_id must be a string", 2) end
  local is_uuid = #id == 36 and id:match("^%x+%-%x+%-%x+%-%x+%-%x+$") ~= nil
  if not is_uuid and not by_username then error("cannot load a consumer with an id that is not a uuid", 2) end
  return native.load_consumer(id, by_username and true or false)
end
function client.authenticate(consumer, credential)
  if consumer ~= nil and type(consumer) ~= "table" then error("consumer must be a table or nil", 2) end
  if credential ~= nil and type(credential) ~= "table" then error("credential must be a table or nil", 2) end
  if consumer == nil and credential == nil then error("either credential or consumer must be provided", 2) end
  native.authenticate(consumer, credential)
end
function client.get_protocol(allow_terminated)
  local route = native.entity("route")
  if not route then return nil, "No active route found" end
  local protocols = route.protocols or {}
  if #protocols == 1 then return protocols[1] end
  local secure = var("scheme") == "https" or (allow_terminated and request.get_forwarded_scheme() == "https")
  for _, protocol in ipairs(protocols) do
    if protocol == "grpc" or protocol == "grpcs" then return secure and "grpcs" or "grpc" end
  end
  return secure and "https" or "http"
end
function client.tls.get_full_client_certificate_chain()
  if var("scheme") ~= "https" then return nil, "connection is not TLS or TLS support for Nginx not enabled" end
  return nil
end
function client.tls.request_client_certificate() return true end
function client.tls.disable_session_reuse() return true end
function client.tls.disable_http2_alpn() return true end
function client.tls.set_client_verify(value)
  assert(type(value) == "string")
  if value ~= "SUCCESS" and value ~= "NONE" and value:sub(1, 7) ~= "FAILED:" then
    error("unknown client verify value: " .. value .. ' accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>"', 2)
  end
end

-- kong.router, kong.node and other small rooms
kong.router = {
  get_route = function() return native.entity("route") end,
  get_service = function() return native.entity("service") end,
}
kong.plugin = { get_id = function() return native.owner():match("[^:]*$") end }
kong.ip = { is_trusted = function(address)
  return type(address) == "string" and native.is_trusted(address)
end }
-- Writes numbers of bytes as they are, or as text in a larger unit.
local units = { k = { 10, "KiB" }, m = { 20, "MiB" }, g = { 30, "GiB" } }
local function sized(unit, scale)
  unit = unit or "b"
  if type(unit) ~= "string" then error("unit must be a string", 3) end
  local chosen = units[unit:lower()]
  if not chosen and unit:lower() ~= "b" then error("invalid unit '" .. unit .. "' (expected 'k/K', 'm/M', or 'g/G')", 3) end
  scale = scale or 2
  if type(scale) ~= "number" then error("scale must be a number", 3) end
  if scale < 0 then error("scale must be equal or greater than 0", 3) end
  return function(bytes)
    if not chosen then return bytes end
    return ("%." .. math.floor(scale) .. "f %s"):format(bytes / 2 ^ chosen[1], chosen[2])
  end
end
kong.node = {
  get_id = function() return native.node_id end,
  get_hostname = function() return native.hostname end,
  get_memory_stats = function(unit, scale)
    local size = sized(unit, scale)
    local dicts = {}
    for name, dict in pairs(ngx.shared) do
      dicts[name] = { capacity = size(dict:capacity()), allocated_slabs = size(dict:capacity() - dict:free_space()) }
    end
    return { lua_shared_dicts = dicts, workers_lua_vms = { { http_allocated_gc = size(native.used_memory()), pid = tonumber(var("pid")) } } }
  end,
}
kong.cluster = { get_id = function() return native.node_id end }
kong.nginx = {
  get_subsystem = function() return "http" end,
  get_statistics = function()
    return { connections_active = 0, connections_reading = 0, connections_writing = 0, connections_waiting = 0,
      connections_accepted = 0, connections_handled = 0, total_requests = 0 }
  end,
}
kong.table = {
  new = function(...)
    for at = 1, 2 do
      if type((select(at, ...))) ~= "number" then
        local given = select("#", ...) < at and "no value" or type((select(at, ...)))
        error("bad argument #" .. at .. " to '?' (number expected, got " .. given .. ")", 0)
      end
    end
    return {}
  end,
  clear = function(...)
    local t = ...
    if type(t) ~= "table" then
      error("bad argument #1 to '?' (table expected, got " .. (select("#", ...) == 0 and "no value" or type(t)) .. ")", 0)
    end
    for key in pairs(t) do t[key] = nil end
  end,
  merge = function(one, two)
    local out = {}
    for key, value in pairs(one or {}) do out[key] = value end
    for key, value in pairs(two or {}) do out[key] = value end
    return out
  end,
}

_G.kong = kong
