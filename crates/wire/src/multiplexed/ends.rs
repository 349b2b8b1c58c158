//! The two ends of a client's stream, whatever the protocol: what comes ([`Receiving`]) and what is sent ([`Sending`]).

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};

use super::http3;
use crate::errors::ClientGone;

/// A request's body and trailers.
pub(crate) enum Receiving {
    Http2(RecvStream),
    Http3(Box<http3::Receiving>),
}

impl Receiving {
    /// The next piece; none once the body has ended. Trailers may follow.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientGone>>> {
        match self {
            Receiving::Http2(stream) => stream.poll_data(context).map(|piece| piece.map(|piece| piece.map_err(|_| ClientGone))),
            Receiving::Http3(stream) => stream.poll_data(context),
        }
    }

    pub(crate) fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, ClientGone>> {
        match self {
            Receiving::Http2(stream) => stream.poll_trailers(context).map_err(|_| ClientGone),
            Receiving::Http3(stream) => stream.poll_trailers(context),
        }
    }

    /// Nothing follows, trailers neither. HTTP/3 may know that only once it has been asked for more.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Receiving::Http2(stream) => stream.is_end_stream(),
            Receiving::Http3(stream) => stream.has_ended(),
        }
    }

    /// Lets the client send as much again. HTTP/3 does so by itself as its pieces are taken.
    pub(crate) fn open_window(&mut self, length: usize) {
        if let Receiving::Http2(stream) = self {
            // Fails only for more than was received.
            let _ = stream.flow_control().release_capacity(length);
        }
    }
}

/// An answer's way to the client.
pub(super) enum Sending {
    Http2 { respond: SendResponse<Bytes>, stream: Option<SendStream<Bytes>> },
    Http3(Box<http3::Sending>),
}

impl Sending {
    /// Sends the head; `end` if nothing follows.
    pub(super) fn begin(&mut self, response: Response<()>, end: bool) -> Result<(), ClientGone> {
        match self {
            Sending::Http2 { respond, stream } => {
                *stream = Some(respond.send_response(response, end).map_err(|_| ClientGone)?);
                Ok(())
            }
            Sending::Http3(sending) => {
                sending.begin(&response, end);
                Ok(())
            }
        }
    }

    /// Waits until some bytes may be sent, and says how many; `wanted` are there.
    pub(super) fn poll_room(&mut self, wanted: usize, context: &mut Context<'_>) -> Poll<Result<usize, ClientGone>> {
        match self {
            Sending::Http2 { stream: Some(stream), .. } => {
                stream.reserve_capacity(wanted);
                match stream.capacity() {
                    0 => stream.poll_capacity(context).map(|room| room.and_then(Result::ok).ok_or(ClientGone)),
                    room => Poll::Ready(Ok(room)),
                }
            }
            Sending::Http2 { .. } => Poll::Ready(Err(ClientGone)),
            // One piece at a time: the next one waits until this one is in the connection's send window.
            Sending::Http3(sending) => sending.poll_flush(context).map_ok(|()| wanted),
        }
    }

    /// Sends a piece that there is room for.
    pub(super) fn send_data(&mut self, piece: Bytes, end: bool) -> Result<(), ClientGone> {
        match self {
            Sending::Http2 { stream: Some(stream), .. } => stream.send_data(piece, end).map_err(|_| ClientGone),
            Sending::Http2 { .. } => Err(ClientGone),
            Sending::Http3(sending) => {
                sending.send_data(piece, end);
                Ok(())
            }
        }
    }

    pub(super) fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), ClientGone> {
        match self {
            Sending::Http2 { stream: Some(stream), .. } => stream.send_trailers(trailers).map_err(|_| ClientGone),
            Sending::Http2 { .. } => Err(ClientGone),
            Sending::Http3(sending) => {
                sending.send_trailers(&trailers);
                Ok(())
            }
        }
    }

    /// Waits until what was sent is with the library's own buffers. HTTP/2 has it there at once.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientGone>> {
        match self {
            Sending::Http2 { .. } => Poll::Ready(Ok(())),
            Sending::Http3(sending) => sending.poll_flush(context),
        }
    }

    /// Tells the client that the answer will not come, or not to its end.
    pub(super) fn reset(&mut self) {
        match self {
            Sending::Http2 { stream: Some(stream), .. } => stream.send_reset(Reason::INTERNAL_ERROR),
            Sending::Http2 { respond, .. } => respond.send_reset(Reason::INTERNAL_ERROR),
            Sending::Http3(sending) => sending.reset(),
        }
    }

    /// Ready when the client wants no answer any more or the connection ended.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Sending::Http2 { stream: Some(stream), .. } => stream.poll_reset(context).map(|_| ()),
            Sending::Http2 { respond, .. } => respond.poll_reset(context).map(|_| ()),
            Sending::Http3(sending) => sending.poll_gone(context),
        }
    }
}
