//! Frames (RFC 9114 section 7), without I/O.
//!
//! Bytes go in as they come; what is longer than we hold is passed on in pieces (DATA), passed over (unknown frames) or refused.

use bytes::{Buf, Bytes, BytesMut};

use super::codes::Code;

pub(super) const DATA: u64 = 0x0;
pub(super) const HEADERS: u64 = 0x1;
pub(super) const CANCEL_PUSH: u64 = 0x3;
pub(super) const SETTINGS: u64 = 0x4;
const PUSH_PROMISE: u64 = 0x5;
pub(super) const GOAWAY: u64 = 0x7;
pub(super) const MAX_PUSH_ID: u64 = 0xd;

/// Longest field section taken, as it is sent. Twice what a client is told it may send decoded, so that one that sends a little too
/// much gets an answer.
const SECTION_LIMIT: u64 = 64 * 1024;
/// Longest frame taken on a control stream: settings are a few dozen bytes.
const CONTROL_LIMIT: u64 = 4 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A piece of a body, not empty.
    Data(Bytes),
    /// A whole field section.
    Headers(Bytes),
    /// A whole frame of a control stream, with its type.
    Control(u64, Bytes),
}

/// Which stream the frames are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Request,
    Control,
}

#[derive(Debug)]
enum State {
    /// Between frames, or within a frame's type and length.
    Head {
        bytes: [u8; 16],
        length: usize,
    },
    Data(u64),
    Whole {
        kind: u64,
        left: usize,
        payload: BytesMut,
    },
    PassOver(u64),
}

const BETWEEN: State = State::Head { bytes: [0; 16], length: 0 };

/// Takes one stream apart.
#[derive(Debug)]
pub(super) struct Frames {
    on: On,
    state: State,
}

impl Frames {
    pub(super) fn new(on: On) -> Self {
        Self { on, state: BETWEEN }
    }

    /// No frame is under way: the stream may end here.
    pub(super) fn between(&self) -> bool {
        matches!(self.state, State::Head { length: 0, .. })
    }

