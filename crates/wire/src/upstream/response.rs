//! A response under way from an upstream.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::http2::Stream;
use super::pool::Connection;
use crate::body::Body;
use crate::buffer::Buffer;
use crate::errors::{RelayError, UpstreamError, UpstreamErrorKind};
use crate::head::Framing;
use crate::worker::{Timer, Worker};

/// A response whose body is still to come, on its connection. Dropping it closes the connection.
pub struct UpstreamResponse {
    worker: Rc<Worker>,
    connection: Option<Connection>,
    /// Instead of a connection, where the upstream speaks HTTP/2: its body comes as chunks.
    stream: Option<Box<Stream>>,
    buffer: Buffer,
    body: Body,
    /// The connection may be used again once the body has passed.
    reusable: bool,
    read_timeout: Duration,
    /// Lines, once the whole body has been read.
    trailers: Vec<u8>,
}

impl UpstreamResponse {
    pub(super) fn new(
        worker: &Rc<Worker>,
        connection: Connection,
        buffer: Buffer,
        framing: Framing,
        reusable: bool,
        read_timeout: Duration,
    ) -> Self {
        let (connection, body) = (Some(connection), Body::new(framing));
        Self { worker: worker.clone(), connection, stream: None, buffer, body, reusable, read_timeout, trailers: Vec::new() }
    }

    pub(super) fn of_stream(worker: &Rc<Worker>, stream: Stream, framing: Framing, read_timeout: Duration) -> Self {
        let (stream, body) = (Some(Box::new(stream)), Body::new(framing));
        Self {
            worker: worker.clone(),
            connection: None,
            stream,
            buffer: Buffer::default(),
            body,
            reusable: false,
            read_timeout,
            trailers: Vec::new(),
        }
    }

    /// Reads the whole body, without its chunked coding, and appends it to `into`; at most `limit` bytes in all. The connection
    /// goes back to its pool.
    pub async fn read_body(&mut self, into: &mut Vec<u8>, limit: u64) -> Result<(), UpstreamError> {
        let timer = self.worker.timer();
        let start = into.len();
        let mut trailers = std::mem::take(&mut self.trailers);
        let failed = |kind| Err(UpstreamError::new(kind, false));
        loop {
            if self.decode(into, &mut trailers).is_err() {
                return failed(UpstreamErrorKind::BadResponse("malformed chunked body"));
            }
            if (into.len() - start) as u64 > limit {
                return failed(UpstreamErrorKind::BodyTooLarge);
            }
            if self.is_done() {
                self.trailers = trailers;
                self.finish();
                return Ok(());
            }
            match poll_fn(|context| self.poll_fill(&timer, context)).await {
                Ok(0) if !self.end_with_connection() => return failed(UpstreamErrorKind::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return failed(UpstreamErrorKind::ReadTimeout),
                Err(_) => return failed(UpstreamErrorKind::Closed),
            }
        }
    }

    /// The trailers of a body that was read whole: name and value of each.
    pub fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.trailers.split(|byte| *byte == b'\n').filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b':')?;
            Some((std::str::from_utf8(&line[..at]).ok()?, line[at + 1..].trim_ascii()))
        })
    }

    /// Whether the whole body has been read.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.body.is_done()
    }

    #[inline]
    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    #[inline]
    pub(crate) fn data(&self) -> &[u8] {
        self.buffer.data()
    }

    #[inline]
    pub(crate) fn consume(&mut self, length: usize) {
        self.buffer.consume(length);
    }

    pub(crate) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// Marks what is in the buffer as body; answers its length. The caller consumes it.
    #[inline]
    pub(crate) fn take(&mut self, payload: &mut u64) -> Result<usize, RelayError> {
        self.body.take(self.buffer.data(), payload).map_err(|_| RelayError::Upstream("malformed chunked body"))
    }

    /// Takes the payload out of what is in the buffer.
    pub(crate) fn decode(&mut self, into: &mut Vec<u8>, trailers: &mut Vec<u8>) -> Result<(), RelayError> {
        let length = self.body.decode(self.buffer.data(), into, trailers).map_err(|_| RelayError::Upstream("malformed chunked body"))?;
        self.buffer.consume(length);
        Ok(())
    }

    /// Reads once. `Ok(0)` is the end of the connection.
    #[inline]
    pub(crate) fn poll_fill(&mut self, timer: &Timer, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(connection) = &mut self.connection else { return self.poll_fill_stream(timer, context) };
        match self.buffer.poll_fill(&mut connection.socket, &self.worker, timer, self.read_timeout, context) {
            // A TLS peer that closes without saying so. Only a body that ends with the connection may end like this.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            read => read,
        }
    }

    #[cold]
    fn poll_fill_stream(&mut self, timer: &Timer, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        stream.poll_fill(&mut self.buffer, &self.worker, timer, self.read_timeout, context)
    }

    /// The connection ended: whether that is how the body was to end.
    pub(crate) fn end_with_connection(&mut self) -> bool {
        let expected = matches!(self.body, Body::UntilClose);
        if expected {
            self.body = Body::NONE;
        }
        expected
    }

    /// Forgets the body and the connection.
    pub(crate) fn discard(&mut self) {
        self.reusable = false;
        self.connection = None;
        self.stream = None;
        self.body = Body::NONE;
    }

    /// Gives the connection back to its pool if nothing is left on it.
    #[inline]
    pub(crate) fn finish(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.reusable
            && self.body.is_done()
            && self.buffer.is_empty()
        {
            connection.give_back(&self.worker);
        }
    }

    /// Takes the connection out, with what was read and not used, for a tunnel.
    pub(crate) fn into_parts(mut self) -> (Option<Connection>, Buffer) {
        (self.connection.take(), std::mem::take(&mut self.buffer))
    }
}

impl Drop for UpstreamResponse {
    fn drop(&mut self) {
        self.buffer.discard(&self.worker);
    }
}
