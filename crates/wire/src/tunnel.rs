//! Bytes both ways after an upgrade (RFC 9110 section 7.8), until either side ends.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::buffer::{Buffer, write_both};
use crate::downstream::{Answer, Downstream, Side};
use crate::errors::RelayError;
use crate::h1::write::{Connection, Outgoing, write_head};
use crate::head::ResponseHead;
use crate::socket::Socket;
use crate::upstream::UpstreamResponse;
use crate::worker::{Timer, Worker};

pub(crate) async fn run(down: &mut Downstream, head: &mut ResponseHead, up: UpstreamResponse) -> Result<(u64, u64), RelayError> {
    let Downstream { worker, timer, exchange, side: Side::H1(h1), .. } = down else {
        return Err(RelayError::Upstream("no tunnels over HTTP/2"));
    };
    exchange.keep_alive = false;
    let idle = up.read_timeout();
    let (connection, mut from_upstream) = up.into_parts();
    let Some(mut connection) = connection else { return Err(RelayError::Upstream("connection closed")) };
    let mut out = worker.take_vector();
    write_head(&mut out, head, Outgoing::Forbidden, Connection::Upgrade);
    exchange.answer = Answer::Begun;
    let timeout = worker.settings.send_timeout;
    let sent = write_both(&mut h1.socket, timer, timeout, &out, from_upstream.data(), &mut exchange.sent).await;
    worker.give_vector(out);
    let mut to_client = from_upstream.len() as u64;
    from_upstream.discard(worker);
    if sent.is_err() {
        return Err(RelayError::ClientGone);
    }
    let mut to_upstream = 0;
    let mut ends = Ends { client: Way::default(), upstream: Way { buffer: from_upstream, ..Way::default() } };
    std::mem::swap(&mut ends.client.buffer, &mut h1.buffer);
    let result = poll_fn(|context| {
        let progress = ends.client.poll(&mut h1.socket, &mut connection.socket, worker, &mut to_upstream, context)?
            | ends.upstream.poll(&mut connection.socket, &mut h1.socket, worker, &mut to_client, context)?;
        if ends.client.ended || ends.upstream.ended {
            return Poll::Ready(Ok(()));
        }
        poll_idle(timer, idle, progress, context)
    })
    .await;
    timer.disarm();
    ends.client.buffer.discard(worker);
    ends.upstream.buffer.discard(worker);
    exchange.body_sent = to_client;
    exchange.sent += to_client;
    exchange.received += to_upstream;
    // Whoever ended it, the other side hears the end of the stream, not a reset.
    let _ = poll_fn(|context| Pin::new(&mut h1.socket).poll_shutdown(context)).await;
    match result {
        Ok(()) => Ok((to_client, to_upstream)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(RelayError::Upstream("tunnel idle for too long")),
        Err(_) => Ok((to_client, to_upstream)),
    }
}

fn poll_idle(timer: &Timer, idle: Duration, progress: bool, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    if progress {
        timer.disarm();
    }
    if timer.expired() {
        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
    }
    timer.arm(context, idle);
    Poll::Pending
}

struct Ends {
    client: Way,
    upstream: Way,
}

/// One direction of a tunnel.
#[derive(Default)]
pub(crate) struct Way {
    buffer: Buffer,
    /// Bytes went into TLS and are not flushed.
    unflushed: bool,
    ended: bool,
}

impl Way {
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn discard(&mut self, worker: &Worker) {
        self.buffer.discard(worker);
    }

    /// Moves bytes until one side has to wait. Whether any moved.
    pub(crate) fn poll(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        worker: &Worker,
        moved: &mut u64,
        context: &mut Context<'_>,
    ) -> io::Result<bool> {
        let before = *moved;
        loop {
            while !self.buffer.is_empty() {
                match Pin::new(&mut *to).poll_write(context, self.buffer.data()) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(length) => {
                        let length = length?;
                        self.buffer.consume(length);
                        self.unflushed = true;
                        *moved += length as u64;
                    }
                    Poll::Pending => return Ok(*moved > before),
                }
            }
            if self.unflushed {
                match Pin::new(&mut *to).poll_flush(context) {
                    Poll::Ready(flushed) => flushed?,
                    Poll::Pending => return Ok(*moved > before),
                }
                self.unflushed = false;
            }
            match self.buffer.poll_read(from, worker, context) {
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    return Ok(*moved > before);
                }
                Poll::Ready(read) => {
                    read?;
                }
                Poll::Pending => return Ok(*moved > before),
            }
        }
    }
}
