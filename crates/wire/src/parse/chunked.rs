//! The chunked coding (RFC 9112 section 7.1): where chunks, trailers and the body end.
//!
//! Bytes may be relayed as they came: [`Chunked::scan`] only finds the end and hands the payload to whoever wants it.

/// Digits of a chunk size: 2^60 bytes are enough for one chunk.
const SIZE_DIGITS: u8 = 15;
/// Bytes of a chunk extension.
const EXTENSION_LIMIT: u32 = 4096;
/// Bytes of all trailers.
const TRAILER_LIMIT: u32 = 16 * 1024;

/// The body breaks the coding's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunked body")]
pub struct Malformed;

/// What a scan finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Payload.
    Data(&'a [u8]),
    /// Part of the trailer section: lines with their CRLF, not the closing empty line. May be cut anywhere.
    Trailer(&'a [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SizeStart,
    Size,
    /// Blanks between size and `;` or CR.
    SizeBlank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Follows a chunked body through pieces of any size.
#[derive(Clone, Copy, Debug)]
pub struct Chunked {
    state: State,
    left: u64,
    count: u32,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunked {
    pub fn new() -> Self {
        Self { state: State::SizeStart, left: 0, count: 0 }
    }

    /// The last chunk and its trailers have passed.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on. Answers how many of the bytes belong to the body: all of them, unless its end is among them.
    pub fn scan<'b>(&mut self, bytes: &'b [u8], mut piece: impl FnMut(Piece<'b>)) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            match self.state {
                State::SizeStart | State::Size => match (hex(byte), self.state, byte) {
                    (Some(digit), state, _) => {
                        if state == State::SizeStart {
                            self.left = 0;
                            self.count = 0;
                            self.state = State::Size;
                        }
                        self.count += 1;
                        if self.count > u32::from(SIZE_DIGITS) {
                            return Err(Malformed);
                        }
                        self.left = self.left << 4 | u64::from(digit);
                    }
                    (None, State::Size, b'\r') => self.state = State::SizeLf,
                    (None, State::Size, b';') => self.start(State::Extension),
                    (None, State::Size, b' ' | b'\t') => self.start(State::SizeBlank),
                    _ => return Err(Malformed),
                },
                State::SizeBlank => match byte {
                    b' ' | b'\t' => self.bounded(1, EXTENSION_LIMIT)?,
                    b';' => self.start(State::Extension),
                    b'\r' => self.state = State::SizeLf,
                    _ => return Err(Malformed),
                },
                State::Extension => match byte {
                    b'\r' => self.state = State::SizeLf,
                    byte if is_control(byte) => return Err(Malformed),
                    _ => self.bounded(1, EXTENSION_LIMIT)?,
                },
                State::SizeLf if byte == b'\n' => {
                    if self.left == 0 {
                        self.start(State::TrailerStart);
                    } else {
                        self.state = State::Data;
                    }
                }
                State::Data => {
                    let length = self.left.min((bytes.len() - at) as u64) as usize;
                    piece(Piece::Data(&bytes[at..at + length]));
                    at += length;
                    self.left -= length as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    continue;
                }
                State::DataCr if byte == b'\r' => self.state = State::DataLf,
                State::DataLf if byte == b'\n' => self.state = State::SizeStart,
                State::TrailerStart if byte == b'\r' => self.state = State::EndLf,
                State::TrailerStart | State::TrailerName => {
                    let named = self.state == State::TrailerName;
                    if byte == b':' && named {
                        self.state = State::TrailerValue;
                    } else if is_token(byte) {
                        self.state = State::TrailerName;
                    } else {
                        return Err(Malformed);
                    }
                    self.bounded(1, TRAILER_LIMIT)?;
                    piece(Piece::Trailer(&bytes[at..=at]));
                }
                State::TrailerValue => {
                    let rest = &bytes[at..];
                    let length = rest.iter().position(|&byte| byte == b'\r').unwrap_or(rest.len());
                    if rest[..length].iter().any(|&byte| is_control(byte)) {
                        return Err(Malformed);
                    }
                    self.bounded(length as u32, TRAILER_LIMIT)?;
                    piece(Piece::Trailer(&rest[..length]));
                    at += length;
                    if length < rest.len() {
                        at += 1;
                        self.state = State::TrailerLf;
                    }
                    continue;
                }
                State::TrailerLf if byte == b'\n' => {
                    self.bounded(2, TRAILER_LIMIT)?;
                    piece(Piece::Trailer(b"\r\n"));
                    self.state = State::TrailerStart;
                }
                State::EndLf if byte == b'\n' => {
                    self.state = State::Done;
                    return Ok(at + 1);
                }
                State::Done => return Ok(at),
                _ => return Err(Malformed),
            }
            at += 1;
        }
        Ok(at)
    }

    fn start(&mut self, state: State) {
        self.state = state;
        self.count = 0;
    }

    fn bounded(&mut self, more: u32, limit: u32) -> Result<(), Malformed> {
        self.count = self.count.saturating_add(more);
        if self.count > limit { Err(Malformed) } else { Ok(()) }
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Appends one chunk of these bytes; nothing for none, since an empty chunk would end the body.
pub fn encode_chunk(out: &mut Vec<u8>, payload: &[u8]) {
    if payload.is_empty() {
        return;
    }
    encode_size(out, payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends a chunk's size line.
pub(crate) fn encode_size(out: &mut Vec<u8>, size: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(HEX[size >> (digit * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, usize), Malformed> {
        let mut chunked = Chunked::new();
        let (mut data, mut trailers, mut at) = (Vec::new(), Vec::new(), 0);
        while !chunked.is_done() && at < bytes.len() {
            let end = (at + step).min(bytes.len());
            at += chunked.scan(&bytes[at..end], |piece| match piece {
                Piece::Data(bytes) => data.extend_from_slice(bytes),
                Piece::Trailer(bytes) => trailers.extend_from_slice(bytes),
            })?;
        }
        Ok((data, trailers, at))
    }

    #[test]
    fn a_body_reads_the_same_however_it_is_cut() {
        let body = b"5;name=\"v\"\r\nhello\r\n1 \r\n!\r\n00A\t;x\r\n0123456789\r\n0\r\nX-Sum: a b\r\nY:\r\n\r\nNEXT";
        for step in 1..=body.len() {
            let (data, trailers, length) = decode(body, step).unwrap();
            assert_eq!(data, b"hello!0123456789", "step {step}");
            assert_eq!(trailers, b"X-Sum: a b\r\nY:\r\n");
            assert_eq!(&body[length..], b"NEXT");
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        let long_extension = [b"1;".as_slice(), &[b'a'; 5000], b"\r\n"].concat();
        let long_trailer = [b"0\r\nA: ".as_slice(), &[b'a'; 20_000], b"\r\n\r\n"].concat();
        let table: [&[u8]; 22] = [
            b"5\nhello",
            b"\r\n",
            b"g\r\n",
            b"-1\r\n",
            b"+5\r\n",
            b" 5\r\n",
            b"0x5\r\n",
            b"ffffffffffffffff\r\n",
            b"5\rhello",
            b"5 5\r\nhello",
            b"5;a\nhello",
            b"5;a\0\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\rX",
            b"0\r\n\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\n: b\r\n\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\n A: b\r\n\r\n",
            &long_extension,
            &long_trailer,
        ];
        for body in table {
            for step in [1, body.len()] {
                assert_eq!(decode(body, step), Err(Malformed), "{}", body.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_encoded_decodes() {
        let mut out = Vec::new();
        for size in [1, 15, 16, 17, 255, 256, 4096, 70_000] {
            encode_chunk(&mut out, &vec![b'x'; size]);
        }
        encode_chunk(&mut out, b"");
        out.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(decode(&out, out.len()).unwrap().0.len(), 1 + 15 + 16 + 17 + 255 + 256 + 4096 + 70_000);
    }
}
