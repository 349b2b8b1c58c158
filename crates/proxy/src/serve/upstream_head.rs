//! The request head as it goes to the upstream (behaviour checklist 6.1 and 17).
//!
//! Untouched client headers go in runs, as they came; hop-by-hop headers and those the gateway answers for are left out and
//! written anew behind them.

use portcullis_plugin::Request;
use portcullis_wire::head::Method;
use portcullis_wire::headers::Known;

use crate::settings::ProxySettings;

/// How the request body is framed. What the wire sends decides it, never the client's lines: HTTP/2 bodies come without any,
/// and a plugin may have taken them away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyHeaders {
    /// There is none; a client's `Content-Length: 0` stays.
    Empty,
    /// This many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// Where a try goes, as far as the head tells.
pub struct Hop<'a> {
    /// The complete `Host` value.
    pub host: &'a [u8],
    /// The TCP peer's address as text.
    pub peer: &'a [u8],
    /// The client's address as text, where a trusted peer gave another than its own.
    pub real_ip: &'a [u8],
    /// The matched prefix that was cut off the path; empty when nothing was.
    pub stripped: &'a [u8],
}

/// Writes the head, blank line included, to `out`.
pub fn write(out: &mut Vec<u8>, settings: &ProxySettings, request: &Request, hop: &Hop<'_>, body: BodyHeaders) {
    let head = &request.head;
    let headers = &head.headers;
    let upstream = &request.upstream;
    out.reserve(512 + upstream.path.len() + hop.host.len());
    out.extend_from_slice(upstream.method.as_deref().map_or(head.method_text(), str::as_bytes));
    out.push(b' ');
    out.extend_from_slice(&upstream.path);
    if let Some(query) = &upstream.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    put(out, &[b" HTTP/1.1\r\nHost: ", hop.host, b"\r\n"]);

    let websocket = head.method != Method::Connect
        && headers.known(Known::Upgrade).is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"websocket"));
    let named = headers.known(Known::Connection).is_some_and(names_headers);
    let mut trailers = false;
    headers.write_to(out, |line| match line.known {
        Known::Other => {
            let name = headers.name(line);
            is_passed_on(name) && !(named && named_by_connection(headers, name))
        }
        Known::ContentLength => body == BodyHeaders::Empty,
        Known::TransferEncoding => false,
        Known::Te => {
            trailers |= tokens(headers.value(line)).any(|token| token.eq_ignore_ascii_case(b"trailers"));
            false
        }
        Known::Host
        | Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::Upgrade
        | Known::Expect
        | Known::Via
        | Known::XForwardedFor
        | Known::XForwardedProto
        | Known::XForwardedHost
        | Known::XForwardedPort
        | Known::XForwardedPath
        | Known::XForwardedPrefix
        | Known::XRealIp
        | Known::XKongRequestId => false,
        _ => !(named && named_by_connection(headers, headers.name(line))),
    });

    out.extend_from_slice(if websocket {
        b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    } else {
        b"Connection: keep-alive\r\n"
    });
    if trailers {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    match body {
        BodyHeaders::Empty => {}
        BodyHeaders::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            put_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        BodyHeaders::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    forwarded(out, request, hop);
    out.extend_from_slice(b"Via: ");
    if let Some(via) = headers.known(Known::Via) {
        put(out, &[via, b", "]);
    }
    put(out, &[head.version.text().as_bytes(), b" ", settings.product.as_bytes(), b"\r\n"]);
    if settings.headers.upstream_request_id {
        put(out, &[b"X-Kong-Request-Id: ", request.id.as_bytes(), b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The `X-Forwarded-*` family: a trusted peer's own values stand, anybody else's are replaced.
fn forwarded(out: &mut Vec<u8>, request: &Request, hop: &Hop<'_>) {
    let headers = &request.head.headers;
    let client = &request.client;
    let given = |known: Known| if client.trusted { headers.known(known) } else { None };
    put(out, &[b"X-Real-IP: ", hop.real_ip, b"\r\nX-Forwarded-For: "]);
    if let Some(chain) = headers.known(Known::XForwardedFor) {
        put(out, &[chain, b", "]);
    }
    put(out, &[hop.peer, b"\r\nX-Forwarded-Proto: "]);
    let scheme: &[u8] = if client.https { b"https" } else { b"http" };
    put(out, &[given(Known::XForwardedProto).unwrap_or(scheme), b"\r\nX-Forwarded-Host: "]);
    match given(Known::XForwardedHost) {
        Some(host) => out.extend_from_slice(host),
        None => {
            let host = without_port(request.head.authority().or_else(|| headers.known(Known::Host)).unwrap_or_default());
            let start = out.len();
            out.extend_from_slice(host);
            out[start..].make_ascii_lowercase();
            // nginx' $host has no dot at its end.
            if out.len() > start && out.last() == Some(&b'.') {
                out.pop();
            }
        }
    }
    out.extend_from_slice(b"\r\nX-Forwarded-Port: ");
    match given(Known::XForwardedPort) {
        Some(port) => out.extend_from_slice(port),
        None => put_number(out, client.listen_port.into()),
    }
    put(out, &[b"\r\nX-Forwarded-Path: ", given(Known::XForwardedPath).unwrap_or(request.head.path()), b"\r\n"]);
    let prefix = given(Known::XForwardedPrefix).unwrap_or(hop.stripped);
    if !prefix.is_empty() && prefix != b"/" {
        put(out, &[b"X-Forwarded-Prefix: ", prefix, b"\r\n"]);
    }
}

/// nginx drops names with characters beyond letters, digits, `-` and `_`; `Proxy` is a hole in CGI servers, and the request
/// debugging headers are for the gateway only.
fn is_passed_on(name: &[u8]) -> bool {
    if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return false;
    }
    match name.len() {
        5 => !name.eq_ignore_ascii_case(b"proxy"),
        20.. => !name[..20].eq_ignore_ascii_case(b"x-kong-request-debug"),
        _ => true,
    }
}

fn names_headers(connection: &[u8]) -> bool {
    !connection.eq_ignore_ascii_case(b"keep-alive") && !connection.eq_ignore_ascii_case(b"close")
}

fn named_by_connection(headers: &portcullis_wire::Headers, name: &[u8]) -> bool {
    headers.get_all("connection").flat_map(tokens).any(|token| token.eq_ignore_ascii_case(name))
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// `host:8080`, `[::1]:80` → the host alone.
pub fn without_port(host: &[u8]) -> &[u8] {
    if host.first() == Some(&b'[') {
        return host.iter().position(|byte| *byte == b']').map_or(host, |end| &host[..=end]);
    }
    host.iter().position(|byte| *byte == b':').map_or(host, |colon| &host[..colon])
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A number in decimal, on the stack and without the formatting machinery.
#[derive(Default)]
pub struct Decimal([u8; 20]);

impl Decimal {
    pub fn write(&mut self, mut number: u64) -> &[u8] {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return &self.0[at..];
            }
        }
    }
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(Decimal::default().write(number));
}
