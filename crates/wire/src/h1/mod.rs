//! The client's side of HTTP/1.1: one task a connection, one exchange after the other.
//!
//! No buffer is held while waiting. A keep-alive request costs four data system calls: one read and one write on each side.

pub(crate) mod relay;
pub(crate) mod write;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::body::Body;
use crate::buffer::{Buffer, write_both};
use crate::downstream::{Answer, Downstream, Side};
use crate::errors::{BodyError, ClientGone};
use crate::head::{Framing, Method, RequestHead, ResponseHead};
use crate::headers::Known;
use crate::parse::{Parsed, parse_request};
use crate::serve::{Refusal, Service};
use crate::socket::Socket;
use crate::worker::{Timer, Worker};
use write::{Connection, Outgoing, write_head};

/// Bodies up to this size are copied behind the head to leave in one slice.
pub(crate) const SMALL_BODY: usize = 4096;
/// What a client may still send of a body nobody wants before its connection is given up.
const DISCARD_LIMIT: u64 = 1024 * 1024;
/// How a connection lingers after an answer the client may not have read yet: per wait, and reads in all.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
const LINGER_READS: usize = 1024;

/// An HTTP/1.1 client connection.
pub(crate) struct H1 {
    pub(crate) socket: Socket,
    pub(crate) buffer: Buffer,
    /// What of the request body is unread.
    pub(crate) body: Body,
    /// Payload of the request body so far.
    pub(crate) body_bytes: u64,
    /// The client waits for `100 Continue`.
    pub(crate) continue_due: bool,
    /// The client finished sending but may still read.
    half_closed: bool,
    /// Whether the connection was looked at since the request was read.
    watched: bool,
}

