//! The client's side of HTTP/2 and HTTP/3: one task a connection, one a stream.
//!
//! A stream's request becomes a [`RequestHead`](crate::RequestHead) over an HTTP/1.1-like buffer, so that everything behind it
//! is the same. The two protocols differ in how a connection is served ([`http2`], [`http3`]) and in the ends of a stream
//! ([`ends`]); what is said on one is written once.
//!
//! - [`request`]: from a header block to a request head
//! - [`answer`]: the gateway's own answers, and an upstream's as it streams
//! - [`tunnel`]: WebSockets in a stream

mod answer;
mod ends;
pub(crate) mod http2;
pub(crate) mod http3;
mod request;
pub(crate) mod tunnel;

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;

pub(crate) use self::ends::Receiving;
use self::ends::Sending;
use crate::downstream::{Answer, Downstream, Side};
use crate::errors::BodyError;
use crate::head::{Method, Version};
use crate::serve::{Peer, Refusal, Service};
use crate::upstream::Relayed;
use crate::worker::{Timer, Worker};

/// Windows that let one upload run at full speed; what the upstream has not taken stays within them.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Largest header block, decoded.
const HEADER_LIST: u32 = 32 * 1024;

/// One stream of a client.
pub(crate) struct ClientStream {
    sending: Sending,
    /// None once an upload took it along.
    body: Option<Receiving>,
    /// Came and was not used yet.
    piece: Bytes,
    /// The body's last piece has come.
    ended: bool,
    body_bytes: u64,
    /// Bytes received by an upload that took the body along.
    uploaded: Rc<Cell<u64>>,
}

impl ClientStream {
    fn new(sending: Sending, body: Receiving) -> Self {
        let ended = body.has_ended();
        Self { sending, body: Some(body), piece: Bytes::new(), ended, body_bytes: 0, uploaded: Rc::default() }
    }

    pub(crate) fn buffered(&self) -> usize {
        self.piece.len()
    }

    pub(crate) fn body_is_read(&self) -> bool {
        self.ended && self.piece.is_empty()
    }

    /// Takes the rest of the request body out of the stream, for an HTTP/2 upstream.
    pub(crate) fn take_upload(&mut self) -> Option<Relayed> {
        self.ended = true;
        Some(Relayed { body: self.body.take()?, piece: self.take_piece(), received: self.uploaded.clone() })
    }

    pub(crate) fn uploaded(&self) -> u64 {
        self.uploaded.get()
    }

    pub(crate) fn abort(&mut self) {
        self.sending.reset();
    }

    /// Ready when the client reset the stream or the connection ended.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.sending.poll_gone(context)
    }

    /// Waits for the next piece of the request body. Ready with false once nothing follows the piece at hand.
    pub(crate) fn poll_piece(&mut self, worker: &Worker, timer: &Timer, context: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        if !self.piece.is_empty() || self.ended {
            return Poll::Ready(Ok(!self.ended));
        }
        if timer.expired() {
            timer.disarm();
            return Poll::Ready(Err(BodyError::Timeout));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(false)) };
        loop {
            match body.poll_data(context) {
                Poll::Pending => {
                    timer.arm(context, worker.settings.client_body_timeout);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(piece))) if piece.is_empty() && !body.has_ended() => {}
                Poll::Ready(Some(Ok(piece))) => {
                    timer.disarm();
                    self.piece = piece;
                    self.body_bytes += self.piece.len() as u64;
                    let limit = worker.settings.max_body_size;
                    if limit > 0 && self.body_bytes > limit {
                        return Poll::Ready(Err(BodyError::TooLarge));
                    }
                    self.ended = body.has_ended();
                    return Poll::Ready(Ok(!self.ended));
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(BodyError::ClientGone)),
                Poll::Ready(None) => {
                    timer.disarm();
                    self.ended = true;
                    return Poll::Ready(Ok(false));
                }
            }
        }
    }

    pub(crate) fn take_piece(&mut self) -> Bytes {
        std::mem::take(&mut self.piece)
    }

    /// Lets the client send as much again.
    pub(crate) fn open_window(&mut self, length: usize) {
        if let Some(body) = &mut self.body {
            body.open_window(length);
        }
    }

    /// Appends the request's trailers as lines.
    pub(crate) async fn read_trailers(&mut self, timer: &Timer, worker: &Worker, out: &mut Vec<u8>) -> Result<(), BodyError> {
        let Some(body) = &mut self.body else { return Ok(()) };
        let trailers = poll_fn(|context| {
            if timer.expired() {
                timer.disarm();
                return Poll::Ready(Err(BodyError::Timeout));
            }
            match body.poll_trailers(context) {
                Poll::Ready(trailers) => {
                    timer.disarm();
                    Poll::Ready(trailers.map_err(|_| BodyError::ClientGone))
                }
                Poll::Pending => {
                    timer.arm(context, worker.settings.client_body_timeout);
                    Poll::Pending
                }
            }
        })
        .await?;
        for (name, value) in trailers.iter().flatten() {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

impl Downstream {
    pub(crate) async fn stream_read_body(&mut self, into: &mut Vec<u8>, limit: u64) -> Result<(), BodyError> {
        let Downstream { worker, timer, exchange, side: Side::Stream(client), .. } = self else { return Err(BodyError::ClientGone) };
        let start = into.len();
        loop {
            let more = poll_fn(|context| client.poll_piece(worker, timer, context)).await?;
            let piece = client.take_piece();
            exchange.received += piece.len() as u64;
            if (into.len() - start + piece.len()) as u64 > limit {
                return Err(BodyError::TooLarge);
            }
            into.extend_from_slice(&piece);
            client.open_window(piece.len());
            if !more {
                return Ok(());
            }
        }
    }
}

/// Counts one stream while it lives.
struct OpenStream(Rc<Cell<usize>>);

impl OpenStream {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Serves one request, if its head could be read, and its answer. `requests` counts those of the connection, this one included.
async fn serve_stream<S: Service>(
    service: Rc<S>,
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    version: Version,
    parts: Result<Parts, Refusal>,
    mut client: ClientStream,
    requests: u64,
) {
    let mut head = worker.take_request();
    let has_body = !client.ended;
    let judged = match &parts {
        Ok(parts) => request::read_head(parts, has_body, worker.settings.max_body_size, &mut head),
        Err(refusal) => {
            head.clear();
            Err(*refusal)
        }
    };
    head.version = version;
    drop(parts);
    // HTTP/3 tells the end of a stream apart from its head: whether there is a body may show only now.
    let usually_none = matches!(head.method, Method::Get | Method::Head | Method::Delete | Method::Options);
    if version == Version::Http3 && head.framing == crate::Framing::Chunked && usually_none {
        let timer = worker.timer();
        // What went wrong shows again when the body is read.
        let _ = poll_fn(|context| client.poll_piece(&worker, &timer, context)).await;
        if client.body_is_read() {
            head.framing = crate::Framing::None;
        }
    }
    let mut down = Downstream::new(&worker, peer, Side::Stream(Box::new(client)));
    down.exchange.requests = requests - 1;
    down.exchange.begin(&head, head.headers.size() as u64);
    match judged {
        Ok(()) => service.serve(&mut head, &mut down).await,
        Err(refusal) => {
            let (mut answer, body) = service.refuse(&refusal, &head, &down.peer);
            // A client that is gone has nothing to be told.
            let _ = down.respond(&mut answer, &body).await;
        }
    }
    worker.give_request(head);
    if down.exchange.answer != Answer::Complete
        && let Side::Stream(client) = &mut down.side
    {
        client.abort();
    }
}
