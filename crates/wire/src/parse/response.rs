//! Response heads of upstreams.

use std::mem::MaybeUninit;

use super::lines::{is_valid_name, split_line};
use super::{FEW_LINES, MANY_LINES, Parsed, content_length, ends_in_crlf, once, tokens};
use crate::head::{Framing, Method, ResponseHead};
use crate::headers::Known;

/// Why an upstream's response head was not taken, for logs.
pub type ResponseRefusal = &'static str;

/// What a response head says about the connection it came on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persistence {
    /// The connection may carry another request once the body has passed.
    pub keep_alive: bool,
    /// Some lines are bound to this connection and must not be passed on.
    pub bound_lines: bool,
    /// Some `Connection` line names a header that must not be passed on.
    pub names_headers: bool,
}

/// Reads one response head from the start of `bytes` into `head`, whose buffers are reused. `method` is the request's: the
/// response to HEAD has no body. Bare LF line ends are taken, as nginx takes them, and become CRLF.
pub fn parse_response(
    bytes: &[u8],
    method: Method,
    head: &mut ResponseHead,
    persistence: &mut Persistence,
) -> Result<Parsed, ResponseRefusal> {
    head.clear();
    if let Some(length) = read(bytes, method, head, persistence) {
        return Ok(Parsed::Complete(length));
    }
    parse_slowly(bytes, method, head, persistence)
}

/// Reads a complete head that is as nearly all heads are. None when there is anything about it that needs a closer look.
fn read(bytes: &[u8], method: Method, head: &mut ResponseHead, persistence: &mut Persistence) -> Option<usize> {
    let minor = match bytes.first_chunk()? {
        b"HTTP/1.1 " => 1,
        b"HTTP/1.0 " => 0,
        _ => return None,
    };
    let code: &[u8; 3] = bytes[9..].first_chunk()?;
    if !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    head.status = code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    let mut at = memchr::memchr(b'\n', bytes)? + 1;
    let line = bytes[..at].strip_suffix(b"\r\n")?;
    match line.get(12..)? {
        [] | [b' '] => {}
        [b' ', reason @ ..] if reason.iter().all(|byte| (b' '..=b'~').contains(byte)) => {
            head.headers.set_reason(head.status, 13..line.len())
        }
        _ => return None,
    }
    let mut judge = Judge::default();
    while !bytes[at..].starts_with(b"\r\n") {
        let line = split_line(&bytes[at..])?;
        let name = &bytes[at..at + line.name_len];
        let known = Known::of(name);
        // Known names are valid ones.
        if known == Known::Other && !is_valid_name(name) {
            return None;
        }
        let value = at + line.value.start..at + line.value.end;
        judge.accept(known, &bytes[value.clone()]).ok()?;
        head.headers.push_known_line(at..at + line.end + 2, line.name_len, value, known);
        at += line.end + 2;
    }
    let length = at + 2;
    if head.headers.len() > MANY_LINES {
        return None;
    }
    (head.framing, *persistence) = judge.finish(method, minor == 0, head.status).ok()?;
    head.headers.push_raw(&bytes[..length]);
    Some(length)
}

/// Heads that are incomplete, malformed, or unusual in their line ends or names.
#[cold]
fn parse_slowly(bytes: &[u8], method: Method, head: &mut ResponseHead, persistence: &mut Persistence) -> Result<Parsed, ResponseRefusal> {
    let mut few = [const { MaybeUninit::uninit() }; FEW_LINES];
    match parse_with(bytes, method, head, persistence, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![MaybeUninit::uninit(); MANY_LINES];
            parse_with(bytes, method, head, persistence, &mut many).unwrap_or(Err("too many header lines"))
        }
        Err(_) => Err("malformed response head"),
        Ok(judged) => judged,
    }
}