impl H1 {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, buffer: Buffer::default(), body: Body::NONE, body_bytes: 0, continue_due: false, half_closed: false, watched: false }
    }

    /// Ready when the client closed its side while an answer was under way. What it sends meanwhile is kept for later.
    ///
    /// A client that had closed its sending side by the first look, that is when its request had just been read, waits for its
    /// answer; one that closes later has gone away. nginx does the same.
    #[inline]
    pub(crate) fn poll_gone(&mut self, worker: &Worker, context: &mut Context<'_>) -> Poll<()> {
        let first_look = !std::mem::replace(&mut self.watched, true);
        if self.half_closed {
            return Poll::Pending;
        }
        while self.socket.poll_stirred(context).is_ready() {
            if self.buffer.is_full() {
                return Poll::Pending;
            }
            match self.buffer.poll_read(&mut self.socket, worker, context) {
                Poll::Ready(Ok(0)) if first_look => {
                    self.half_closed = true;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    /// Says `100 Continue` if the client waits for it and has not begun to send anyway.
    pub(crate) async fn invite_body(&mut self, timer: &Timer, timeout: Duration, sent: &mut u64) -> io::Result<()> {
        if std::mem::replace(&mut self.continue_due, false) && self.buffer.is_empty() && !self.body.is_done() {
            write_both(&mut self.socket, timer, timeout, b"HTTP/1.1 100 Continue\r\n\r\n", b"", sent).await?;
        }
        Ok(())
    }

    /// Reads more of the request body into the buffer.
    pub(crate) fn poll_body(&mut self, worker: &Worker, timer: &Timer, context: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        let timeout = worker.settings.client_body_timeout;
        self.buffer.poll_fill(&mut self.socket, worker, timer, timeout, context).map(|read| match read {
            Ok(0) => Err(BodyError::ClientGone),
            Ok(length) => Ok(length),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(BodyError::Timeout),
            Err(_) => Err(BodyError::ClientGone),
        })
    }

    /// Marks what is in the buffer as body; answers its length. The caller consumes it.
    #[inline]
    pub(crate) fn take_body(&mut self, worker: &Worker) -> Result<usize, BodyError> {
        if self.body.is_done() {
            return Ok(0);
        }
        let length = self.body.take(self.buffer.data(), &mut self.body_bytes).map_err(|_| BodyError::Malformed)?;
        let limit = worker.settings.max_body_size;
        if limit > 0 && self.body_bytes > limit { Err(BodyError::TooLarge) } else { Ok(length) }
    }

    async fn read_body(
        &mut self,
        worker: &Worker,
        timer: &Timer,
        into: &mut Vec<u8>,
        limit: u64,
        sent: &mut u64,
    ) -> Result<u64, BodyError> {
        let configured = worker.settings.max_body_size;
        let limit = if configured > 0 { limit.min(configured) } else { limit };
        if let Body::Length(left) = self.body {
            if self.body_bytes + left > limit {
                return Err(BodyError::TooLarge);
            }
            into.reserve(left as usize);
        }
        let mut received = 0;
        let mut trailers = Vec::new();
        while !self.body.is_done() {
            if self.buffer.is_empty() {
                self.invite_body(timer, worker.settings.send_timeout, sent).await.map_err(|_| BodyError::ClientGone)?;
                poll_fn(|context| self.poll_body(worker, timer, context)).await?;
            }
            let before = into.len();
            let length = self.body.decode(self.buffer.data(), into, &mut trailers).map_err(|_| BodyError::Malformed)?;
            trailers.clear();
            self.buffer.consume(length);
            received += length as u64;
            self.body_bytes += (into.len() - before) as u64;
            if self.body_bytes > limit {
                return Err(BodyError::TooLarge);
            }
        }
        self.buffer.release(worker);
        Ok(received)
    }

    /// Reads ahead until the whole body is in the read buffer, taking nothing of it. False when it is larger than that.
    async fn gather_body(&mut self, worker: &Worker, timer: &Timer, sent: &mut u64) -> Result<bool, BodyError> {
        loop {
            let mut ahead = self.body;
            ahead.take(self.buffer.data(), &mut 0).map_err(|_| BodyError::Malformed)?;
            if ahead.is_done() {
                return Ok(true);
            }
            if self.buffer.is_full() {
                return Ok(false);
            }
            self.invite_body(timer, worker.settings.send_timeout, sent).await.map_err(|_| BodyError::ClientGone)?;
            poll_fn(|context| self.poll_body(worker, timer, context)).await?;
        }
    }

    /// Reads and forgets what is left of the request body, within limits. Whether its end was reached.
    async fn discard_body(&mut self, worker: &Worker, timer: &Timer) -> bool {
        let limit = self.body_bytes.saturating_add(DISCARD_LIMIT);
        loop {
            match self.body.take(self.buffer.data(), &mut self.body_bytes) {
                Ok(length) => self.buffer.consume(length),
                Err(_) => return false,
            }
            if self.body.is_done() {
                return true;
            }
            if self.body_bytes > limit || poll_fn(|context| self.poll_body(worker, timer, context)).await.is_err() {
                return false;
            }
        }
    }

    /// Whether what is left of the body is worth reading to save the connection.
    fn body_is_worth_discarding(&self) -> bool {
        match self.body {
            Body::Length(left) => left <= DISCARD_LIMIT && !self.continue_due,
            _ => !self.continue_due || self.body.is_done(),
        }
    }

    /// Closes so that the client can read the answer: our side first, then what it still sends is read away (a close with
    /// unread bytes would reset the connection and lose the answer).
    async fn linger(&mut self, worker: &Worker, timer: &Timer) {
        if self.socket.shutdown().await.is_err() {
            return;
        }
        for _ in 0..LINGER_READS {
            self.buffer.discard(worker);
            match self.buffer.fill(&mut self.socket, worker, timer, LINGER_TIMEOUT).await {
                Ok(length) if length > 0 => {}
                _ => break,
            }
        }
        self.buffer.discard(worker);
    }
}

enum Next {
    Request(RequestHead),
    Refused(RequestHead, Refusal),
    Closed,
}

/// Serves one connection until it ends.
pub(crate) async fn run<S: Service>(service: Rc<S>, mut down: Downstream) {
    loop {
        match next_request(&mut down).await {
            Next::Request(mut request) => {
                service.serve(&mut request, &mut down).await;
                let refused_late = down.exchange.answer == Answer::None;
                down.worker.give_request(request);
                if refused_late || !finish(&mut down).await {
                    break;
                }
            }
            Next::Refused(request, refusal) => {
                refuse(&*service, &mut down, &request, &refusal).await;
                break;
            }
            Next::Closed => break,
        }
    }
    if let Side::H1(h1) = &mut down.side {
        h1.buffer.discard(&down.worker);
    }
}

/// Answers a message that did not become a request, and closes.
pub(crate) async fn refuse<S: Service>(service: &S, down: &mut Downstream, request: &RequestHead, refusal: &Refusal) {
    let (mut head, body) = service.refuse(refusal, request, &down.peer);
    down.exchange.keep_alive = false;
    down.exchange.is_head = request.method == Method::Head;
    if down.respond(&mut head, &body).await.is_ok()
        && let Side::H1(h1) = &mut down.side
    {
        h1.linger(&down.worker, &down.timer).await;
    }
}

/// Answers plain HTTP that came to a TLS port (nginx' 497, which leaves as 400), and closes.
pub(crate) async fn refuse_plain<S: Service>(service: Rc<S>, mut down: Downstream) {
    let request = match next_request(&mut down).await {
        Next::Request(request) | Next::Refused(request, _) => request,
        Next::Closed => return,
    };
    refuse(&*service, &mut down, &request, &Refusal::new(497, "plain HTTP request to a TLS port")).await;
}

/// Waits for the next request head. No buffer and no head is held until its first byte is there.
async fn next_request(down: &mut Downstream) -> Next {
    let Downstream { worker, timer, exchange, side: Side::H1(h1), .. } = down else { return Next::Closed };
    timer.disarm();
    let first = exchange.requests == 0;
    let settings = &worker.settings;
    let idle = if first { settings.client_header_timeout } else { settings.keepalive_timeout };
    // Parsed again only when the end of the head may have come, or twice as much as last time: a head that drips in byte by
    // byte must not cost the square of its length.
    let (mut parsed_up_to, mut started): (usize, Option<Instant>) = (0, None);
    loop {
        if !h1.buffer.is_empty() && may_be_complete(h1.buffer.data(), parsed_up_to) {
            let mut request = worker.take_request();
            match parse_request(h1.buffer.data(), &mut request) {
                Ok(Parsed::Complete(length)) => {
                    h1.buffer.consume(length);
                    exchange.begin(&request, length as u64);
                    h1.begin(&request, worker);
                    if let Framing::Length(length) = request.framing
                        && settings.max_body_size > 0
                        && length > settings.max_body_size
                    {
                        return Next::Refused(request, Refusal::new(413, "request body larger than allowed"));
                    }
                    return Next::Request(request);
                }
                Ok(Parsed::Partial) => {
                    parsed_up_to = h1.buffer.len();
                    worker.give_request(request);
                }
                Err(refusal) => return Next::Refused(request, refusal),
            }
        }
        let timeout = match started {
            None if h1.buffer.is_empty() => idle,
            _ => {
                let now = worker.clock().last();
                let since = *started.get_or_insert(now);
                let timeout = settings.client_header_timeout.saturating_sub(now.duration_since(since));
                if timeout.is_zero() {
                    return Next::Refused(worker.take_request(), Refusal::new(408, "request head timed out"));
                }
                timeout
            }
        };
        let read = poll_fn(|context| {
            let read = h1.buffer.poll_fill(&mut h1.socket, worker, timer, timeout, context);
            // Nothing is under way on a drained connection: it may close. One that never asked yet is waited for.
            if read.is_pending() && worker.closing_idle() && !first && h1.buffer.is_empty() { Poll::Ready(Ok(0)) } else { read }
        })
        .await;
        match read {
            Ok(length) if length > 0 => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !h1.buffer.is_empty() => {
                return Next::Refused(worker.take_request(), Refusal::new(408, "request head timed out"));
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Next::Refused(worker.take_request(), crate::parse::limits::HEADER_TOO_LARGE);
            }
            _ => {
                let _ = h1.socket.shutdown().await;
                return Next::Closed;
            }
        }
    }
}

impl H1 {
    #[inline]
    fn begin(&mut self, request: &RequestHead, worker: &Worker) {
        self.body = Body::new(request.framing);
        self.body_bytes = 0;
        self.continue_due = request.expects_continue;
        self.watched = false;
        self.buffer.release(worker);
    }
}

/// Whether parsing `bytes` may bring more than it did when only `parsed` of them were there.
#[inline]
fn may_be_complete(bytes: &[u8], parsed: usize) -> bool {
    if parsed == 0 || bytes.len() >= parsed * 2 {
        return true;
    }
    let fresh = &bytes[parsed.saturating_sub(3)..];
    memchr::memchr_iter(b'\n', fresh).any(|at| matches!(fresh[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

/// Clears up after an answer. Whether the connection may carry another request.
async fn finish(down: &mut Downstream) -> bool {
    let Downstream { worker, timer, exchange, side: Side::H1(h1), .. } = down else { return false };
    timer.disarm();
    if exchange.answer != Answer::Complete {
        return false;
    }
    if exchange.keep_alive && (h1.body.is_done() || h1.discard_body(worker, timer).await) {
        h1.buffer.release(worker);
        return true;
    }
    if h1.body.is_done() && h1.buffer.is_empty() {
        let _ = h1.socket.shutdown().await;
    } else {
        h1.linger(worker, timer).await;
    }
    false
}

impl Downstream {
    pub(crate) async fn h1_read_body(&mut self, into: &mut Vec<u8>, limit: u64) -> Result<(), BodyError> {
        let Downstream { worker, timer, exchange, side: Side::H1(h1), .. } = self else { return Err(BodyError::ClientGone) };
        match h1.read_body(worker, timer, into, limit, &mut exchange.sent).await {
            Ok(received) => {
                exchange.received += received;
                Ok(())
            }
            Err(error) => {
                exchange.keep_alive = false;
                Err(error)
            }
        }
    }

    pub(crate) async fn h1_gather_body(&mut self) -> Result<bool, BodyError> {
        let Downstream { worker, timer, exchange, side: Side::H1(h1), .. } = self else { return Ok(false) };
        h1.gather_body(worker, timer, &mut exchange.sent).await.inspect_err(|_| exchange.keep_alive = false)
    }

    pub(crate) async fn h1_respond(&mut self, head: &mut ResponseHead, body: &[u8]) -> Result<(), ClientGone> {
        let Downstream { worker, timer, exchange, side: Side::H1(h1), .. } = self else { return Err(ClientGone) };
        if !h1.body.is_done() && !h1.body_is_worth_discarding() {
            exchange.keep_alive = false;
        }
        let bodiless = exchange.is_head || head.status == 304;
        let outgoing = if head.status < 200 || head.status == 204 {
            Outgoing::Forbidden
        } else if head.status == 304 || (exchange.is_head && body.is_empty() && head.headers.known(Known::ContentLength).is_some()) {
            Outgoing::None
        } else {
            Outgoing::Length(body.len() as u64)
        };
        let body = if bodiless || outgoing == Outgoing::Forbidden { &[] } else { body };
        let mut out = worker.take_vector();
        write_head(&mut out, head, outgoing, exchange.connection(worker));
        let rest = if body.len() <= SMALL_BODY {
            out.extend_from_slice(body);
            &[]
        } else {
            body
        };
        exchange.answer = Answer::Begun;
        let sent = write_both(&mut h1.socket, timer, worker.settings.send_timeout, &out, rest, &mut exchange.sent).await;
        worker.give_vector(out);
        match sent {
            Ok(()) => {
                exchange.answer = Answer::Complete;
                exchange.body_sent = body.len() as u64;
                Ok(())
            }
            Err(_) => Err(ClientGone),
        }
    }

    /// Passes bytes on as they are (interim responses).
    pub(crate) async fn h1_send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientGone> {
        let Downstream { worker, timer, exchange, side: Side::H1(h1), .. } = self else { return Ok(()) };
        write_both(&mut h1.socket, timer, worker.settings.send_timeout, bytes, b"", &mut exchange.sent).await.map_err(|_| ClientGone)
    }
}

impl crate::downstream::Exchange {
    /// What the answer's `Connection` line says; settles whether the connection stays.
    #[inline]
    pub(crate) fn connection(&mut self, worker: &Worker) -> Connection {
        self.keep_alive &=
            !worker.draining() && self.requests < worker.settings.keepalive_requests && !worker.settings.keepalive_timeout.is_zero();
        if self.keep_alive { Connection::KeepAlive } else { Connection::Close }
    }
}
