//! The two ends of a request's stream in HTTP/3.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use quinn::{Connection, RecvStream, SendStream};

use super::codes::Code;
use super::frames::{self, Frame, Frames, On};
use super::{fields, qpack};
use crate::errors::ClientGone;
use crate::multiplexed::HEADER_LIST;

/// Bytes taken out of a stream at once.
const PIECE: usize = 64 * 1024;

/// What was wrong with a request, if anything: the code its stream is reset with.
type Fault = Rc<Cell<Option<Code>>>;

/// The ends of a stream that a client opened.
pub(super) fn ends(connection: Connection, send: SendStream, recv: RecvStream) -> (Sending, Receiving) {
    let fault = Fault::default();
    let stopped = send.stopped();
    let stopped = Box::pin(async move {
        // Whether it stopped us or is gone: either way it wants no more.
        let _ = stopped.await;
    });
    let sending = Sending { stream: send, waiting: VecDeque::new(), ended: false, finished: false, stopped, fault: fault.clone() };
    let (frames, input) = (Frames::new(On::Request), Bytes::new());
    let receiving = Receiving { stream: recv, connection, frames, input, stage: Stage::Head, declared: None, trailers: None, fault };
    (sending, receiving)
}

/// What may come next (RFC 9114 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    /// Trailers came: nothing but the end may follow.
    End,
    Ended,
    Failed,
}

/// A request as it comes. Dropping it before its end tells the client to send no more.
pub(crate) struct Receiving {
    stream: RecvStream,
    connection: Connection,
    frames: Frames,
    /// Came and was not taken apart yet.
    input: Bytes,
    stage: Stage,
    /// What is left of the body that `content-length` announced.
    declared: Option<u64>,
    trailers: Option<HeaderMap>,
    fault: Fault,
}

impl Receiving {
    /// The field section a request begins with.
    pub(super) fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, ClientGone>> {
        match ready!(self.poll_frame(context))? {
            Some(Frame::Headers(section)) => {
                self.stage = Stage::Body;
                Poll::Ready(Ok(section))
            }
            Some(_) => Poll::Ready(Err(self.fail_connection(Code::FRAME_UNEXPECTED))),
            None => Poll::Ready(Err(self.fail(Code::REQUEST_INCOMPLETE))),
        }
    }

    /// How long the body says it is; another length makes the request malformed (section 4.1.2).
    pub(super) fn declare(&mut self, length: Option<u64>) {
        self.declared = length;
    }

    pub(in crate::multiplexed) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientGone>>> {
        match self.stage {
            Stage::Body => {}
            Stage::Failed | Stage::Head => return Poll::Ready(Some(Err(ClientGone))),
            Stage::End | Stage::Ended => return Poll::Ready(None),
        }
        let frame = match ready!(self.poll_frame(context)) {
            Ok(frame) => frame,
            Err(gone) => return Poll::Ready(Some(Err(gone))),
        };
        match frame {
            Some(Frame::Data(piece)) => {
                if let Some(left) = &mut self.declared {
                    match left.checked_sub(piece.len() as u64) {
                        Some(less) => *left = less,
                        None => return Poll::Ready(Some(Err(self.fail(Code::MESSAGE_ERROR)))),
                    }
                }
                return Poll::Ready(Some(Ok(piece)));
            }
            Some(Frame::Headers(section)) => match self.read_trailers(&section) {
                Ok(trailers) => (self.trailers, self.stage) = (Some(trailers), Stage::End),
                Err(gone) => return Poll::Ready(Some(Err(gone))),
            },
            Some(Frame::Control(..)) => return Poll::Ready(Some(Err(self.fail_connection(Code::FRAME_UNEXPECTED)))),
            None => self.stage = Stage::Ended,
        }
        if self.declared.is_some_and(|left| left > 0) {
            return Poll::Ready(Some(Err(self.fail(Code::MESSAGE_ERROR))));
        }
        Poll::Ready(None)
    }

    /// The trailers, once the stream has ended. Only asked for after the body.
    pub(in crate::multiplexed) fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, ClientGone>> {
        if self.stage == Stage::End {
            match ready!(self.poll_frame(context))? {
                None => self.stage = Stage::Ended,
                Some(_) => return Poll::Ready(Err(self.fail_connection(Code::FRAME_UNEXPECTED))),
            }
        }
        match self.stage {
            Stage::Ended => Poll::Ready(Ok(self.trailers.take())),
            _ => Poll::Ready(Err(ClientGone)),
        }
    }

    pub(in crate::multiplexed) fn has_ended(&self) -> bool {
        self.stage == Stage::Ended && self.trailers.is_none()
    }

