//! The client's side of one exchange: HTTP/1.1 over TCP, TLS or a unix socket, or one stream of HTTP/2 or HTTP/3.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::errors::{BodyError, ClientGone, RelayError};
use crate::h1::H1;
use crate::head::{Method, RequestHead, ResponseHead, Version};
use crate::headers::Known;
use crate::multiplexed::ClientStream;
use crate::parse::tokens;
use crate::serve::{BodyFilter, Peer};
use crate::upstream::UpstreamResponse;
use crate::worker::{Timer, Worker};

/// How far the answer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    None,
    Begun,
    Complete,
}

/// What the engine keeps of one request while it is answered.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Requests on the connection so far, this one included.
    pub(crate) requests: u64,
    pub(crate) version: Version,
    pub(crate) is_head: bool,
    /// The client sent `TE: trailers`.
    pub(crate) wants_trailers: bool,
    /// The connection may stay open afterwards.
    pub(crate) keep_alive: bool,
    pub(crate) answer: Answer,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) body_sent: u64,
}

impl Exchange {
    pub(crate) fn new() -> Self {
        Self {
            requests: 0,
            version: Version::Http11,
            is_head: false,
            wants_trailers: false,
            keep_alive: true,
            answer: Answer::None,
            received: 0,
            sent: 0,
            body_sent: 0,
        }
    }

    #[inline]
    pub(crate) fn begin(&mut self, request: &RequestHead, head_length: u64) {
        self.requests += 1;
        self.version = request.version;
        self.is_head = request.method == Method::Head;
        self.wants_trailers =
            request.headers.known(Known::Te).is_some_and(|value| tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers")));
        self.keep_alive = request.keep_alive;
        self.answer = Answer::None;
        self.received = head_length;
        self.sent = 0;
        self.body_sent = 0;
    }
}

pub(crate) enum Side {
    H1(H1),
    Stream(Box<ClientStream>),
}

/// The client's side of one exchange.
pub struct Downstream {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: Rc<Peer>,
    pub(crate) timer: Timer,
    pub(crate) exchange: Exchange,
    pub(crate) side: Side,
}

impl Downstream {
    pub(crate) fn new(worker: &Rc<Worker>, peer: Rc<Peer>, side: Side) -> Self {
        Self { worker: worker.clone(), peer, timer: worker.timer(), exchange: Exchange::new(), side }
    }

    #[inline]
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    #[inline]
    pub fn peer(&self) -> &Rc<Peer> {
        &self.peer
    }

    /// Requests on this connection so far, this one included.
    pub fn requests_on_connection(&self) -> u64 {
        self.exchange.requests
    }

    /// Bytes of this exchange received from the client so far, its head included. For HTTP/2 and HTTP/3 the head counts as the HTTP/1.1
    /// text it was turned into.
    pub fn bytes_received(&self) -> u64 {
        let uploaded = if let Side::Stream(client) = &self.side { client.uploaded() } else { 0 };
        self.exchange.received + uploaded
    }

    /// Bytes of this exchange sent to the client so far, the head included.
    pub fn bytes_sent(&self) -> u64 {
        self.exchange.sent
    }

    /// Body bytes of this exchange sent to the client so far, without their framing.
    pub fn body_bytes_sent(&self) -> u64 {
        self.exchange.body_sent
    }

    /// Body bytes of the request that are unread and in memory already, as they came (chunk sizes included).
    pub fn buffered(&self) -> usize {
        match &self.side {
            Side::H1(h1) if h1.body.is_done() => 0,
            Side::H1(h1) => h1.buffer.len(),
            Side::Stream(client) => client.buffered(),
        }
    }

    /// Whether the request body has been read to its end (or there was none).
    pub fn body_is_read(&self) -> bool {
        match &self.side {
            Side::H1(h1) => h1.body.is_done(),
            Side::Stream(client) => client.body_is_read(),
        }
    }

    /// Reads what is left of the request body, without its chunked coding, and appends it to `into`; more than `limit` bytes
    /// in all is [`BodyError::TooLarge`]. Says `100 Continue` first if the client waits for it.
    pub async fn read_body(&mut self, into: &mut Vec<u8>, limit: u64) -> Result<(), BodyError> {
        self.timer.disarm();
        match &self.side {
            Side::H1(_) => self.h1_read_body(into, limit).await,
            Side::Stream(_) => Box::pin(self.stream_read_body(into, limit)).await,
        }
    }

