//! Writing a request to an upstream while listening for an answer that comes early.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::buffer::Buffer;
use crate::downstream::{Downstream, Side};
use crate::errors::{BodyError, UpstreamError, UpstreamErrorKind};
use crate::head::Framing;
use crate::parse::chunked::encode_chunk;
use crate::socket::Socket;
use crate::worker::{Timer, Worker};

/// How sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// The upstream answered before the request had ended.
    Early,
    /// The connection broke before a byte of a response. `untouched`: not one byte had been taken.
    Broken {
        untouched: bool,
    },
}

/// The connection a request goes out on; `buffer` gets what comes back.
pub(super) struct Wire<'a> {
    pub(super) socket: &'a mut Socket,
    pub(super) buffer: &'a mut Buffer,
    pub(super) worker: &'a Worker,
    /// Between two writes.
    pub(super) timeout: Duration,
}

impl Wire<'_> {
    /// Writes both slices. While the connection takes nothing more it is listened to.
    #[inline]
    pub(super) async fn send_both(&mut self, timer: &Timer, mut first: &[u8], mut second: &[u8]) -> Result<Sent, UpstreamError> {
        let mut untouched = true;
        poll_fn(|context| {
            while first.len() + second.len() > 0 {
                match self.socket.poll_write_both(first, second, context) {
                    Poll::Ready(Ok(length)) if length > 0 => {
                        timer.disarm();
                        untouched = false;
                        let of_first = length.min(first.len());
                        first = &first[of_first..];
                        second = &second[length - of_first..];
                    }
                    Poll::Ready(_) => return Poll::Ready(Ok(Sent::Broken { untouched })),
                    Poll::Pending => return self.poll_early(timer, untouched, context),
                }
            }
            match Pin::new(&mut *self.socket).poll_flush(context) {
                Poll::Ready(Ok(())) => {
                    timer.disarm();
                    Poll::Ready(Ok(Sent::All))
                }
                Poll::Ready(Err(_)) => Poll::Ready(Ok(Sent::Broken { untouched: false })),
                Poll::Pending => self.poll_early(timer, untouched, context),
            }
        })
        .await
    }

    /// A connection that takes nothing at the moment: whether it says something instead, or took nothing for too long.
    fn poll_early(&mut self, timer: &Timer, untouched: bool, context: &mut Context<'_>) -> Poll<Result<Sent, UpstreamError>> {
        if timer.expired() {
            timer.disarm();
            return Poll::Ready(Err(UpstreamError::new(UpstreamErrorKind::SendTimeout, untouched)));
        }
        timer.arm(context, self.timeout);
        match self.poll_answer(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(answered) => {
                timer.disarm();
                Poll::Ready(Ok(if answered { Sent::Early } else { Sent::Broken { untouched } }))
            }
        }
    }

    /// Ready with true once a final response has begun, with false once the connection broke without one.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            if !is_interim(self.buffer.data()) {
                return Poll::Ready(true);
            }
            if self.buffer.is_full() || self.socket.poll_stirred(context).is_pending() {
                return Poll::Pending;
            }
            match self.buffer.poll_read(self.socket, self.worker, context) {
                Poll::Ready(Ok(length)) if length > 0 => {}
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// After a failed write: an answer may have come before the connection broke.
    fn broken(&mut self) -> Sent {
        let mut context = Context::from_waker(Waker::noop());
        if self.poll_answer(&mut context) == Poll::Ready(true) { Sent::Early } else { Sent::Broken { untouched: false } }
    }
}

/// Whether what an upstream said so far is no final response: nothing, or interim responses.
fn is_interim(bytes: &[u8]) -> bool {
    matches!(&bytes[bytes.len().min(9)..], [] | [b'1', ..])
}

fn client_failed(error: BodyError) -> UpstreamError {
    let kind = if error == BodyError::ClientGone { UpstreamErrorKind::ClientGone } else { UpstreamErrorKind::ClientBody(error) };
    UpstreamError::new(kind, false)
}

/// Sends a request whose body is still with an HTTP/1.1 client, in the framing it comes in.
pub(super) async fn stream_h1(wire: &mut Wire<'_>, head: &[u8], down: &mut Downstream) -> Result<Sent, UpstreamError> {
    let sent = pass_body_on(wire, head, down).await;
    if !matches!(sent, Ok(Sent::All | Sent::Broken { untouched: true })) {
        // Where the next request would begin is not known any more, or too far away.
        down.exchange.keep_alive = false;
    }
    sent
}

