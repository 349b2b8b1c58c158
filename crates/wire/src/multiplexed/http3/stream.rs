//! The two ends of a request's stream in HTTP/3.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http::{HeaderMap, Response};
use quinn::VarInt;

use super::transport::{Raw, RecvStream, SendStream};
use crate::errors::ClientGone;

/// A request's body and trailers. Dropping it before its end tells the client to send no more.
pub(crate) struct Receiving {
    stream: RequestStream<RecvStream, Bytes>,
    body_ended: bool,
    ended: bool,
}

impl Receiving {
    pub(super) fn new(stream: RequestStream<RecvStream, Bytes>) -> Self {
        Self { stream, body_ended: false, ended: false }
    }

    pub(in crate::multiplexed) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientGone>>> {
        if self.body_ended {
            return Poll::Ready(None);
        }
        match ready!(self.stream.poll_recv_data(context)) {
            Ok(Some(mut piece)) => Poll::Ready(Some(Ok(piece.copy_to_bytes(piece.remaining())))),
            Ok(None) => {
                self.body_ended = true;
                Poll::Ready(None)
            }
            Err(_) => {
                self.ended = true;
                Poll::Ready(Some(Err(ClientGone)))
            }
        }
    }

    pub(in crate::multiplexed) fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, ClientGone>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let trailers = ready!(self.stream.poll_recv_trailers(context));
        self.ended = true;
        Poll::Ready(trailers.map_err(|_| ClientGone))
    }

    pub(in crate::multiplexed) fn has_ended(&self) -> bool {
        self.ended
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // Answered without the rest of the body (RFC 9114 section 4.1). What has ended takes no notice.
        self.stream.stop_sending(Code::H3_NO_ERROR);
    }
}

type Requests = RequestStream<SendStream, Bytes>;
type Step = Pin<Box<dyn Future<Output = (Requests, Result<(), StreamError>)>>>;

enum Writer {
    Idle(Requests),
    /// A step is under way.
    Busy(Step),
    /// It failed, or the stream was reset.
    Gone,
}

/// An answer's way to the client. Dropping it before the answer's end resets the stream: what was sent must not pass for all.
pub(crate) struct Sending {
    writer: Writer,
    raw: Raw,
    /// Ready once the client wants no more of the answer.
    stopped: Pin<Box<dyn Future<Output = ()>>>,
    /// The end was given to `h3`; with `Writer::Idle`, it is with QUIC.
    ended: bool,
}

impl Sending {
    pub(super) fn new(stream: Requests, raw: Raw) -> Self {
        let stopped = raw.borrow().stopped();
        let stopped = Box::pin(async move {
            let _ = stopped.await;
        });
        Self { writer: Writer::Idle(stream), raw, stopped, ended: false }
    }

    fn start<F: Future<Output = (Requests, Result<(), StreamError>)> + 'static>(
        &mut self,
        step: impl FnOnce(Requests) -> F,
    ) -> Result<(), ClientGone> {
        match std::mem::replace(&mut self.writer, Writer::Gone) {
            Writer::Idle(stream) => {
                self.writer = Writer::Busy(Box::pin(step(stream)));
                Ok(())
            }
            Writer::Busy(_) | Writer::Gone => Err(ClientGone),
        }
    }

    pub(in crate::multiplexed) fn begin(&mut self, response: Response<()>, end: bool) -> Result<(), ClientGone> {
        self.ended = end;
        self.start(move |mut stream| async move {
            let mut sent = stream.send_response(response).await;
            if end && sent.is_ok() {
                sent = stream.finish().await;
            }
            (stream, sent)
        })
    }

    pub(in crate::multiplexed) fn send_data(&mut self, piece: Bytes, end: bool) -> Result<(), ClientGone> {
        self.ended = end;
        self.start(move |mut stream| async move {
            let mut sent = if piece.is_empty() { Ok(()) } else { stream.send_data(piece).await };
            if end && sent.is_ok() {
                sent = stream.finish().await;
            }
            (stream, sent)
        })
    }

    pub(in crate::multiplexed) fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), ClientGone> {
        self.ended = true;
        self.start(move |mut stream| async move {
            let mut sent = stream.send_trailers(trailers).await;
            if sent.is_ok() {
                sent = stream.finish().await;
            }
            (stream, sent)
        })
    }

    /// Waits until the step under way is done: its bytes are within the connection's send window.
    pub(in crate::multiplexed) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientGone>> {
        match &mut self.writer {
            Writer::Idle(_) => Poll::Ready(Ok(())),
            Writer::Gone => Poll::Ready(Err(ClientGone)),
            Writer::Busy(step) => {
                let (stream, sent) = ready!(step.as_mut().poll(context));
                self.writer = if sent.is_ok() { Writer::Idle(stream) } else { Writer::Gone };
                Poll::Ready(sent.map_err(|_| ClientGone))
            }
        }
    }

    pub(in crate::multiplexed) fn reset(&mut self) {
        self.writer = Writer::Gone;
        // Fails only for a stream that is closed already.
        let _ = self.raw.borrow_mut().reset(VarInt::from_u32(Code::H3_INTERNAL_ERROR.value() as u32));
    }

    pub(in crate::multiplexed) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stopped.as_mut().poll(context)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.ended || !matches!(self.writer, Writer::Idle(_)) {
            self.reset();
        }
    }
}
