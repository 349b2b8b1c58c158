//! nginx' directives, as Kong files inject them.

use super::Kind::{OnOff, Text};
use super::{Key, accepted, used};

pub const DIRECTIVES: &[Key] = &[
    used("nginx_main_daemon", OnOff, "on", "`off` stays in the foreground."),
    accepted("nginx_main_user", Text, "", "Accepted for compatibility: the process keeps the user that started it."),
    used("nginx_main_worker_processes", Text, "auto", "Worker threads: a number or `auto`."),
    accepted("nginx_main_worker_rlimit_nofile", Text, "auto", "Accepted for compatibility."),
    used("nginx_events_worker_connections", Text, "auto", "Client connections a worker serves at once."),
    accepted("nginx_events_multi_accept", OnOff, "on", "Accepted for compatibility."),
    accepted("nginx_http_charset", Text, "UTF-8", "Accepted for compatibility: text answers say UTF-8."),
    accepted("nginx_http_lua_regex_cache_max_entries", Text, "8192", "Accepted for compatibility."),
    accepted("nginx_http_lua_regex_match_limit", Text, "100000", "Accepted for compatibility."),
    used(
        "nginx_http_client_max_body_size",
        Text,
        "0",
        "Largest request body; 0 for no limit. As all `nginx_http_*` keys here, `nginx_proxy_*` and `nginx_location_*` of the same name go before it.",
    ),
    used("nginx_http_client_body_buffer_size", Text, "8k", "As `client_body_buffer_size`."),
    used("nginx_http_client_header_timeout", Text, "", "How long a request head may take (60s when not set)."),
    used("nginx_http_client_body_timeout", Text, "", "How long a request body may pause (60s when not set)."),
    used("nginx_http_send_timeout", Text, "", "How long a client may take no bytes (60s when not set)."),
    used("nginx_http_keepalive_timeout", Text, "", "How long an idle client connection is kept (75s when not set)."),
    used("nginx_http_keepalive_requests", Text, "10000", "Requests on one client connection."),
    used("nginx_proxy_real_ip_header", Text, "X-Real-IP", "Header a trusted peer tells the client's address in."),
    used("nginx_proxy_real_ip_recursive", OnOff, "off", "Pass over trusted addresses in that header."),
    used("nginx_http_proxy_buffer_size", Text, "", "Largest response head taken from an upstream (4k when not set)."),
    used("nginx_admin_client_max_body_size", Text, "10m", "Largest body of an Admin API request."),
    accepted("nginx_admin_client_body_buffer_size", Text, "10m", "Accepted for compatibility."),
];
