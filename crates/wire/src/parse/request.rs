//! Request heads: the way in for everything a client says, so nothing ambiguous passes.

use std::mem::MaybeUninit;

use super::{FEW_LINES, MANY_LINES, Parsed, content_length, ends_in_crlf, limits, once, target, tokens};
use crate::head::{Framing, Method, RequestHead, Version};
use crate::headers::Known;
use crate::serve::Refusal;

/// Reads one request head from the start of `bytes` into `head`, whose buffers are reused.
///
/// On a refusal `head` holds what came before the offending line, for the answer's form to be chosen by.
pub fn parse_request(bytes: &[u8], head: &mut RequestHead) -> Result<Parsed, Refusal> {
    let mut few = [const { MaybeUninit::uninit() }; FEW_LINES];
    match parse_with(bytes, head, &mut few) {
        Err(Failure::Refused(refusal)) => Err(refusal),
        Err(Failure::Syntax(httparse::Error::TooManyHeaders)) => {
            let mut many = vec![MaybeUninit::uninit(); MANY_LINES];
            match parse_with(bytes, head, &mut many) {
                Err(Failure::Refused(refusal)) => Err(refusal),
                Err(Failure::Syntax(httparse::Error::TooManyHeaders)) => Err(limits::HEADER_TOO_LARGE),
                Err(Failure::Syntax(_)) => Err(diagnose(bytes, head)),
                Ok(parsed) => Ok(parsed),
            }
        }
        Err(Failure::Syntax(_)) => Err(diagnose(bytes, head)),
        Ok(parsed) => Ok(parsed),
    }
}

enum Failure {
    Refused(Refusal),
    Syntax(httparse::Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

fn parse_with<'b>(bytes: &'b [u8], head: &mut RequestHead, slots: &mut [MaybeUninit<httparse::Header<'b>>]) -> Result<Parsed, Failure> {
    head.clear();
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, slots) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            limits::check_bytes(bytes)?;
            return Ok(Parsed::Partial);
        }
        Err(error) => return Err(Failure::Syntax(error)),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Failure::Syntax(httparse::Error::Token));
    };
    let base = bytes.as_ptr() as usize;
    let offset_of = |text: &[u8]| text.as_ptr() as usize - base;
    // Empty lines ahead of a request are skipped (RFC 9112 section 2.2).
    let start = offset_of(method.as_bytes());
    let lines = &*request.headers;
    let first_line = lines.first().map_or(length - 2, |line| offset_of(line.name.as_bytes()));
    if length - start > limits::ALWAYS_FITS {
        check_size(length, start, lines.iter().map(|line| offset_of(line.name.as_bytes())))?;
    }
    let target_start = offset_of(target.as_bytes());
    let target_end = target_start + target.len();
    // "HTTP/1.x" and CRLF follow one blank after the target; httparse takes a bare LF too.
    if first_line != target_end + 11 || !ends_in_crlf(bytes, first_line) || !ends_in_crlf(bytes, length) {
        return Err(Failure::Syntax(httparse::Error::NewLine));
    }
    head.headers.push_raw(&bytes[start..length]);
    head.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    set_line(head, start, method.as_bytes(), start, target_start..target_end, bytes)?;
    let mut reader = LineReader::default();
    for (index, line) in lines.iter().enumerate() {
        let line_start = offset_of(line.name.as_bytes());
        let line_end = lines.get(index + 1).map_or(length - 2, |next| offset_of(next.name.as_bytes()));
        if !ends_in_crlf(bytes, line_end) {
            return Err(Refusal::bad("header line without CRLF").into());
        }
        let value_start = if line.value.is_empty() { line_end - 2 } else { offset_of(line.value) };
        reader.accept(
            head,
            line_start - start..line_end - start,
            line.name.len(),
            value_start - start..value_start + line.value.len() - start,
        )?;
    }
    reader.finish(head)?;
    Ok(Parsed::Complete(length))
}

#[cold]
fn check_size(length: usize, start: usize, line_starts: impl Iterator<Item = usize>) -> Result<(), Refusal> {
    let mut previous = start;
    limits::check_lines(line_starts.chain(std::iter::once(length - 2)).map(|line_start| {
        let line = line_start - previous;
        previous = line_start;
        line
    }))
}

/// Judges method and target and notes where they stand; `start` is where the head begins in `bytes`.
fn set_line(
    head: &mut RequestHead,
    start: usize,
    method: &[u8],
    method_start: usize,
    target_range: std::ops::Range<usize>,
    bytes: &[u8],
) -> Result<(), Refusal> {
    head.method = Method::of(method);
    if head.method == Method::Other && !method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-')) {
        return Err(Refusal::bad("malformed method"));
    }
    head.method_text = method_start - start..method_start - start + method.len();
    let text = &bytes[target_range.clone()];
    let offset = target_range.start - start;
    if text.first() == Some(&b'/') {
        head.target = offset..offset + text.len();
    } else {
        let (authority_start, authority_end) = target::split_absolute(text).ok_or(Refusal::bad("malformed request target"))?;
        if !target::host_is_valid(&text[authority_start..authority_end]) {
            return Err(Refusal::bad("malformed host in the request target"));
        }
        head.authority = Some(offset + authority_start..offset + authority_end);
        let rest = &text[authority_end..];
        head.target = if rest.first() == Some(&b'/') {
            offset + authority_end..offset + text.len()
        } else {
            let slash = head.headers.push_raw(b"/");
            let rest = head.headers.push_raw(rest);
            slash.start..rest.end
        };
    }
    target::check_path(head.target()).map_err(Refusal::bad)
}