async fn pass_body_on(wire: &mut Wire<'_>, mut head: &[u8], down: &mut Downstream) -> Result<Sent, UpstreamError> {
    let Downstream { worker, timer, exchange, side: Side::H1(h1), .. } = down else { return Ok(Sent::Broken { untouched: true }) };
    let worker = &**worker;
    let invited = h1.invite_body(timer, worker.settings.send_timeout, &mut exchange.sent).await;
    invited.map_err(|_| client_failed(BodyError::ClientGone))?;
    loop {
        // A connection that broke before taking a byte leaves the body as it was, so that another one may have it.
        let before = (h1.body, h1.body_bytes);
        let length = h1.take_body(worker).map_err(client_failed)?;
        let sent = wire.send_both(timer, head, &h1.buffer.data()[..length]).await?;
        if sent == (Sent::Broken { untouched: true }) && !head.is_empty() {
            (h1.body, h1.body_bytes) = before;
            return Ok(sent);
        }
        h1.buffer.consume(length);
        exchange.received += length as u64;
        head = b"";
        match sent {
            Sent::All if h1.body.is_done() => {
                h1.buffer.release(worker);
                return Ok(Sent::All);
            }
            Sent::All => h1.buffer.release(worker),
            Sent::Early => return Ok(sent),
            Sent::Broken { .. } => return Ok(wire.broken()),
        }
        let read = poll_fn(|context| match wire.poll_answer(context) {
            Poll::Ready(answered) => Poll::Ready(Err(answered)),
            Poll::Pending => h1.poll_body(worker, timer, context).map(Ok),
        })
        .await;
        match read {
            Ok(read) => read.map_err(client_failed)?,
            Err(answered) => {
                timer.disarm();
                return Ok(if answered { Sent::Early } else { Sent::Broken { untouched: false } });
            }
        };
    }
}

/// Sends a request whose body comes in an HTTP/2 stream, as chunks or under its announced length. The client's window opens
/// again only as the upstream takes bytes.
pub(super) async fn stream_multiplexed(
    wire: &mut Wire<'_>,
    head: &[u8],
    framing: Framing,
    down: &mut Downstream,
) -> Result<Sent, UpstreamError> {
    let Downstream { worker, timer, exchange, side: Side::Stream(client), .. } = down else { return Ok(Sent::Broken { untouched: true }) };
    let mut sent = wire.send_both(timer, head, b"").await?;
    let mut out = worker.take_vector();
    while sent == Sent::All {
        let read = poll_fn(|context| match wire.poll_answer(context) {
            Poll::Ready(answered) => Poll::Ready(Err(answered)),
            Poll::Pending => client.poll_piece(worker, timer, context).map(Ok),
        })
        .await;
        let more = match read {
            Ok(read) => read.map_err(client_failed)?,
            Err(answered) => {
                timer.disarm();
                sent = if answered { Sent::Early } else { Sent::Broken { untouched: false } };
                break;
            }
        };
        let piece = client.take_piece();
        exchange.received += piece.len() as u64;
        if framing == Framing::Chunked {
            out.clear();
            encode_chunk(&mut out, &piece);
            if !more {
                out.extend_from_slice(b"0\r\n");
                client.read_trailers(timer, worker, &mut out).await.map_err(client_failed)?;
                out.extend_from_slice(b"\r\n");
            }
            sent = wire.send_both(timer, &out, b"").await?;
        } else {
            sent = wire.send_both(timer, &piece, b"").await?;
        }
        client.open_window(piece.len());
        if !more {
            break;
        }
    }
    worker.give_vector(out);
    Ok(if matches!(sent, Sent::Broken { untouched: false }) { wire.broken() } else { sent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_responses_are_told_from_final_ones_early() {
        assert!(is_interim(b""));
        assert!(is_interim(b"HTTP/1.1 "));
        assert!(is_interim(b"HTTP/1.1 103 Early Hints\r\n"));
        assert!(!is_interim(b"HTTP/1.1 413"));
    }
}
