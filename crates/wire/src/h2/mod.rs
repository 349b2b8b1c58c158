//! The client's side of HTTP/2, on the `h2` crate: one task a connection, one a stream.
//!
//! A stream's request becomes a [`RequestHead`] over an HTTP/1.1-like buffer, so that everything behind it is the same.

mod answer;
mod request;
pub(crate) mod tunnel;

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use crate::downstream::{Answer, Downstream, Side};
use crate::errors::BodyError;
use crate::serve::{Peer, Service};
use crate::socket::Socket;
use crate::upstream::Relayed;
use crate::worker::{Timer, Worker};

/// Windows that let one upload run at full speed; what the upstream has not taken stays within them.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of responses queued per stream before the upstream is no longer read.
const SEND_BUFFER: usize = 256 * 1024;
const HEADER_LIST: u32 = 32 * 1024;
/// Streams a client may reset before they were served, and resets of ours it may provoke, before the connection is closed
/// (rapid reset, CVE-2023-44487).
const PENDING_RESETS: usize = 50;
const LOCAL_RESETS: usize = 1024;

/// One HTTP/2 stream.
pub(crate) struct H2 {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    /// None once an upload took it along.
    body: Option<RecvStream>,
    /// Came and was not used yet.
    piece: Bytes,
    /// The body's last piece has come.
    ended: bool,
    body_bytes: u64,
    /// Bytes received by an upload that took the body along.
    uploaded: Rc<Cell<u64>>,
}

impl H2 {
    fn new(respond: SendResponse<Bytes>, body: RecvStream) -> Self {
        let ended = body.is_end_stream();
        Self { respond, stream: None, body: Some(body), piece: Bytes::new(), ended, body_bytes: 0, uploaded: Rc::default() }
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
        match &mut self.stream {
            Some(stream) => stream.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    /// Ready when the client reset the stream or the connection ended.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            Some(stream) => stream.poll_reset(context).map(|_| ()),
            None => self.respond.poll_reset(context).map(|_| ()),
        }
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
                Poll::Ready(Some(Ok(piece))) if piece.is_empty() && !body.is_end_stream() => {}
                Poll::Ready(Some(Ok(piece))) => {
                    timer.disarm();
                    self.piece = piece;
                    self.body_bytes += self.piece.len() as u64;
                    let limit = worker.settings.max_body_size;
                    if limit > 0 && self.body_bytes > limit {
                        return Poll::Ready(Err(BodyError::TooLarge));
                    }
                    self.ended = body.is_end_stream();
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
        // Fails only for more than was received.
        let _ = self.body.as_mut().map(|body| body.flow_control().release_capacity(length));
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
    pub(crate) async fn h2_read_body(&mut self, into: &mut Vec<u8>, limit: u64) -> Result<(), BodyError> {
        let Downstream { worker, timer, exchange, side: Side::H2(h2), .. } = self else { return Err(BodyError::ClientGone) };
        let start = into.len();
        loop {
            let more = poll_fn(|context| h2.poll_piece(worker, timer, context)).await?;
            let piece = h2.take_piece();
            exchange.received += piece.len() as u64;
            if (into.len() - start + piece.len()) as u64 > limit {
                return Err(BodyError::TooLarge);
            }
            into.extend_from_slice(&piece);
            h2.open_window(piece.len());
            if !more {
                return Ok(());
            }
        }
    }
}

/// Serves one connection until it ends.
pub(crate) async fn run<S: Service>(service: Rc<S>, worker: Rc<Worker>, peer: Rc<Peer>, socket: Socket) {
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(worker.settings.http2_max_concurrent_streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        .enable_connect_protocol()
        .handshake::<_, Bytes>(socket);
    let Ok(Ok(mut connection)) = tokio::time::timeout(worker.settings.client_header_timeout, handshake).await else { return };
    let timer = worker.timer();
    let open = Rc::new(Cell::new(0usize));
    let mut requests = 0u64;
    let mut leaving = false;
    loop {
        let accepted = poll_fn(|context| {
            let accepted = connection.poll_accept(context);
            if accepted.is_ready() || open.get() > 0 {
                timer.disarm();
            }
            if accepted.is_ready() {
                return accepted;
            }
            let idle_for_too_long = timer.expired();
            if !leaving && (worker.draining() || idle_for_too_long || requests >= worker.settings.keepalive_requests) {
                leaving = true;
                timer.disarm();
                connection.graceful_shutdown();
                return connection.poll_accept(context);
            }
            if leaving && idle_for_too_long {
                return Poll::Ready(None);
            }
            // Armed also while streams run, for the waker that draining needs; renewed with each stream.
            timer.arm(context, worker.settings.keepalive_timeout);
            if open.get() > 0 {
                timer.disarm();
            }
            Poll::Pending
        })
        .await;
        let Some(Ok((request, respond))) = accepted else { return };
        requests += 1;
        let guard = OpenStream::new(&open);
        let (service, worker, peer) = (service.clone(), worker.clone(), peer.clone());
        tokio::task::spawn_local(async move {
            let _guard = guard;
            serve_stream(service, worker, peer, request, respond, requests).await;
        });
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

async fn serve_stream<S: Service>(
    service: Rc<S>,
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    requests: u64,
) {
    let (parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let mut head = worker.take_request();
    let judged = request::read_head(&parts, has_body, worker.settings.max_body_size, &mut head);
    drop(parts);
    let mut down = Downstream::new(&worker, peer, Side::H2(Box::new(H2::new(respond, body))));
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
        && let Side::H2(h2) = &mut down.side
    {
        h2.abort();
    }
}