    /// Takes the next frame, or the next piece of a body, out of `input`. None takes all of `input` and wants more.
    ///
    /// Errors are those of the connection.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Frame>, Code> {
        while !input.is_empty() {
            match &mut self.state {
                State::Head { bytes, length } => {
                    bytes[*length] = input.get_u8();
                    *length += 1;
                    let head = &bytes[..*length];
                    let Some((kind, read)) = varint(head) else { continue };
                    let Some((size, _)) = varint(&head[read..]) else { continue };
                    self.state = self.begin(kind, size)?;
                    if matches!(&self.state, State::Whole { left: 0, .. }) {
                        return Ok(Some(self.whole(Bytes::new())));
                    }
                }
                State::Data(left) => {
                    let piece = input.split_to(usize::try_from(*left).unwrap_or(usize::MAX).min(input.len()));
                    *left -= piece.len() as u64;
                    if *left == 0 {
                        self.state = BETWEEN;
                    }
                    return Ok(Some(Frame::Data(piece)));
                }
                State::PassOver(left) => {
                    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    input.advance(passed);
                    *left -= passed as u64;
                    if *left == 0 {
                        self.state = BETWEEN;
                    }
                }
                State::Whole { left, payload, .. } => {
                    let piece = input.split_to((*left).min(input.len()));
                    *left -= piece.len();
                    if *left == 0 && payload.is_empty() {
                        return Ok(Some(self.whole(piece)));
                    }
                    payload.extend_from_slice(&piece);
                    if *left == 0 {
                        let payload = std::mem::take(payload).freeze();
                        return Ok(Some(self.whole(payload)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn begin(&self, kind: u64, size: u64) -> Result<State, Code> {
        let whole = |limit: u64| match usize::try_from(size) {
            Ok(left) if size <= limit => Ok(State::Whole { kind, left, payload: BytesMut::new() }),
            _ => Err(Code::EXCESSIVE_LOAD),
        };
        match (self.on, kind) {
            (On::Request, DATA) if size == 0 => Ok(BETWEEN),
            (On::Request, DATA) => Ok(State::Data(size)),
            (On::Request, HEADERS) => whole(SECTION_LIMIT),
            (On::Control, SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH) => whole(CONTROL_LIMIT),
            // On the wrong stream, or what only a server may send, or what HTTP/2 had (section 7.2.8).
            (_, DATA | HEADERS | CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID) => Err(Code::FRAME_UNEXPECTED),
            (_, 0x2 | 0x6 | 0x8 | 0x9) => Err(Code::FRAME_UNEXPECTED),
            _ if size == 0 => Ok(BETWEEN),
            _ => Ok(State::PassOver(size)),
        }
    }

    fn whole(&mut self, payload: Bytes) -> Frame {
        match std::mem::replace(&mut self.state, BETWEEN) {
            State::Whole { kind, .. } if self.on == On::Control => Frame::Control(kind, payload),
            _ => Frame::Headers(payload),
        }
    }
}

/// A number of QUIC's variable length (RFC 9000 section 16), and how many bytes it took.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    Some((rest.iter().fold(u64::from(first & 0x3f), |number, byte| number << 8 | u64::from(*byte)), length))
}

/// Appends a number, which must be below 2^62.
pub(super) fn put_varint(out: &mut Vec<u8>, number: u64) {
    match number {
        0..0x40 => out.push(number as u8),
        0x40..0x4000 => out.extend_from_slice(&(number as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend_from_slice(&(number as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(number | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Appends a frame's type and length.
pub(super) fn put_head(out: &mut Vec<u8>, kind: u64, length: usize) {
    put_varint(out, kind);
    put_varint(out, length as u64);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(&mut out, kind, payload.len());
        out.extend_from_slice(payload);
        out
    }

    /// Every frame of `bytes`, fed in pieces of `piece`; the pieces of a body joined.
    fn read(on: On, bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Code> {
        let (mut frames, mut read) = (Frames::new(on), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(frame) = frames.next(&mut input)? {
                match (frame, read.last_mut()) {
                    (Frame::Data(more), Some(Frame::Data(so_far))) => *so_far = [so_far.as_ref(), &more].concat().into(),
                    (frame, _) => read.push(frame),
                }
            }
            assert!(input.is_empty());
        }
        assert!(frames.between());
        Ok(read)
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for number in [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(varint(&bytes), Some((number, bytes.len())));
            assert_eq!(varint(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn a_request_is_taken_apart_however_it_is_cut() {
        let bytes = [frame(HEADERS, b"head"), frame(0x21, b"anything"), frame(DATA, b"bo"), frame(DATA, b""), frame(DATA, b"dy")].concat();
        let bytes = [bytes, frame(0x21, b""), frame(HEADERS, b"")].concat();
        for piece in 1..=bytes.len() {
            let expected = [Frame::Headers("head".into()), Frame::Data("body".into()), Frame::Headers("".into())];
            assert_eq!(read(On::Request, &bytes, piece).unwrap(), expected, "{piece}");
        }
    }

    #[test]
    fn frames_that_do_not_belong_on_a_stream_are_errors() {
        for kind in [CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID, 0x2, 0x6, 0x8, 0x9] {
            assert_eq!(read(On::Request, &frame(kind, b""), 9), Err(Code::FRAME_UNEXPECTED), "{kind}");
        }
        for kind in [DATA, HEADERS, PUSH_PROMISE, 0x9] {
            assert_eq!(read(On::Control, &frame(kind, b""), 9), Err(Code::FRAME_UNEXPECTED), "{kind}");
        }
        let control = frame(GOAWAY, &[0]);
        assert_eq!(read(On::Control, &control, 9).unwrap(), [Frame::Control(GOAWAY, Bytes::from_static(&[0]))]);
    }

    #[test]
    fn what_would_have_to_be_held_has_a_limit() {
        let mut section = Vec::new();
        put_head(&mut section, HEADERS, SECTION_LIMIT as usize + 1);
        assert_eq!(Frames::new(On::Request).next(&mut section.into()), Err(Code::EXCESSIVE_LOAD));
        let mut huge = Vec::new();
        put_head(&mut huge, 0x21, (1 << 62) - 1);
        let mut frames = Frames::new(On::Request);
        assert_eq!(frames.next(&mut huge.into()), Ok(None));
        assert_eq!(frames.next(&mut vec![0; 1 << 16].into()), Ok(None));
        assert!(!frames.between());
    }
}