    /// Reads ahead until the whole request body is in memory, where that is possible within the connection's read buffer
    /// (32 KiB). Nothing is taken: [`Downstream::read_body`] or streaming follows. False for larger bodies and for HTTP/2 and HTTP/3.
    pub async fn gather_body(&mut self) -> Result<bool, BodyError> {
        self.timer.disarm();
        match &self.side {
            Side::H1(_) => self.h1_gather_body().await,
            Side::Stream(_) => Ok(false),
        }
    }

    /// Sends a complete answer of the gateway's own. Sets `Content-Length` unless the status forbids a body; the body stays
    /// unsent for HEAD, where a `Content-Length` in `head` stays if `body` is empty. `Connection` and `Upgrade` lines of the
    /// head go out beside the wire's own `Connection` line (426 answers need them).
    pub async fn respond(&mut self, head: &mut ResponseHead, body: &[u8]) -> Result<(), ClientGone> {
        self.timer.disarm();
        self.name_alternative(head);
        match &self.side {
            Side::H1(_) => self.h1_respond(head, body).await,
            Side::Stream(_) => Box::pin(self.stream_respond(head, body, &[])).await,
        }
    }

    /// As [`Downstream::respond`], with trailers after the body: lines, as the chunked coding has them. HTTP/1 clients don't get
    /// them.
    pub async fn respond_with_trailers(&mut self, head: &mut ResponseHead, body: &[u8], trailers: &[u8]) -> Result<(), ClientGone> {
        self.timer.disarm();
        self.name_alternative(head);
        match &self.side {
            Side::H1(_) => self.h1_respond(head, body).await,
            Side::Stream(_) => Box::pin(self.stream_respond(head, body, trailers)).await,
        }
    }

    /// Streams an upstream's response to the client: the head as edited, and the body as `up` delivers it. Ends once the last
    /// byte is with the kernel, with the number of body bytes sent; the upstream connection goes back to its pool if clean.
    ///
    /// A filter sees the decoded body, which is framed anew: `Content-Length` only if it is still in `head.headers`, else
    /// chunked, or until close for HTTP/1.0. Answers that have no body (HEAD, 204, 304) pass the filter by. Without a filter
    /// chunked bodies go to HTTP/1.1 clients as they came. Bodies that end with the connection become chunked.
    pub async fn relay(
        &mut self,
        head: &mut ResponseHead,
        up: UpstreamResponse,
        filter: Option<&mut dyn BodyFilter>,
    ) -> Result<u64, RelayError> {
        self.timer.disarm();
        self.name_alternative(head);
        match &self.side {
            Side::H1(_) => self.h1_relay(head, up, filter).await,
            Side::Stream(_) => Box::pin(self.stream_relay(head, up, filter)).await,
        }
    }

    /// After a 101: sends the head, then bytes both ways until either side ends. Answers (bytes to the client, bytes from it).
    /// The upstream's read timeout ends a tunnel that is silent both ways.
    pub async fn tunnel(&mut self, head: &mut ResponseHead, up: UpstreamResponse) -> Result<(u64, u64), RelayError> {
        self.timer.disarm();
        match &self.side {
            Side::H1(_) => Box::pin(crate::tunnel::run(self, head, up)).await,
            Side::Stream(_) => Box::pin(crate::multiplexed::tunnel::run(self, head, up)).await,
        }
    }

    /// Tells of HTTP/3 where it is spoken on the same port, unless the answer names other ways itself.
    #[inline]
    fn name_alternative(&self, head: &mut ResponseHead) {
        if let Some(value) = &self.peer.alternative
            && head.headers.get("alt-svc").is_none()
        {
            head.headers.append("Alt-Svc", value);
        }
    }

    /// Closes the connection (or resets the stream) without an answer.
    pub fn abort(&mut self) {
        self.exchange.keep_alive = false;
        self.exchange.answer = Answer::None;
        if let Side::Stream(client) = &mut self.side {
            client.abort();
        }
    }

    /// Closes the connection after this exchange and says so in the answer.
    pub fn close_after(&mut self) {
        self.exchange.keep_alive = false;
    }

    /// Ready when the client went away while an answer was awaited.
    #[inline]
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.side {
            Side::H1(h1) => h1.poll_gone(&self.worker, context),
            Side::Stream(client) => client.poll_gone(context),
        }
    }
}