/// Judges header lines in order and, at the end, what they say together. The order of the checks is nginx'.
#[derive(Default)]
struct LineReader {
    host: bool,
    length: Option<std::ops::Range<usize>>,
    coding: Option<std::ops::Range<usize>>,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl LineReader {
    #[inline]
    fn accept(
        &mut self,
        head: &mut RequestHead,
        line: std::ops::Range<usize>,
        name_len: usize,
        value: std::ops::Range<usize>,
    ) -> Result<(), Refusal> {
        let known = head.headers.known_at(line.start, name_len);
        match known {
            Known::Host => {
                if std::mem::replace(&mut self.host, true) {
                    return Err(Refusal::bad("more than one Host header"));
                }
                if !target::host_is_valid(head.headers.raw(value.clone())) {
                    return Err(Refusal::bad("malformed Host header"));
                }
            }
            Known::ContentLength => {
                once(&mut self.length, value.clone(), "more than one Content-Length header").map_err(Refusal::bad)?;
            }
            Known::TransferEncoding => {
                once(&mut self.coding, value.clone(), "more than one Transfer-Encoding header").map_err(Refusal::bad)?;
            }
            Known::Connection => {
                for token in tokens(head.headers.raw(value.clone())) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            Known::Upgrade => self.upgrade = true,
            Known::Expect => {
                head.expects_continue =
                    head.version >= Version::Http11 && head.headers.raw(value.clone()).eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        head.headers.push_known_line(line, name_len, value, known);
        Ok(())
    }

    fn finish(self, head: &mut RequestHead) -> Result<(), Refusal> {
        if !self.host && head.version >= Version::Http11 {
            return Err(Refusal::bad("no Host header"));
        }
        let length = match self.length {
            None => None,
            Some(value) => Some(content_length(head.headers.raw(value)).ok_or(Refusal::bad("malformed Content-Length"))?),
        };
        head.framing = match (self.coding, length) {
            (None, None | Some(0)) => Framing::None,
            (None, Some(length)) => Framing::Length(length),
            (Some(coding), length) => {
                if head.version < Version::Http11 {
                    return Err(Refusal::bad("Transfer-Encoding in an HTTP/1.0 request"));
                }
                if !head.headers.raw(coding).eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::new(501, "unknown Transfer-Encoding"));
                }
                if length.is_some() {
                    return Err(Refusal::bad("Content-Length with Transfer-Encoding"));
                }
                Framing::Chunked
            }
        };
        if matches!(head.method, Method::Trace | Method::Connect) {
            return Err(Refusal::new(405, "method not allowed"));
        }
        head.keep_alive = !self.close && (self.keep_alive || head.version >= Version::Http11);
        head.upgrade = self.upgrade && head.version >= Version::Http11 && head.framing == Framing::None;
        Ok(())
    }
}

/// Goes through a head that httparse does not take, line by line, to name what is wrong and to keep the lines before it.
#[cold]
fn diagnose(bytes: &[u8], head: &mut RequestHead) -> Refusal {
    head.clear();
    if let Err(refusal) = limits::check_bytes(bytes) {
        return refusal;
    }
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    let bytes = &bytes[start..];
    head.headers.push_raw(bytes);
    let mut reader = LineReader::default();
    let mut at = 0;
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let range = at..at + line.len();
        at = range.end;
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Refusal::bad(if line.ends_with(b"\n") { "line without CRLF" } else { "malformed head" });
        };
        let judged = if index == 0 {
            diagnose_request_line(text, bytes, head)
        } else {
            diagnose_header_line(text).and_then(|(name_len, value)| {
                reader.accept(head, range.clone(), name_len, range.start + value.start..range.start + value.end)
            })
        };
        if let Err(refusal) = judged {
            return refusal;
        }
    }
    Refusal::bad("malformed head")
}

fn diagnose_request_line(text: &[u8], bytes: &[u8], head: &mut RequestHead) -> Result<(), Refusal> {
    let mut words = text.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(Refusal::bad("malformed request line"));
    };
    if method.is_empty() || target.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f)) {
        return Err(Refusal::bad("malformed request line"));
    }
    set_line(head, 0, method, 0, method.len() + 1..method.len() + 1 + target.len(), bytes)?;
    match version {
        b"HTTP/1.1" => head.version = Version::Http11,
        b"HTTP/1.0" => head.version = Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'2'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::new(505, "unsupported HTTP version")),
        _ => return Err(Refusal::bad("malformed HTTP version")),
    }
    Ok(())
}

fn diagnose_header_line(text: &[u8]) -> Result<(usize, std::ops::Range<usize>), Refusal> {
    const MALFORMED: Refusal = Refusal::bad("malformed header line");
    let colon = memchr::memchr(b':', text).ok_or(MALFORMED)?;
    let name_is_token = text[..colon].iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
    let value = super::trim(&text[colon + 1..]);
    if colon == 0 || !name_is_token || value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 0x7f)) {
        return Err(MALFORMED);
    }
    let value_start = if value.is_empty() { text.len() } else { value.as_ptr() as usize - text.as_ptr() as usize };
    Ok((colon, value_start..value_start + value.len()))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