    fn read_trailers(&mut self, section: &[u8]) -> Result<HeaderMap, ClientGone> {
        match qpack::decode(section, HEADER_LIST as usize) {
            Ok(lines) => fields::trailers(lines).map_err(|_| self.fail(Code::MESSAGE_ERROR)),
            Err(qpack::Unreadable::TooLarge) => Err(self.fail(Code::EXCESSIVE_LOAD)),
            Err(qpack::Unreadable::Broken) => Err(self.fail_connection(Code::QPACK_DECOMPRESSION_FAILED)),
        }
    }

    /// The next frame; none at the stream's end.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame>, ClientGone>> {
        loop {
            match self.frames.next(&mut self.input) {
                Ok(Some(frame)) => return Poll::Ready(Ok(Some(frame))),
                Ok(None) => {}
                Err(code) => return Poll::Ready(Err(self.fail_connection(code))),
            }
            // Made anew at every look: it holds no state but the waker it leaves with the stream.
            let read = ready!(pin!(self.stream.read_chunk(PIECE, true)).poll(context));
            match read {
                Ok(Some(chunk)) => self.input = chunk.bytes,
                Ok(None) if self.frames.between() => return Poll::Ready(Ok(None)),
                Ok(None) => return Poll::Ready(Err(self.fail_connection(Code::FRAME_ERROR))),
                // The client gave the request up, or the connection ended.
                Err(_) => {
                    self.stage = Stage::Failed;
                    return Poll::Ready(Err(ClientGone));
                }
            }
        }
    }

    /// The stream is to be reset with this code.
    pub(super) fn fail(&mut self, code: Code) -> ClientGone {
        self.stage = Stage::Failed;
        self.fault.set(Some(code));
        ClientGone
    }

    /// Closes the connection.
    pub(super) fn fail_connection(&mut self, code: Code) -> ClientGone {
        self.connection.close(code.into(), b"");
        self.fail(code)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // Answered without the rest of the body (section 4.1). A stream that has ended takes no notice.
        let _ = self.stream.stop(self.fault.get().unwrap_or(Code::NO_ERROR).into());
    }
}

/// An answer's way to the client. Dropping it before the answer's end resets the stream: what was sent must not pass for all.
pub(crate) struct Sending {
    stream: SendStream,
    /// What is not in the connection's send window yet: one piece and its frame's head, as callers wait for room.
    waiting: VecDeque<Bytes>,
    /// Nothing follows what waits.
    ended: bool,
    /// The end is with QUIC.
    finished: bool,
    /// Ready once the client wants no more of the answer.
    stopped: Pin<Box<dyn Future<Output = ()>>>,
    fault: Fault,
}

impl Sending {
    pub(in crate::multiplexed) fn begin(&mut self, response: &Response<()>, end: bool) {
        let mut section = Vec::with_capacity(512);
        qpack::put_status(&mut section, response.status().as_u16());
        put_lines(&mut section, response.headers());
        self.put(frames::HEADERS, section.into());
        self.ended = end;
    }

    pub(in crate::multiplexed) fn send_data(&mut self, piece: Bytes, end: bool) {
        if !piece.is_empty() {
            self.put(frames::DATA, piece);
        }
        self.ended = end;
    }

    pub(in crate::multiplexed) fn send_trailers(&mut self, trailers: &HeaderMap) {
        let mut section = Vec::with_capacity(128);
        qpack::put_start(&mut section);
        put_lines(&mut section, trailers);
        self.put(frames::HEADERS, section.into());
        self.ended = true;
    }

    fn put(&mut self, kind: u64, payload: Bytes) {
        let mut head = Vec::with_capacity(16);
        frames::put_head(&mut head, kind, payload.len());
        self.waiting.extend([head.into(), payload]);
    }

    /// Waits until all there is fits into the connection's send window.
    pub(in crate::multiplexed) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientGone>> {
        while !self.waiting.is_empty() {
            let written = ready!(pin!(self.stream.write_chunks(self.waiting.make_contiguous())).poll(context));
            if written.is_err() {
                return Poll::Ready(Err(ClientGone));
            }
            while self.waiting.front().is_some_and(Bytes::is_empty) {
                self.waiting.pop_front();
            }
        }
        if self.ended && !self.finished {
            self.finished = true;
            return Poll::Ready(self.stream.finish().map_err(|_| ClientGone));
        }
        Poll::Ready(Ok(()))
    }

    pub(in crate::multiplexed) fn reset(&mut self) {
        self.waiting.clear();
        self.finished = true;
        // Fails only for a stream that is closed already.
        let _ = self.stream.reset(self.fault.get().unwrap_or(Code::INTERNAL_ERROR).into());
    }

    pub(in crate::multiplexed) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stopped.as_mut().poll(context)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.finished {
            self.reset();
        }
    }
}

fn put_lines(section: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        qpack::put_line(section, name.as_str(), value.as_bytes());
    }
}
