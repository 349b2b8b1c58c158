//! How requests are proxied: headers, upstream connections, workers, name resolution.

use super::Kind::{Boolean, List, Number, OneOf, Text};
use super::{Key, accepted, used};

pub const PROXYING: &[Key] = &[
    used("headers", List, "server_tokens, latency_tokens, x-kong-request-id", "Headers the gateway adds to responses."),
    used("headers_upstream", List, "x-kong-request-id", "Headers the gateway adds to requests."),
    used("trusted_ips", List, "", "Peers whose X-Forwarded-* headers are believed."),
    used(
        "error_default_type",
        OneOf(&["application/json", "application/xml", "text/html", "text/plain"]),
        "text/plain",
        "Type of error bodies when the client asks for none.",
    ),
    used("allow_debug_header", Boolean, "off", "Answer `Kong-Debug` with routing headers."),
    used("client_body_buffer_size", Text, "8k", "Request bodies up to this size are read before the upstream is asked."),
    used("upstream_keepalive_pool_size", Number, "512", "Idle upstream connections a worker keeps for each target."),
    used("upstream_keepalive_max_requests", Number, "10000", "Requests on one upstream connection."),
    used("upstream_keepalive_idle_timeout", Number, "60", "Seconds an idle upstream connection is kept."),
];

pub const WORKERS: &[Key] = &[
    used("mem_cache_size", Text, "128m", "Memory that cached responses may take (`proxy-cache`)."),
    accepted("worker_events_max_payload", Number, "65535", "Accepted for compatibility."),
    accepted("lmdb_environment_path", Text, "dbless.lmdb", "Accepted for compatibility."),
    accepted("lmdb_map_size", Text, "2048m", "Accepted for compatibility."),
    used(
        "worker_consistency",
        OneOf(&["strict", "eventual"]),
        "eventual",
        "Accepted for compatibility: changes are always served at once.",
    ),
    accepted("worker_state_update_frequency", Number, "5", "Accepted for compatibility."),
    used(
        "router_flavor",
        OneOf(&["traditional", "traditional_compatible", "expressions"]),
        "traditional_compatible",
        "How routes are matched.",
    ),
];

pub const DNS: &[Key] = &[
    used("dns_resolver", List, "", "Name servers; those of resolv.conf when empty."),
    used("dns_hostsfile", Text, "/etc/hosts", "Names that need no name server."),
    used("dns_order", List, "LAST,SRV,A,CNAME", "Order in which record types are asked for."),
    used("dns_valid_ttl", Number, "", "Seconds answers are valid, instead of what they say."),
    used("dns_stale_ttl", Number, "3600", "Seconds an old answer is used while it is refreshed."),
    used("dns_cache_size", Number, "10000", "Names kept."),
    used("dns_not_found_ttl", Number, "30", "Seconds a name stays not found."),
    used("dns_error_ttl", Number, "1", "Seconds a failed query is not repeated."),
    accepted("dns_no_sync", Boolean, "off", "Accepted for compatibility."),
    used("new_dns_client", Boolean, "off", "Whether the `resolver_*` keys count instead of the `dns_*` ones."),
    used("resolver_address", List, "", "Name servers of the new client."),
    used("resolver_hosts_file", Text, "/etc/hosts", "Hosts file of the new client."),
    used("resolver_family", List, "A,SRV", "Record types of the new client."),
    used("resolver_valid_ttl", Number, "", "As `dns_valid_ttl`."),
    used("resolver_error_ttl", Number, "1", "As `dns_error_ttl`."),
    used("resolver_stale_ttl", Number, "3600", "As `dns_stale_ttl`."),
    used("resolver_lru_cache_size", Number, "10000", "As `dns_cache_size`."),
    accepted("resolver_mem_cache_size", Text, "5m", "Accepted for compatibility."),
];
