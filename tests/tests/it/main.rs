//! Black-box suites: the real program, real sockets, nothing of its insides.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod acme;
mod acme_stores;
mod auth_together;
mod bad_input;
mod beyond_kong;
mod bodies;
mod config_changes;
mod declarative;
mod extra_metrics;
mod forwarded;
mod framing;
mod grpc;
mod ldap_auth;
mod lifecycle;
mod limits;
mod log_records;
mod logs;
mod lua;
mod moving;
mod oauth2;
mod opentelemetry;
mod plugins_smoke;
mod postgres_cluster;
mod postgres_faults;
mod postgres_start;
mod proxying;
mod rate_limits_redis;
mod request_debug;
mod router_flavors;
mod session;
mod shared_counts;
mod streams;
mod tls_and_http2;
mod tour;
mod upstream_tls;