fn parse_with<'b>(
    bytes: &'b [u8],
    method: Method,
    head: &mut ResponseHead,
    persistence: &mut Persistence,
    slots: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Result<Parsed, ResponseRefusal>, httparse::Error> {
    let mut response = httparse::Response::new(&mut []);
    let length = match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, slots)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(Ok(Parsed::Partial)),
    };
    head.clear();
    let (Some(status), Some(minor)) = (response.code, response.version) else { return Err(httparse::Error::Status) };
    let base = bytes.as_ptr() as usize;
    let offset_of = |text: &[u8]| text.as_ptr() as usize - base;
    head.status = status;
    let lines = &*response.headers;
    let first_line = lines.first().map_or(length - 2, |line| offset_of(line.name.as_bytes()));
    let line_end = |index: usize| lines.get(index + 1).map_or(length - 2, |next| offset_of(next.name.as_bytes()));
    let mut as_it_came = ends_in_crlf(bytes, first_line) && ends_in_crlf(bytes, length);
    if as_it_came {
        head.headers.push_raw(&bytes[..length]);
        for (index, line) in lines.iter().enumerate() {
            let end = line_end(index);
            as_it_came &= ends_in_crlf(bytes, end);
            let value_start = if line.value.is_empty() { end - 2 } else { offset_of(line.value) };
            head.headers.push_line(offset_of(line.name.as_bytes())..end, line.name.len(), value_start..value_start + line.value.len());
        }
    }
    if as_it_came {
        if let Some(reason) = response.reason.filter(|reason| !reason.is_empty()) {
            let start = offset_of(reason.as_bytes());
            head.headers.set_reason(status, start..start + reason.len());
        }
    } else {
        head.headers.clear();
        if let Some(reason) = response.reason.filter(|reason| !reason.is_empty()) {
            let place = head.headers.push_raw(reason.as_bytes());
            head.headers.set_reason(status, place);
        }
        for line in lines {
            head.headers.append(line.name, line.value);
        }
    }
    Ok(judge(method, minor == 0, head, persistence).map(|()| Parsed::Complete(length)))
}

/// Judges the lines of a head that stands in its buffer.
fn judge(method: Method, http10: bool, head: &mut ResponseHead, persistence: &mut Persistence) -> Result<(), ResponseRefusal> {
    let mut judge = Judge::default();
    for line in head.headers.lines() {
        judge.accept(line.known, head.headers.value(line))?;
    }
    (head.framing, *persistence) = judge.finish(method, http10, head.status)?;
    Ok(())
}

/// What a head's lines say of the body and the connection, gathered line by line.
#[derive(Default)]
struct Judge<'b> {
    length: Option<u64>,
    coding: Option<&'b [u8]>,
    close: bool,
    keep_alive: bool,
    names_headers: bool,
    bound_lines: bool,
}

impl<'b> Judge<'b> {
    #[inline]
    fn accept(&mut self, known: Known, value: &'b [u8]) -> Result<(), ResponseRefusal> {
        match known {
            Known::ContentLength => {
                let value = content_length(value).ok_or("malformed Content-Length")?;
                once(&mut self.length, value, "more than one Content-Length header")?;
            }
            Known::TransferEncoding => {
                self.bound_lines = true;
                once(&mut self.coding, value, "more than one Transfer-Encoding header")?;
            }
            Known::Connection => {
                self.bound_lines = true;
                for token in tokens(value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        self.close = true;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    } else if !token.eq_ignore_ascii_case(b"upgrade") {
                        self.names_headers = true;
                    }
                }
            }
            Known::KeepAlive | Known::Upgrade | Known::Trailer => self.bound_lines = true,
            _ => {}
        }
        Ok(())
    }

    /// Frames the body as RFC 9112 section 6.3 and nginx do: contradictions make the response invalid.
    fn finish(self, method: Method, http10: bool, status: u16) -> Result<(Framing, Persistence), ResponseRefusal> {
        let Self { length, coding, close, keep_alive, names_headers, bound_lines } = self;
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
            return Err("unknown Transfer-Encoding");
        }
        if coding.is_some() && length.is_some() {
            return Err("Content-Length with Transfer-Encoding");
        }
        let bodiless = method == Method::Head || status < 200 || matches!(status, 204 | 304);
        let framing = match (coding, length) {
            _ if bodiless => Framing::None,
            (Some(_), _) => Framing::Chunked,
            (None, Some(0)) => Framing::None,
            (None, Some(length)) => Framing::Length(length),
            (None, None) => Framing::UntilClose,
        };
        let stays = if http10 { keep_alive && !close } else { !close };
        let keep_alive = stays && framing != Framing::UntilClose && status != 101;
        Ok((framing, Persistence { keep_alive, bound_lines, names_headers }))
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
