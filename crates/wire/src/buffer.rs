//! Reading and writing with deadlines, through buffers that are only held while bytes are in them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Socket;
use crate::worker::{BUFFER_SIZE, Timer, Worker};

/// Bytes read and not yet used up. While empty it holds no memory once released.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn data(&self) -> &[u8] {
        match &self.bytes {
            Some(bytes) => &bytes[self.start..self.end],
            None => &[],
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// No further byte fits.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len() == BUFFER_SIZE
    }

    #[inline]
    pub(crate) fn consume(&mut self, length: usize) {
        self.start += length;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives the memory back to the worker if no bytes are left.
    #[inline]
    pub(crate) fn release(&mut self, worker: &Worker) {
        if self.is_empty()
            && let Some(bytes) = self.bytes.take()
        {
            worker.give_buffer(bytes);
        }
    }

    /// Forgets all bytes and gives the memory back.
    pub(crate) fn discard(&mut self, worker: &Worker) {
        self.start = 0;
        self.end = 0;
        self.release(worker);
    }

    /// Puts bytes behind those that are there; answers how many fitted.
    pub(crate) fn append(&mut self, bytes: &[u8], worker: &Worker) -> usize {
        let room = self.room(worker);
        let length = bytes.len().min(room.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.end += length;
        length
    }

    #[inline]
    fn room(&mut self, worker: &Worker) -> &mut [u8] {
        let bytes = self.bytes.get_or_insert_with(|| worker.take_buffer());
        if self.end == bytes.len() && self.start > 0 {
            bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut bytes[self.end..]
    }

    /// Reads once. `Ok(0)` is the end of the stream. A full buffer is an error of kind `StorageFull`.
    #[inline]
    pub(crate) fn poll_fill(
        &mut self,
        socket: &mut Socket,
        worker: &Worker,
        timer: &Timer,
        timeout: Duration,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if timer.expired() {
            timer.disarm();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.is_full() {
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        let mut room = ReadBuf::new(self.room(worker));
        match Pin::new(socket).poll_read(context, &mut room) {
            Poll::Ready(read) => {
                let length = room.filled().len();
                timer.disarm();
                self.end += length;
                Poll::Ready(read.map(|()| length))
            }
            Poll::Pending => {
                self.release(worker);
                timer.arm(context, timeout);
                Poll::Pending
            }
        }
    }

    /// Reads once, without a deadline. The buffer must not be full.
    pub(crate) fn poll_read(&mut self, socket: &mut Socket, worker: &Worker, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(self.room(worker));
        match Pin::new(socket).poll_read(context, &mut room) {
            Poll::Ready(read) => {
                let length = room.filled().len();
                self.end += length;
                Poll::Ready(read.map(|()| length))
            }
            Poll::Pending => {
                self.release(worker);
                Poll::Pending
            }
        }
    }

    pub(crate) async fn fill(&mut self, socket: &mut Socket, worker: &Worker, timer: &Timer, timeout: Duration) -> io::Result<usize> {
        poll_fn(|context| self.poll_fill(socket, worker, timer, timeout, context)).await
    }
}

/// Writes both slices entirely and flushes; `timeout` is between two steps of progress. `written` counts what went out.
pub(crate) async fn write_both(
    socket: &mut Socket,
    timer: &Timer,
    timeout: Duration,
    mut first: &[u8],
    mut second: &[u8],
    written: &mut u64,
) -> io::Result<()> {
    poll_fn(|context| {
        while first.len() + second.len() > 0 {
            if timer.expired() {
                timer.disarm();
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            match socket.poll_write_both(first, second, context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => {
                    timer.disarm();
                    *written += length as u64;
                    let of_first = length.min(first.len());
                    first = &first[of_first..];
                    second = &second[length - of_first..];
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    timer.arm(context, timeout);
                    return Poll::Pending;
                }
            }
        }
        // TLS holds records back until it is flushed; for plain sockets this is nothing.
        match Pin::new(&mut *socket).poll_flush(context) {
            Poll::Pending if timer.expired() => {
                timer.disarm();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => {
                timer.arm(context, timeout);
                Poll::Pending
            }
            Poll::Ready(flushed) => {
                timer.disarm();
                Poll::Ready(flushed)
            }
        }
    })
    .await
}
