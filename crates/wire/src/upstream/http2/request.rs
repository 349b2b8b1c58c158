//! From the HTTP/1.1 head the proxy wrote to an HTTP/2 header block.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::headers::Known;

/// The head as the `h2` crate wants it: `Host` becomes `:authority`, lines that HTTP/2 forbids (RFC 9113 section 8.2.2) stay
/// behind. None when the path or the host is nothing a URI may hold.
pub(super) fn message(head: &[u8], https: bool) -> Option<Request<()>> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let (method, path) = (words.next()?, words.next()?);
    let mut message = Request::new(());
    *message.method_mut() = Method::from_bytes(method).ok()?;
    *message.version_mut() = Version::HTTP_2;
    let headers = message.headers_mut();
    headers.reserve(24);
    let mut authority = None;
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match Known::of(name) {
            Known::Host => authority = Some(Authority::try_from(value).ok()?),
            Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::TransferEncoding | Known::Upgrade => {}
            _ => {
                // A line that is no HTTP/2 field is left out rather than failing the request.
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                    headers.append(name, value);
                }
            }
        }
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if https { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority?);
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    *message.uri_mut() = Uri::from_parts(parts).ok()?;
    Some(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_written_head_becomes_a_header_block() {
        let head = b"POST /a.B/C?x=1 HTTP/1.1\r\nHost: up.test:1\r\nConnection: keep-alive\r\nTE: trailers\r\nX-A: 1\r\nx-a: 2\r\n\
                     Transfer-Encoding: chunked\r\n\r\n";
        let message = message(head, true).unwrap();
        assert_eq!(message.uri(), "https://up.test:1/a.B/C?x=1");
        assert_eq!(message.method(), Method::POST);
        assert_eq!(message.headers().get_all("x-a").iter().count(), 2);
        assert_eq!(message.headers()["te"], "trailers");
        assert_eq!(message.headers().len(), 3);
    }

    #[test]
    fn what_no_uri_holds_is_refused() {
        assert!(message(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", false).is_none());
        assert!(message(b"GET / HTTP/1.1\r\n\r\n", false).is_none());
    }
}
