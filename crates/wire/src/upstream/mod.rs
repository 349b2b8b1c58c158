//! Connections to upstreams: pooled per worker thread, and one request and response at a time on each.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::downstream::Downstream;
use crate::errors::{UpstreamError, UpstreamErrorKind};
use crate::head::{RequestHead, ResponseHead};
use crate::worker::Worker;

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
    /// A connection was there.
    pub connected: Option<Instant>,
    /// The last byte of the request was written.
    pub sent: Option<Instant>,
    /// The response head was complete.
    pub first_byte: Option<Instant>,
    /// The connection came out of the pool.
    pub reused: bool,
}

/// Idle upstream connections of one worker thread.
pub struct Pools {
    worker: Rc<Worker>,
    settings: PoolSettings,
}

impl Pools {
    pub fn new(worker: &Rc<Worker>, settings: PoolSettings) -> Rc<Self> {
        Rc::new(Self { worker: worker.clone(), settings })
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// Takes a pooled connection or connects. `head` is the complete upstream request head, with its blank line. A pooled
    /// connection that turns out closed before a response byte is replaced by a fresh one when that is safe. While waiting
    /// the client is watched. An upstream that answers before the request body ended is heard; the rest of the body is not
    /// read, and the client connection closes after the answer. Interim responses other than 101 are passed to clients of
    /// HTTP/1.1 and up.
    #[expect(clippy::too_many_arguments)]
    pub async fn send(
        &self,
        target: &Target<'_>,
        server_name: &str,
        head: &[u8],
        body: RequestBody<'_>,
        idempotent: bool,
        request: &RequestHead,
        down: &mut Downstream,
        timeouts: &Timeouts,
        moments: &mut Moments,
    ) -> Result<(ResponseHead, UpstreamResponse), UpstreamError> {
        let _ = (target, server_name, head, body, idempotent, request, down, timeouts, moments, &self.worker, self.settings);
        Err(UpstreamError::new(UpstreamErrorKind::Closed, false))
    }
}

/// A response whose body is still to come, on its connection. Dropping it closes the connection.
pub struct UpstreamResponse {
    worker: Rc<Worker>,
}

impl UpstreamResponse {
    /// Reads the whole body, without its chunked coding, and appends it to `into`; at most `limit` bytes in all.
    pub async fn read_body(&mut self, into: &mut Vec<u8>, limit: u64) -> Result<(), UpstreamError> {
        let _ = (into, limit, &self.worker);
        Err(UpstreamError::new(UpstreamErrorKind::Closed, false))
    }
}
