//! Reading HTTP/1.1, free of I/O: heads, framing, chunked bodies. Everything here is a pure function or a small state
//! machine over bytes and may be fuzzed as it stands.
//!
//! - [`request`], [`response`]: heads; [`lines`] finds the pieces of nearly all of them
//! - [`chunked`]: where chunks and the body end
//! - [`target`]: what a request target and a host may look like
//! - [`limits`]: how large a request head may be

pub mod chunked;
pub mod limits;
pub(crate) mod lines;
pub mod request;
pub mod response;
pub mod target;

pub use chunked::Chunked;
pub use request::parse_request;
pub use response::{ResponseRefusal, parse_response};

/// How far a head got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is complete and this many bytes long.
    Complete(usize),
    /// More bytes are needed.
    Partial,
}

/// Header slots on the stack; a head with more lines is parsed again with room for [`MANY_LINES`].
pub(crate) const FEW_LINES: usize = 48;
pub(crate) const MANY_LINES: usize = 1024;

/// Trims spaces and tabs from both ends.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a comma-separated list, trimmed, empty ones left out.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|token| !token.is_empty())
}

/// Notes a value that a message may have once only; `reason` is the complaint about a second one.
pub(crate) fn once<T>(slot: &mut Option<T>, value: T, reason: &'static str) -> Result<(), &'static str> {
    if slot.replace(value).is_some() { Err(reason) } else { Ok(()) }
}

/// A `Content-Length`: digits only, up to 2^63 - 1.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    let mut length = 0u64;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        length = length * 10 + u64::from(byte - b'0');
    }
    (length <= i64::MAX as u64).then_some(length)
}

/// Whether the line `start..end` of `bytes` ends in CRLF; httparse also takes a bare LF.
#[inline]
pub(crate) fn ends_in_crlf(bytes: &[u8], end: usize) -> bool {
    end >= 2 && bytes[end - 2..end] == *b"\r\n"
}
