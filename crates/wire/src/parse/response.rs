//! Response heads of upstreams.

use std::mem::MaybeUninit;

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

/// Frames the body as RFC 9112 section 6.3 and nginx do: contradictions make the response invalid.
fn judge(method: Method, http10: bool, head: &mut ResponseHead, persistence: &mut Persistence) -> Result<(), ResponseRefusal> {
    let (mut length, mut coding, mut close, mut keep_alive, mut names_headers) = (None, None, false, false, false);
    let mut bound_lines = false;
    for line in head.headers.lines() {
        let value = head.headers.value(line);
        bound_lines |=
            matches!(line.known, Known::Connection | Known::KeepAlive | Known::TransferEncoding | Known::Upgrade | Known::Trailer);
        match line.known {
            Known::ContentLength => {
                let value = content_length(value).ok_or("malformed Content-Length")?;
                once(&mut length, value, "more than one Content-Length header")?;
            }
            Known::TransferEncoding => {
                once(&mut coding, value, "more than one Transfer-Encoding header")?;
            }
            Known::Connection => {
                for token in tokens(value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        close = true;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        keep_alive = true;
                    } else if !token.eq_ignore_ascii_case(b"upgrade") {
                        names_headers = true;
                    }
                }
            }
            _ => {}
        }
    }
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
        return Err("unknown Transfer-Encoding");
    }
    if coding.is_some() && length.is_some() {
        return Err("Content-Length with Transfer-Encoding");
    }
    let bodiless = method == Method::Head || head.status < 200 || matches!(head.status, 204 | 304);
    head.framing = match (coding, length) {
        _ if bodiless => Framing::None,
        (Some(_), _) => Framing::Chunked,
        (None, Some(0)) => Framing::None,
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::UntilClose,
    };
    let stays = if http10 { keep_alive && !close } else { !close };
    persistence.keep_alive = stays && head.framing != Framing::UntilClose && head.status != 101;
    persistence.bound_lines = bound_lines;
    persistence.names_headers = names_headers;
    Ok(())
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
