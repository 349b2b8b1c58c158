//! Lua, vaults, plugin servers, WASM.

use super::Kind::{Boolean, List, Number, OneOf, Text};
use super::{Key, accepted, used};

pub const LUA: &[Key] = &[
    used("lua_ssl_trusted_certificate", List, "system", "CA certificates that active health checks trust."),
    accepted("lua_ssl_verify_depth", Number, "1", "Accepted for compatibility."),
    accepted("lua_ssl_protocols", Text, "TLSv1.2 TLSv1.3", "Accepted for compatibility."),
    used("lua_package_path", Text, "./?.lua;./?/init.lua;", "Where Lua plugins are looked for."),
    accepted("lua_package_cpath", Text, "", "Accepted for compatibility."),
    accepted("lua_socket_pool_size", Number, "256", "Accepted for compatibility."),
    accepted("lua_max_req_headers", Number, "100", "Request headers that plugins read."),
    accepted("lua_max_resp_headers", Number, "100", "Response headers that plugins read."),
    accepted("lua_max_uri_args", Number, "100", "Query arguments that plugins read."),
    accepted("lua_max_post_args", Number, "100", "Form arguments that plugins read."),
    used("untrusted_lua", OneOf(&["on", "off", "sandbox"]), "sandbox", "How Lua code in configuration may run."),
    used("untrusted_lua_sandbox_requires", List, "", "Modules that sandboxed code may load."),
    used("untrusted_lua_sandbox_environment", List, "", "Globals that sandboxed code sees."),
    used("lua_time_limit", Number, "500", "Milliseconds that Lua code may run at a stretch. Not a key of Kong's."),
    used("lua_memory_limit", Number, "256", "MiB that the Lua code of one worker thread may hold. Not a key of Kong's."),
    accepted("openresty_path", Text, "", "Accepted for compatibility."),
];

pub const EXTENSIONS: &[Key] = &[
    used("vault_env_prefix", Text, "", "Prefix of environment variables that the env vault reads."),
    accepted("pluginserver_names", List, "", "External plugin servers."),
    accepted("wasm", Boolean, "off", "Run WASM filters."),
    accepted("wasm_filters_path", Text, "", "Where filters are looked for."),
    accepted("wasm_filters", List, "bundled,user", "Filters that may be used."),
];
