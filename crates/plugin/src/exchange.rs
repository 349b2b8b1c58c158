//! A finished exchange, as log plugins see it.

use std::net::SocketAddr;

use portcullis_wire::head::ResponseHead;

use crate::Request;

/// Who made the response the client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A plugin ended the request, or the gateway answered by rule (404, redirect).
    Exit,
    /// The gateway answered because something failed.
    Error,
    /// The upstream.
    Service,
}

impl Source {
    /// As log entries name it (`source`): `upstream` or `kong`.
    pub fn log_text(self) -> &'static str {
        if self == Source::Service { "upstream" } else { "kong" }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryState {
    /// It was the last try, and it failed.
    Failed,
    /// It failed and another was made.
    Next,
}

/// One attempt to reach the upstream.
#[derive(Clone, Debug)]
pub struct Try {
    /// Milliseconds since the epoch.
    pub balancer_start_ms: u64,
    pub balancer_start_ns: u64,
    pub balancer_latency_ns: u64,
    pub address: Option<SocketAddr>,
    /// None: it succeeded.
    pub state: Option<TryState>,
    /// The status nginx gives a failed try (502, 504), or the upstream's.
    pub code: Option<u16>,
}

/// Milliseconds; `proxy` is -1 when the request never went to an upstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latencies {
    /// Time spent in the gateway.
    pub kong: i64,
    /// Time spent waiting for the upstream's response head.
    pub proxy: i64,
    /// From the head's arrival to the last byte sent.
    pub request: i64,
    /// Time spent receiving the upstream's body.
    pub receive: i64,
}

/// What there is to know of a connection without HTTP; in the context of its request while it is logged.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Bytes from the client, all of which went to the upstream.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// 200, or what ended it.
    pub status: u16,
}

/// Everything there is to know of a finished exchange.
pub struct Exchange<'a> {
    pub request: &'a Request,
    pub response: &'a ResponseHead,
    pub source: Source,
    pub tries: &'a [Try],
    /// Path and query as they went to the upstream; none when nothing did.
    pub upstream_uri: Option<&'a [u8]>,
    /// Status of each upstream answer or failed try, joined by commas as nginx does.
    pub upstream_status: &'a str,
    pub latencies: Latencies,
    /// Bytes received from the client, head included.
    pub request_bytes: u64,
    /// Bytes sent to the client, head included.
    pub response_bytes: u64,
}
