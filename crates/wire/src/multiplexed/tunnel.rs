//! WebSockets over HTTP/2 (RFC 8441): the stream carries what a connection would after an upgrade.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::ClientStream;
use super::answer::{flush, response_of};
use super::ends::Sending;
use crate::buffer::Buffer;
use crate::downstream::{Answer, Downstream, Side};
use crate::errors::RelayError;
use crate::head::ResponseHead;
use crate::headers::Known;
use crate::socket::Socket;
use crate::upstream::UpstreamResponse;
use crate::worker::Worker;

/// Bytes moved from the upstream to the client in one piece.
const PIECE: usize = 16 * 1024;

/// As [`crate::tunnel::run`], for a stream. The upstream's 101 is a 200 here, without what belongs to an upgrade.
pub(crate) async fn run(down: &mut Downstream, head: &mut ResponseHead, up: UpstreamResponse) -> Result<(u64, u64), RelayError> {
    let Downstream { worker, timer, exchange, side: Side::Stream(client), .. } = down else { return Err(RelayError::ClientGone) };
    let idle = up.read_timeout();
    let (connection, buffer) = up.into_parts();
    let Some(mut connection) = connection else { return Err(RelayError::Upstream("connection closed")) };
    head.status = 200;
    head.headers.remove_known(Known::Upgrade);
    head.headers.remove("sec-websocket-accept");
    exchange.answer = Answer::Begun;
    let response = response_of(head, true, exchange);
    client.sending.begin(response, false)?;
    let (mut to_client, mut to_upstream) = (ToClient { buffer, moved: 0 }, ToUpstream { piece: Bytes::new(), moved: 0, unflushed: false });
    let mut seen = 0;
    let ended: io::Result<bool> = poll_fn(|context| {
        let client_ended = to_upstream.poll(client, &mut connection.socket, context)?;
        let upstream_ended = to_client.poll(&mut connection.socket, &mut client.sending, worker, context)?;
        if client_ended || upstream_ended {
            return Poll::Ready(Ok(client_ended));
        }
        let moved = to_client.moved + to_upstream.moved;
        if std::mem::replace(&mut seen, moved) != moved {
            timer.disarm();
        }
        if timer.expired() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        timer.arm(context, idle);
        Poll::Pending
    })
    .await;
    timer.disarm();
    to_client.buffer.discard(worker);
    exchange.sent += to_client.moved;
    exchange.body_sent = to_client.moved;
    exchange.received += to_upstream.moved;
    let _ = poll_fn(|context| Pin::new(&mut connection.socket).poll_shutdown(context)).await;
    if ended.is_ok() {
        // Whoever ended it, the client hears the end of the stream, not a reset.
        let _ = client.sending.send_data(Bytes::new(), true);
        let _ = flush(&mut client.sending, timer, worker).await;
        exchange.answer = Answer::Complete;
    }
    match ended {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(RelayError::Upstream("tunnel idle for too long")),
        _ => Ok((to_client.moved, to_upstream.moved)),
    }
}

struct ToUpstream {
    piece: Bytes,
    moved: u64,
    unflushed: bool,
}

impl ToUpstream {
    /// Moves bytes until one side has to wait. True once the client ended its side.
    fn poll(&mut self, client: &mut ClientStream, to: &mut Socket, context: &mut Context<'_>) -> io::Result<bool> {
        loop {
            while !self.piece.is_empty() {
                match Pin::new(&mut *to).poll_write(context, &self.piece) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(length) => {
                        let length = length?;
                        let _ = self.piece.split_to(length);
                        self.moved += length as u64;
                        self.unflushed = true;
                        client.open_window(length);
                    }
                    Poll::Pending => return Ok(false),
                }
            }
            if self.unflushed {
                match Pin::new(&mut *to).poll_flush(context) {
                    Poll::Ready(flushed) => flushed?,
                    Poll::Pending => return Ok(false),
                }
                self.unflushed = false;
            }
            let Some(body) = &mut client.body else { return Ok(true) };
            match body.poll_data(context) {
                Poll::Ready(Some(Ok(piece))) => self.piece = piece,
                Poll::Ready(Some(Err(_))) => return Err(io::ErrorKind::ConnectionReset.into()),
                Poll::Ready(None) => return Ok(true),
                Poll::Pending => return Ok(false),
            }
        }
    }
}

struct ToClient {
    buffer: Buffer,
    moved: u64,
}

impl ToClient {
    /// Moves bytes until one side has to wait. True once the upstream ended its side.
    fn poll(&mut self, from: &mut Socket, to: &mut Sending, worker: &Worker, context: &mut Context<'_>) -> io::Result<bool> {
        loop {
            while !self.buffer.is_empty() {
                let length = self.buffer.len().min(PIECE);
                let room = match to.poll_room(length, context) {
                    Poll::Ready(room) => room.map_err(io::Error::other)?,
                    Poll::Pending => return Ok(false),
                };
                let length = length.min(room);
                to.send_data(Bytes::copy_from_slice(&self.buffer.data()[..length]), false).map_err(io::Error::other)?;
                self.buffer.consume(length);
                self.moved += length as u64;
            }
            // Before waiting for more: nobody else would send it.
            match to.poll_flush(context) {
                Poll::Ready(flushed) => flushed.map_err(io::Error::other)?,
                Poll::Pending => return Ok(false),
            }
            match self.buffer.poll_read(from, worker, context) {
                Poll::Ready(Ok(0)) => return Ok(true),
                Poll::Ready(read) => _ = read?,
                Poll::Pending => return Ok(false),
            }
        }
    }
}
