//! What the proxy needs to know of the configuration file, typed.

use std::time::Duration;

use ipnet::IpNet;

use crate::serve::errors::Format;

/// Error bodies of the user's own (`error_template_*`): text with up to two `%s`, message and request id.
#[derive(Clone, Debug, Default)]
pub struct ErrorTemplates {
    pub json: Option<String>,
    pub html: Option<String>,
    pub xml: Option<String>,
    pub plain: Option<String>,
}

/// Which response headers the gateway adds (`headers`), request headers (`headers_upstream`).
#[derive(Clone, Copy, Debug)]
pub struct HeaderTokens {
    pub server: bool,
    pub via: bool,
    pub proxy_latency: bool,
    pub response_latency: bool,
    pub upstream_latency: bool,
    pub upstream_status: bool,
    pub request_id: bool,
    pub upstream_request_id: bool,
}

impl Default for HeaderTokens {
    fn default() -> Self {
        Self {
            server: true,
            via: true,
            proxy_latency: true,
            response_latency: true,
            upstream_latency: true,
            upstream_status: false,
            request_id: true,
            upstream_request_id: true,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Name and version in `Server` and `Via`: `portcullis/0.1.0`.
    pub product: String,
    pub headers: HeaderTokens,
    /// Peers whose `X-Forwarded-*` and real-ip headers are believed.
    pub trusted_ips: Vec<IpNet>,
    /// Peers on unix sockets are believed (`unix:` in `trusted_ips`).
    pub trust_unix: bool,
    /// Lower case; `proxy_protocol` takes the address from the PROXY header.
    pub real_ip_header: String,
    pub real_ip_recursive: bool,
    /// `host:kong` pairs of `port_maps`: the port clients see for a listener's port.
    pub port_maps: Vec<(u16, u16)>,
    pub error_default_type: Format,
    pub error_templates: ErrorTemplates,
    pub allow_debug_header: bool,
    /// The token that request debugging asks of clients elsewhere; none answers nobody (`request_debug`).
    pub request_debug: Option<String>,
    /// Requests note when what happened to them, for spans.
    pub timeline: bool,
    /// Request bodies up to this size are read whole before the upstream is contacted (`client_body_buffer_size`, bytes).
    pub body_buffer_size: u64,
    /// 0 is unlimited.
    pub max_body_size: u64,
    /// Whole responses are buffered up to this many bytes for plugins that ask for it.
    pub max_buffered_response: u64,
    /// Streams begin with a PROXY header at the upstream (`nginx_sproxy_proxy_protocol`).
    pub stream_proxy_protocol: bool,
    pub keepalive_pool_size: usize,
    pub keepalive_max_requests: u64,
    pub keepalive_idle: Duration,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            product: concat!("portcullis/", env!("CARGO_PKG_VERSION")).to_owned(),
            headers: HeaderTokens::default(),
            trusted_ips: Vec::new(),
            trust_unix: false,
            real_ip_header: "x-real-ip".to_owned(),
            real_ip_recursive: false,
            port_maps: Vec::new(),
            error_default_type: Format::Plain,
            error_templates: ErrorTemplates::default(),
            allow_debug_header: false,
            request_debug: None,
            timeline: false,
            body_buffer_size: 8 * 1024,
            max_body_size: 0,
            max_buffered_response: 64 * 1024 * 1024,
            stream_proxy_protocol: false,
            keepalive_pool_size: 512,
            keepalive_max_requests: 10_000,
            keepalive_idle: Duration::from_secs(60),
        }
    }
}
