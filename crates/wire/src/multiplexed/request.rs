//! From an HTTP/2 header block to a request head.

use std::hash::{BuildHasher, RandomState};

use h2::ext::Protocol;
use http::header;
use http::request::Parts;

use crate::head::{Framing, Method, RequestHead, Version};
use crate::headers::Known;
use crate::parse::{content_length, target};
use crate::serve::Refusal;

/// Longest field line, as for HTTP/1.1.
const LINE_LIMIT: usize = 8192;

/// Writes the header block into `head`, whose buffers are reused: names in lower case as they came, `cookie` lines joined
/// (RFC 9113 section 8.2.3), `:authority` as the first `host` line.
pub(super) fn read_head(parts: &Parts, has_body: bool, max_body_size: u64, head: &mut RequestHead) -> Result<(), Refusal> {
    head.clear();
    head.version = Version::Http2;
    // A WebSocket asks for its stream as it would for an upgrade (RFC 8441 section 5).
    let websocket = match parts.extensions.get::<Protocol>().map(Protocol::as_str) {
        None => false,
        Some("websocket") => true,
        Some(_) => return Err(Refusal::new(501, "unknown :protocol")),
    };
    let method = if websocket { "GET" } else { parts.method.as_str() };
    head.method = Method::of(method.as_bytes());
    head.method_text = head.headers.push_raw(method.as_bytes());
    if !method.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-')) {
        return Err(Refusal::bad("malformed method"));
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    if path.len() > LINE_LIMIT {
        return Err(crate::parse::limits::TARGET_TOO_LONG);
    }
    head.target = head.headers.push_raw(path.as_bytes());
    let host = parts.headers.get(header::HOST);
    if let Some(authority) = parts.uri.authority() {
        let authority = authority.as_str();
        if !target::host_is_valid(authority.as_bytes()) {
            return Err(Refusal::bad("malformed :authority"));
        }
        head.authority = Some(head.headers.push_raw(authority.as_bytes()));
        if host.is_none() {
            head.headers.append("host", authority.as_bytes());
        }
    }
    let (mut length, mut unique) = (None, 0u64);
    for (name, value) in &parts.headers {
        if name.as_str().len() + value.len() + 4 > LINE_LIMIT {
            return Err(crate::parse::limits::HEADER_TOO_LARGE);
        }
        if name == header::HOST && !target::host_is_valid(value.as_bytes()) {
            return Err(Refusal::bad("malformed Host header"));
        }
        if name == header::CONTENT_LENGTH {
            let parsed = content_length(value.as_bytes()).ok_or(Refusal::bad("malformed Content-Length"))?;
            if length.replace(parsed).is_some() {
                return Err(Refusal::bad("more than one Content-Length header"));
            }
        }
        let known = Known::of(name.as_str().as_bytes());
        if known.is_unique() {
            if unique & (1 << known as u8) != 0 {
                return Err(crate::parse::request::REPEATED);
            }
            unique |= 1u64 << known as u8;
        }
        // Dropped, as in HTTP/1.1.
        let valid = crate::parse::lines::is_valid_name(name.as_str().as_bytes());
        if valid && name != header::COOKIE {
            head.headers.append(name.as_str(), value.as_bytes());
        }
    }
    let mut cookies = parts.headers.get_all(header::COOKIE).iter();
    if let Some(first) = cookies.next() {
        let joined = cookies.fold(first.as_bytes().to_vec(), |mut joined, cookie| {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
            joined
        });
        head.headers.append("cookie", &joined);
    }
    if websocket {
        head.headers.append("upgrade", b"websocket");
        head.headers.append("sec-websocket-key", nonce().as_bytes());
        head.upgrade = true;
    }
    if matches!(head.method, Method::Connect | Method::Trace) {
        return Err(Refusal::new(405, "method not allowed"));
    }
    if !path.starts_with('/') {
        return Err(Refusal::bad("malformed request target"));
    }
    target::check_path(path.as_bytes()).map_err(Refusal::bad)?;
    if head.headers.known(Known::Host).is_none() {
        return Err(Refusal::bad("no :authority and no Host header"));
    }
    if parts.headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Err(Refusal::bad("more than one Host header"));
    }
    if max_body_size > 0 && length.is_some_and(|length| length > max_body_size) {
        return Err(Refusal::new(413, "request body larger than allowed"));
    }
    head.framing = match length {
        _ if !has_body || websocket => Framing::None,
        Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    Ok(())
}

