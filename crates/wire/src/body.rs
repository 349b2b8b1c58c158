//! Where a message body ends, and its payload.

use crate::head::Framing;
use crate::parse::chunked::{Chunked, Malformed, Piece};

/// What of a body is still to come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Body {
    pub(crate) const NONE: Body = Body::Length(0);

    #[inline]
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Body::NONE,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Chunked::new()),
            Framing::UntilClose => Body::UntilClose,
        }
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunked) => chunked.is_done(),
            Body::UntilClose => false,
        }
    }

    /// How many of these bytes belong to the body; they count as passed. `payload` grows by what of them is payload.
    #[inline]
    pub(crate) fn take(&mut self, bytes: &[u8], payload: &mut u64) -> Result<usize, Malformed> {
        match self {
            Body::Length(left) => {
                let length = (*left).min(bytes.len() as u64);
                *left -= length;
                *payload += length;
                Ok(length as usize)
            }
            Body::Chunked(chunked) => chunked.scan(bytes, |piece| {
                if let Piece::Data(data) = piece {
                    *payload += data.len() as u64;
                }
            }),
            Body::UntilClose => {
                *payload += bytes.len() as u64;
                Ok(bytes.len())
            }
        }
    }

    /// As [`Body::take`], and appends the payload to `into` and trailer lines to `trailers`.
    pub(crate) fn decode(&mut self, bytes: &[u8], into: &mut Vec<u8>, trailers: &mut Vec<u8>) -> Result<usize, Malformed> {
        if let Body::Chunked(chunked) = self {
            return chunked.scan(bytes, |piece| match piece {
                Piece::Data(data) => into.extend_from_slice(data),
                Piece::Trailer(lines) => trailers.extend_from_slice(lines),
            });
        }
        let mut payload = 0;
        let length = self.take(bytes, &mut payload)?;
        into.extend_from_slice(&bytes[..length]);
        Ok(length)
    }
}
