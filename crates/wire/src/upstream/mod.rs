//! Connections to upstreams: pooled per worker thread, and one request and response at a time on each.

mod http2;
mod pool;
mod response;
mod send;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use http2::Relayed;
pub use pool::Pools;
pub(crate) use pool::{open, secure};
pub use response::UpstreamResponse;

/// Limits of the pools of one worker; the defaults are Kong's `upstream_keepalive_*`.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// Idle connections kept per target. Zero turns pooling off.
    pub size: usize,
    /// Requests on one connection before it is closed.
    pub max_requests: u32,
    /// How long an idle connection is kept.
    pub idle: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { size: 512, max_requests: 10_000, idle: Duration::from_secs(60) }
    }
}

/// Where a request goes.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub address: SocketAddr,
    pub tls: Option<&'a Arc<UpstreamTls>>,
}

/// How to speak TLS to an upstream. The server name is given with each request.
pub struct UpstreamTls {
    pub config: Arc<rustls::ClientConfig>,
    /// Connections of equal ids (and server names) may be shared.
    pub id: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    /// Between two writes of the request.
    pub write: Duration,
    /// Between two reads of the response.
    pub read: Duration,
}

/// The request body to send after the head.
#[derive(Clone, Copy, Debug)]
pub enum RequestBody<'a> {
    Empty,
    /// All of it; the head given has its `Content-Length`.
    Whole(&'a [u8]),
    /// It is still with the client: relayed in the framing `RequestHead::framing` says, which the head given must announce.
    Stream,
}

/// When things happened, for latencies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    /// A connection was there. For a pooled one this is what the worker's clock was last read as, not a reading of its own.
    pub connected: Option<Instant>,
    /// The response head was complete.
    pub first_byte: Option<Instant>,
    /// The connection came out of the pool.
    pub reused: bool,
}
