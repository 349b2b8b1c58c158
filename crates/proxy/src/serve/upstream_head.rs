//! The request head as it goes to the upstream (behaviour checklist 6.1 and 17).
//!
//! Untouched client headers go in runs, as they came; hop-by-hop headers and those the gateway answers for are left out and
//! written anew behind them.

use portcullis_plugin::{Headers, Request, Version};
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

/// The host of a request that names none (HTTP/1.0): the name of Kong's server in nginx.
pub const NAMELESS_HOST: &[u8] = b"kong";

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
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(hop.host);
    out.extend_from_slice(b"\r\n");

    let given = Given::of(headers);
    let websocket =
        head.method != Method::Connect && given.upgrade.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"websocket"));
    let named = given.connection.is_some_and(names_headers);
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
        | Known::XRealIp => false,
        Known::XKongRequestId if settings.headers.upstream_request_id => false,
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
    forwarded(out, request, hop, &given);
    out.extend_from_slice(b"Via: ");
    if let Some(via) = given.via {
        out.extend_from_slice(via);
        out.extend_from_slice(b", ");
    }
    match head.version {
        Version::Http11 => out.extend_from_slice(b"1.1 "),
        // Kong writes the version as a number.
        Version::Http10 => out.extend_from_slice(b"1 "),
        later => {
            out.extend_from_slice(later.text().as_bytes());
            out.push(b' ');
        }
    }
    out.extend_from_slice(settings.product.as_bytes());
    if settings.headers.upstream_request_id {
        out.extend_from_slice(b"\r\nX-Kong-Request-Id: ");
        out.extend_from_slice(&request.id.0);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// The client's headers that the gateway's own are made of, the first of each.
#[derive(Default)]
struct Given<'a> {
    host: Option<&'a [u8]>,
    connection: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    via: Option<&'a [u8]>,
    forwarded_for: Option<&'a [u8]>,
}

impl<'a> Given<'a> {
    fn of(headers: &'a Headers) -> Self {
        let mut given = Self::default();
        for line in headers.lines() {
            let place = match line.known {
                Known::Host => &mut given.host,
                Known::Connection => &mut given.connection,
                Known::Upgrade => &mut given.upgrade,
                Known::Via => &mut given.via,
                Known::XForwardedFor => &mut given.forwarded_for,
                _ => continue,
            };
            place.get_or_insert(headers.value(line));
        }
        given
    }
}

/// The `X-Forwarded-*` family: a trusted peer's own values stand, anybody else's are replaced.
fn forwarded(out: &mut Vec<u8>, request: &Request, hop: &Hop<'_>, given: &Given<'_>) {
    let client = &request.client;
    out.extend_from_slice(b"X-Real-IP: ");
    out.extend_from_slice(hop.real_ip);
    out.extend_from_slice(b"\r\nX-Forwarded-For: ");
    match given.forwarded_for {
        Some(chain) => {
            out.extend_from_slice(chain);
            out.extend_from_slice(b", ");
            out.extend_from_slice(hop.peer);
        }
        // Without a chain to go on with it begins with the client, wherever its address was found.
        None => out.extend_from_slice(hop.real_ip),
    }
    if client.trusted {
        return believed(out, request, hop, given);
    }
    out.extend_from_slice(if client.https {
        b"\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: "
    } else {
        b"\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: "
    });
    put_host(out, request, given);
    out.extend_from_slice(b"\r\nX-Forwarded-Port: ");
    put_number(out, client.listen_port.into());
    out.extend_from_slice(b"\r\nX-Forwarded-Path: ");
    out.extend_from_slice(request.head.path());
    out.extend_from_slice(b"\r\n");
    if hop.stripped != b"/" {
        line(out, b"X-Forwarded-Prefix: ", hop.stripped);
    }
}

/// The rest of the family behind a trusted peer.
#[cold]
fn believed(out: &mut Vec<u8>, request: &Request, hop: &Hop<'_>, given: &Given<'_>) {
    let (headers, client) = (&request.head.headers, &request.client);
    out.extend_from_slice(b"\r\n");
    let own_scheme: &[u8] = if client.https { b"https" } else { b"http" };
    line(out, b"X-Forwarded-Proto: ", headers.known(Known::XForwardedProto).unwrap_or(own_scheme));
    match headers.known(Known::XForwardedHost) {
        Some(host) => line(out, b"X-Forwarded-Host: ", host),
        None => {
            out.extend_from_slice(b"X-Forwarded-Host: ");
            put_host(out, request, given);
            out.extend_from_slice(b"\r\n");
        }
    }
    let mut own_port = Decimal::default();
    let own_port = own_port.write(client.listen_port.into());
    line(out, b"X-Forwarded-Port: ", headers.known(Known::XForwardedPort).unwrap_or(own_port));
    line(out, b"X-Forwarded-Path: ", headers.known(Known::XForwardedPath).unwrap_or_else(|| request.head.path()));
    match headers.known(Known::XForwardedPrefix) {
        Some(prefix) => line(out, b"X-Forwarded-Prefix: ", prefix),
        None if hop.stripped == b"/" => {}
        None => line(out, b"X-Forwarded-Prefix: ", hop.stripped),
    }
}

/// The host that was asked, as nginx' `$host` has it: in lower case, without a port or a dot at its end.
fn put_host(out: &mut Vec<u8>, request: &Request, given: &Given<'_>) {
    let host = without_port(request.head.authority().or(given.host).unwrap_or(NAMELESS_HOST));
    let start = out.len();
    out.extend_from_slice(host);
    out[start..].make_ascii_lowercase();
    if out.len() > start && out.last() == Some(&b'.') {
        out.pop();
    }
}

/// A header line; none where the value is empty, as nginx leaves such out.
fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// `Proxy` is a hole in CGI servers, and the request debugging headers are for the gateway only.
fn is_passed_on(name: &[u8]) -> bool {
    match name.len() {
        5 => !name.eq_ignore_ascii_case(b"proxy"),
        20.. => !name[..20].eq_ignore_ascii_case(b"x-kong-request-debug"),
        _ => true,
    }
}

fn names_headers(connection: &[u8]) -> bool {
    !connection.eq_ignore_ascii_case(b"keep-alive") && !connection.eq_ignore_ascii_case(b"close")
}

fn named_by_connection(headers: &Headers, name: &[u8]) -> bool {
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
