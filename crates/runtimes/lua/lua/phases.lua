-- Which phases the functions of the PDK may be called in, and Kong's complaint about the others.
local native = ...
local at = native.at
local kong = kong

-- Kong's numbers; those behind the names that no code of ours runs in are there for messages.
local NUMBERS = {
  init_worker = 0x1, certificate = 0x2, client_hello = 0x8, rewrite = 0x10, access = 0x20, balancer = 0x40, response = 0x80,
  cluster_listener = 0x100, header_filter = 0x200, body_filter = 0x400, log = 0x2000, preread = 0x4000, error = 0x1000000,
  admin_api = 0x10000000,
}
local NAMES = {}
for name, number in pairs(NUMBERS) do NAMES[number] = name end

-- A set of phases: the numbers that are allowed, and the names in the order in which Kong lists them.
local function phases(text)
  local numbers, allowed, names = {}, {}, {}
  for name in text:gmatch("%S+") do numbers[#numbers + 1] = NUMBERS[name] end
  table.sort(numbers)
  for place, number in ipairs(numbers) do
    allowed[number] = true
    names[place] = NAMES[number]
  end
  return { allowed = allowed, text = table.concat(names, ", ") }
end

local REQUEST = phases("rewrite access balancer response header_filter body_filter log error admin_api cluster_listener")
local BODY = phases("rewrite access response error admin_api")
local FROM_ACCESS = phases("access header_filter response body_filter log")
local RESPONSE = phases("response header_filter body_filter log error admin_api")
local ANSWERED = phases("response header_filter body_filter log")
local BEFORE_HEAD = phases("rewrite access response balancer header_filter error admin_api")
local UPSTREAM = phases("rewrite access")
local UPSTREAM_BALANCER = phases("rewrite access balancer")
local TARGET = phases("rewrite access balancer preread")
local ACCESS, BODY_FILTER, LOG = phases("access"), phases("body_filter"), phases("log")
local LOG_FIELDS = phases("rewrite access header_filter response body_filter log")
local CERTIFICATE, HELLO = phases("certificate"), phases("client_hello")
local TLS = phases("rewrite access response balancer log")
local TLS_BEFORE_LOG = phases("rewrite access response balancer")

local rules = {
  { kong.request, REQUEST, "get_scheme get_host get_forwarded_scheme get_forwarded_host get_forwarded_port get_forwarded_path "
    .. "get_forwarded_prefix get_http_version get_method get_path get_raw_path get_path_with_query get_raw_query get_query_arg "
    .. "get_query get_header get_headers get_start_time get_uri_captures" },
  { kong.request, BODY, "get_raw_body get_body" },
  { kong.client, FROM_ACCESS, "get_credential load_consumer get_consumer get_protocol" },
  { kong.client, ACCESS, "authenticate" },
  { kong.client.tls, CERTIFICATE, "request_client_certificate disable_session_reuse" },
  { kong.client.tls, TLS, "get_full_client_certificate_chain" },
  { kong.client.tls, TLS_BEFORE_LOG, "set_client_verify" },
  { kong.client.tls, HELLO, "disable_http2_alpn" },
  { kong.router, FROM_ACCESS, "get_route get_service" },
  { kong.response, RESPONSE, "get_status get_header get_headers get_source" },
  { kong.response, BEFORE_HEAD, "set_status set_header add_header clear_header set_headers exit error" },
  { kong.response, BODY_FILTER, "get_raw_body set_raw_body" },
  { kong.service, ACCESS, "set_upstream set_target_retry_callback set_retries set_timeouts" },
  { kong.service, TARGET, "set_target" },
  { kong.service.request, UPSTREAM_BALANCER, "enable_buffering set_scheme set_path set_header set_raw_body" },
  { kong.service.request, UPSTREAM, "set_raw_query set_method set_query clear_query_arg add_header clear_header set_headers set_body" },
  { kong.service.response, ANSWERED, "get_status get_headers get_header get_raw_body get_body" },
  { kong.log, LOG_FIELDS, "set_serialize_value" },
  { kong.log, LOG, "serialize" },
}

for _, rule in ipairs(rules) do
  local room, set = rule[1], rule[2]
  local allowed = set.allowed
  for name in rule[3]:gmatch("%S+") do
    local f = room[name]
    room[name] = function(...)
      local phase = at[1]
      if not allowed[phase] then
        local known = NAMES[phase]
        if not known then error("no phase in ngx.ctx.KONG_PHASE, (need one of " .. set.text .. ")", 2) end
        error("function cannot be called in " .. known .. " phase (only in: " .. set.text .. ")", 2)
      end
      return f(...)
    end
  end
end

-- These may be called wherever there is a connection.
for _, rule in ipairs({
  { kong.request, "get_port" },
  { kong.client, "get_ip get_forwarded_ip get_port get_forwarded_port" },
}) do
  for name in rule[2]:gmatch("%S+") do
    local f = rule[1][name]
    rule[1][name] = function(...)
      local phase = at[1]
      if not NAMES[phase] then error("no phase in ngx.ctx.KONG_PHASE", 2) end
      if phase == NUMBERS.init_worker then
        error("function cannot be called in init_worker phase (can be called in any phases except: init_worker)", 2)
      end
      return f(...)
    end
  end
end
