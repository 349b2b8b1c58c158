//! QUIC as the `h3` crate wants it, on `quinn`.
//!
//! The `h3-quinn` crate does the same and keeps its streams to itself. Here a sending stream is shared with whoever answers on
//! it, who has to hear that the client wants no answer any more while none is being sent, and to reset it half-way.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

/// A stream towards the client.
pub(super) type Raw = Rc<RefCell<quinn::SendStream>>;

/// The sending streams of requests that nobody has taken up yet.
pub(super) type Raws = Rc<RefCell<HashMap<u64, Raw>>>;

/// A future that is made anew each time it has ended, as `quinn`'s accepting and opening are.
type Pending<T> = Option<Pin<Box<dyn Future<Output = Result<T, ConnectionError>>>>>;
type Both = (quinn::SendStream, quinn::RecvStream);

pub(super) struct Connection {
    opener: Opener,
    raws: Raws,
    accepting_both: Pending<Both>,
    accepting_one: Pending<quinn::RecvStream>,
}

impl Connection {
    pub(super) fn new(connection: quinn::Connection) -> (Self, Raws) {
        let raws = Raws::default();
        let opener = Opener { connection, opening: None };
        (Self { opener, raws: raws.clone(), accepting_both: None, accepting_one: None }, raws)
    }
}

/// Drives what is pending, beginning it if nothing is.
fn drive<T, F: Future<Output = Result<T, ConnectionError>> + 'static>(
    pending: &mut Pending<T>,
    begin: impl FnOnce() -> F,
    context: &mut Context<'_>,
) -> Poll<Result<T, ConnectionError>> {
    let future = pending.get_or_insert_with(|| Box::pin(begin()));
    let done = ready!(future.as_mut().poll(context));
    *pending = None;
    Poll::Ready(done)
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let connection = self.opener.connection.clone();
        let begin = || async move { connection.accept_uni().await };
        drive(&mut self.accepting_one, begin, context).map_ok(RecvStream::new).map_err(connection_failed)
    }

    fn poll_accept_bidi(&mut self, context: &mut Context<'_>) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        let connection = self.opener.connection.clone();
        let begin = || async move { connection.accept_bi().await };
        let (send, recv) = ready!(drive(&mut self.accepting_both, begin, context)).map_err(connection_failed)?;
        let send = SendStream::new(send);
        self.raws.borrow_mut().insert(send.id, send.raw.clone());
        Poll::Ready(Ok(BidiStream { send, recv: RecvStream::new(recv) }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.opener.connection.clone(), opening: None }
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, context: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(context)
    }

    fn poll_open_send(&mut self, context: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.opener.poll_open_send(context)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens streams of our own, which are those that HTTP/3 itself needs.
pub(super) struct Opener {
    connection: quinn::Connection,
    opening: Pending<quinn::SendStream>,
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        // A server opens none (RFC 9114 section 6.1).
        Poll::Ready(Err(StreamErrorIncoming::Unknown("servers open no requests".into())))
    }

    fn poll_open_send(&mut self, context: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let connection = self.connection.clone();
        let begin = || async move { connection.open_uni().await };
        drive(&mut self.opening, begin, context).map_ok(SendStream::new).map_err(lost)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(varint(code.value()), reason);
    }
}

/// A request's stream before it is split.
pub(super) struct BidiStream {
    send: SendStream,
    recv: RecvStream,
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(context)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(context)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(context)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

pub(super) struct RecvStream {
    stream: quinn::RecvStream,
    id: u64,
    ended: bool,
}

/// Bytes taken out of a stream at once.
const PIECE: usize = 64 * 1024;

impl RecvStream {
    fn new(stream: quinn::RecvStream) -> Self {
        let id = VarInt::from(stream.id()).into_inner();
        Self { stream, id, ended: false }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        // Made anew at every look: it holds no state but the waker it leaves with the stream.
        let piece = ready!(std::pin::pin!(self.stream.read_chunk(PIECE, true)).poll(context));
        match piece {
            Ok(Some(chunk)) => Poll::Ready(Ok(Some(chunk.bytes))),
            Ok(None) => {
                self.ended = true;
                Poll::Ready(Ok(None))
            }
            Err(ReadError::Reset(code)) => Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() })),
            Err(ReadError::ConnectionLost(error)) => Poll::Ready(Err(lost(error))),
            Err(error) => Poll::Ready(Err(StreamErrorIncoming::Unknown(error.into()))),
        }
    }

    fn stop_sending(&mut self, code: u64) {
        // Fails only for a stream that is closed already.
        let _ = self.stream.stop(varint(code));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.id)
    }
}

pub(super) struct SendStream {
    raw: Raw,
    id: u64,
    writing: Option<WriteBuf<Bytes>>,
}

impl SendStream {
    fn new(stream: quinn::SendStream) -> Self {
        let id = VarInt::from(stream.id()).into_inner();
        Self { raw: Rc::new(RefCell::new(stream)), id, writing: None }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            let mut raw = self.raw.borrow_mut();
            while data.has_remaining() {
                let written = ready!(Pin::new(&mut *raw).poll_write(context, data.chunk())).map_err(|error| match error {
                    WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
                    WriteError::ConnectionLost(error) => lost(error),
                    error => StreamErrorIncoming::Unknown(error.into()),
                })?;
                data.advance(written);
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown("one piece at a time".into()));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(self.raw.borrow_mut().finish().map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, code: u64) {
        // Fails only for a stream that is closed already.
        let _ = self.raw.borrow_mut().reset(varint(code));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.id)
    }
}

fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn stream_id(id: u64) -> StreamId {
    // Both are 62 bits wide; nothing else fails.
    StreamId::try_from(id).unwrap_or(StreamId::FIRST_REQUEST)
}

fn connection_failed(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() },
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn lost(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_failed(error) }
}