/// What a `Sec-WebSocket-Key` is: 16 random bytes in base64. Nobody checks the answer to it: the stream itself is the proof.
fn nonce() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = u128::from(RandomState::new().hash_one(0)) << 64 | u128::from(RandomState::new().hash_one(1));
    let mut digits = String::with_capacity(24);
    for _ in 0..21 {
        digits.push(char::from(DIGITS[(bits >> 122) as usize]));
        bits <<= 6;
    }
    // Two bits are left of the 128.
    digits.push(char::from(DIGITS[(bits >> 122) as usize & 0b11_0000]));
    digits.push_str("==");
    digits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(request: http::request::Builder, has_body: bool) -> Result<RequestHead, Refusal> {
        let mut head = RequestHead::default();
        read_head(&request.body(()).unwrap().into_parts().0, has_body, 0, &mut head).map(|()| head)
    }

    #[test]
    fn a_header_block_reads_like_a_request_head() {
        let request = http::Request::builder()
            .method("POST")
            .uri("https://a.test:1/p?q=1")
            .header("x-a", "1")
            .header("x!b", "1")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let head = read(request, true).unwrap();
        assert_eq!((head.method, head.target(), head.authority()), (Method::Post, b"/p?q=1".as_slice(), Some(b"a.test:1".as_slice())));
        assert_eq!(head.framing, Framing::Chunked);
        let lines: Vec<_> = head.headers.iter().collect();
        assert_eq!(lines[..2], [(b"host".as_slice(), b"a.test:1".as_slice()), (b"x-a".as_slice(), b"1".as_slice())]);
        assert_eq!(lines.len(), 3);
        assert_eq!(head.headers.get("cookie"), Some(b"a=1; b=2".as_slice()));
    }

    #[test]
    fn a_websocket_asks_as_for_an_upgrade() {
        let connect = || http::Request::builder().method("CONNECT").uri("https://a.test/chat").header("sec-websocket-version", "13");
        let head = read(connect().extension(Protocol::from_static("websocket")), true).unwrap();
        assert_eq!((head.method, head.method_text(), head.framing, head.upgrade), (Method::Get, b"GET".as_slice(), Framing::None, true));
        assert_eq!(head.headers.get("upgrade"), Some(b"websocket".as_slice()));
        assert_eq!(head.headers.get("sec-websocket-key").map(<[u8]>::len), Some(24));
        assert_eq!(read(connect().extension(Protocol::from_static("other")), true).unwrap_err().status, 501);
        assert_eq!(read(connect(), true).unwrap_err().status, 405);
    }

    #[test]
    fn what_http_1_refuses_is_refused_here_too() {
        let get = |uri: &str| http::Request::builder().uri(uri);
        assert_eq!(read(get("https://a.test/%zz"), false).unwrap_err().status, 400);
        assert_eq!(read(get("https://a.test/x").method("TRACE"), false).unwrap_err().status, 405);
        assert_eq!(read(get("https://a.test/x").method("get"), false).unwrap_err().status, 400);
        assert_eq!(read(get("https://a.test/x").header("content-length", "x"), true).unwrap_err().status, 400);
        let twice = get("https://a.test/x").header("authorization", "a").header("authorization", "b");
        assert_eq!(read(twice, false).unwrap_err().status, 400);
        assert_eq!(read(get("/x"), false).unwrap_err().status, 400);
        assert_eq!(read(get("https://a.test/x").header("x", "a".repeat(9000)), false).unwrap_err().status, 494);
    }
}
