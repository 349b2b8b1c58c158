//! The node itself: where it works, what it logs, what it traces.

use super::Kind::{Boolean, List, Number, OneOf, Text};
use super::{Key, accepted, used};

pub const NODE: &[Key] = &[
    used("prefix", Text, "/usr/local/portcullis", "Working directory: logs, pid file, sockets, certificates, the embedded database."),
    used(
        "log_level",
        OneOf(&["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"]),
        "notice",
        "Least severe level that goes to the error log.",
    ),
    used(
        "proxy_access_log",
        Text,
        "logs/access.log",
        "Access log of the proxy, perhaps with the name of a format (`kong_log_format`, `combined`, `json`); `off` for none.",
    ),
    used("proxy_error_log", Text, "logs/error.log", "Error log of the proxy."),
    accepted("proxy_stream_access_log", Text, "logs/access.log basic", "Access log of stream proxying."),
    accepted("proxy_stream_error_log", Text, "logs/error.log", "Error log of stream proxying."),
    used("admin_access_log", Text, "logs/admin_access.log", "Access log of the Admin API."),
    accepted("admin_error_log", Text, "logs/error.log", "Error log of the Admin API."),
    accepted("admin_gui_access_log", Text, "logs/admin_gui_access.log", "Access log of the manager."),
    accepted("admin_gui_error_log", Text, "logs/admin_gui_error.log", "Error log of the manager."),
    used("status_access_log", Text, "off", "Access log of the Status API."),
    accepted("status_error_log", Text, "logs/status_error.log", "Error log of the Status API."),
    accepted("vaults", List, "bundled", "Vault strategies that may be used."),
    used("plugins", List, "bundled", "Plugins that may be used: `bundled`, names, or `off`."),
    used(
        "plugins_strict",
        Boolean,
        "off",
        "Refuse to start with plugins that have no handler in this version, be they named by `plugins` or configured. Not a key of Kong's.",
    ),
    used("port_maps", List, "", "Pairs `public:own` of ports, where a load balancer maps them."),
    used("anonymous_reports", Boolean, "on", "Accepted for compatibility; no report is ever sent."),
    accepted("proxy_server", Text, "", "Forward proxy for outbound connections of components that support one.").secret(),
    accepted("proxy_server_ssl_verify", Boolean, "on", "Verify that proxy's certificate."),
    used("error_template_html", Text, "", "File with the HTML error body."),
    used("error_template_json", Text, "", "File with the JSON error body."),
    used("error_template_xml", Text, "", "File with the XML error body."),
    used("error_template_plain", Text, "", "File with the plain error body."),
    used("node_id", Text, "", "This node's UUID; made and kept in the prefix when not given."),
    used("kong_version_compatible", Boolean, "on", "Report the compatible Kong version (3.9.3) where clients look for one."),
];

pub const TRACING: &[Key] = &[
    used("tracing_instrumentations", List, "off", "Parts of a request that make spans."),
    used("tracing_sampling_rate", Number, "0.01", "Share of requests that are traced."),
    used(
        "extra_metrics",
        List,
        "off",
        "What the prometheus plugin tells beyond Kong's metrics: `requests`, `upstreams`, `plugins`, `authentication`, `limits`, `cache`, \
         `dns`, `tls`, `configuration`, `queues`, `exemplars`, or `all`. Not a key of Kong's.",
    ),
    used(
        "otlp_metrics_endpoint",
        Text,
        "",
        "Where metrics are sent over OTLP/HTTP, besides being told at `/metrics`. Not a key of Kong's.",
    ),
    used("otlp_metrics_headers", List, "", "Headers of those requests, as `name:value`. Not a key of Kong's.").secret(),
    used("otlp_metrics_interval", Number, "60", "Seconds between two of them. Not a key of Kong's."),
];
