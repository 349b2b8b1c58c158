//! A response body that comes in an HTTP/2 stream, as the chunked coding of HTTP/1.1.

use std::cell::Cell;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Reason, RecvStream};

use super::pool::Lease;
use super::upload::Progress;
use crate::buffer::Buffer;
use crate::parse::chunked::encode_chunk;
use crate::worker::{Timer, Worker};

/// What is left of a response. Dropping it cancels the stream, and the upload with it.
pub(in crate::upstream) struct Stream {
    body: RecvStream,
    /// Encoded and not in the buffer yet.
    pending: Vec<u8>,
    at: usize,
    trailers_due: bool,
    ended: bool,
    progress: Progress,
    /// What the upload had moved when the deadline was last looked at.
    seen: Cell<u64>,
    _lease: Lease,
}

impl Stream {
    pub(super) fn new(body: RecvStream, lease: Lease, progress: Progress) -> Self {
        Self { body, pending: Vec::new(), at: 0, trailers_due: false, ended: false, progress, seen: Cell::new(0), _lease: lease }
    }

    /// Fills the buffer with chunks as they come. `Ok(0)` is the end.
    pub(in crate::upstream) fn poll_fill(
        &mut self,
        buffer: &mut Buffer,
        worker: &Worker,
        timer: &Timer,
        timeout: Duration,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if timer.expired() {
            timer.disarm();
            if self.seen.replace(self.progress.moved()) == self.progress.moved() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        while self.at == self.pending.len() {
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            self.pending.clear();
            self.at = 0;
            let step = if self.trailers_due { self.poll_trailers(context)? } else { self.poll_data(context)? };
            if step.is_pending() {
                timer.arm(context, timeout);
                return Poll::Pending;
            }
        }
        timer.disarm();
        let taken = buffer.append(&self.pending[self.at..], worker);
        self.at += taken;
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        match self.body.poll_data(context) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Some(Ok(piece))) => {
                if !piece.is_empty() {
                    encode_chunk(&mut self.pending, &piece);
                    // Fails only for more than was received.
                    let _ = self.body.flow_control().release_capacity(piece.len());
                }
            }
            Poll::Ready(Some(Err(error))) if error.reason() == Some(Reason::NO_ERROR) => self.trailers_due = true,
            Poll::Ready(Some(Err(error))) => return Err(io::Error::other(error)),
            Poll::Ready(None) => self.trailers_due = true,
        }
        Ok(Poll::Ready(()))
    }

    fn poll_trailers(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        let trailers = match self.body.poll_trailers(context) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(trailers) => trailers.map_err(io::Error::other)?,
        };
        self.pending.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.iter().flatten() {
            self.pending.extend_from_slice(name.as_str().as_bytes());
            self.pending.extend_from_slice(b": ");
            self.pending.extend_from_slice(value.as_bytes());
            self.pending.extend_from_slice(b"\r\n");
        }
        self.pending.extend_from_slice(b"\r\n");
        self.ended = true;
        Ok(Poll::Ready(()))
    }
}
