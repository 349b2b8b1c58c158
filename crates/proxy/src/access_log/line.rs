//! A finished exchange as a line of the access log.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use base64::Engine;
use portcullis_plugin::{Request, RequestHead, ResponseHead, Source, Version};
use portcullis_wire::headers::Known;
use portcullis_wire::{Headers, Peer};

use super::format::{Format, Variable};
use super::{Tap, Time};
use crate::serve::Trace;
use crate::serve::upstream_head::Decimal;

/// What a line is made of.
pub(crate) struct Facts<'a> {
    pub request: &'a Request,
    pub response: &'a ResponseHead,
    pub source: Source,
    pub trace: &'a Trace,
    pub now: Instant,
    /// Milliseconds since the epoch.
    pub now_ms: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub body_bytes: u64,
}

impl Facts<'_> {
    pub fn write(&self, format: &Format, tap: &Tap) {
        tap.write(self.now_ms, |out, time| format.write(out, |variable, out| self.value(variable, time, out)));
    }

    fn value(&self, variable: &Variable, time: &Time, out: &mut Vec<u8>) {
        let request = self.request;
        let (head, client) = (&request.head, &request.client);
        let tls = client.peer.tls.as_ref();
        match variable {
            // The usual client has one address, which the connection keeps as text.
            Variable::RemoteAddress if client.forwarded_ip == client.ip => out.extend_from_slice(&client.peer.address_text),
            Variable::RemoteAddress => put_address(out, client.forwarded_ip),
            Variable::RemotePort => put_number(out, u64::from(client.port)),
            Variable::RemoteUser => put_user(out, &head.headers),
            Variable::TimeLocal => out.extend_from_slice(time.common.as_bytes()),
            Variable::TimeIso => out.extend_from_slice(time.iso.as_bytes()),
            Variable::Milliseconds => put_seconds(out, Duration::from_millis(self.now_ms)),
            Variable::Request => {
                out.extend_from_slice(head.method_text());
                out.push(b' ');
                out.extend_from_slice(head.target());
                out.push(b' ');
                out.extend_from_slice(protocol(head.version));
            }
            Variable::Method => out.extend_from_slice(head.method_text()),
            Variable::RequestUri => out.extend_from_slice(head.target()),
            Variable::Path => out.extend_from_slice(head.path()),
            Variable::Arguments => out.extend_from_slice(head.query().unwrap_or_default()),
            Variable::Scheme => out.extend_from_slice(if client.https { b"https" } else { b"http" }),
            Variable::Host => put_host(out, head.authority().or_else(|| head.headers.known(Known::Host)).unwrap_or_default()),
            Variable::Protocol => out.extend_from_slice(protocol(head.version)),
            Variable::Status => put_number(out, u64::from(self.response.status)),
            Variable::BodyBytesSent => put_number(out, self.body_bytes),
            Variable::BytesSent => put_number(out, self.response_bytes),
            Variable::RequestLength => put_number(out, self.request_bytes),
            Variable::RequestTime => put_seconds(out, self.now.saturating_duration_since(request.started)),
            Variable::UpstreamAddress => put_list(out, self.trace.tries.iter().filter_map(|attempt| attempt.address), put_socket),
            Variable::UpstreamStatus => put_list(out, self.trace.statuses.iter(), |out, status| put_number(out, u64::from(*status))),
            Variable::UpstreamTime => self.put_since_balanced(out, self.now),
            Variable::UpstreamHeaderTime => {
                if let Some(answered) = self.trace.answered {
                    self.put_since_balanced(out, answered);
                }
            }
            Variable::RequestHeader(name) => out.extend_from_slice(head.headers.get(name).unwrap_or_default()),
            Variable::ResponseHeader(name) => out.extend_from_slice(self.response.headers.get(name).unwrap_or_default()),
            Variable::RequestId => out.extend_from_slice(request.id.as_bytes()),
            Variable::Connection => put_number(out, client.connection),
            Variable::ConnectionRequests => put_number(out, client.connection_requests),
            Variable::Pipelined => out.push(if client.connection_requests > 1 { b'p' } else { b'.' }),
            Variable::ServerAddress => put_address(out, client.listen_ip),
            Variable::ServerPort => put_number(out, u64::from(client.listen_port)),
            Variable::TlsProtocol => out.extend_from_slice(tls.map(|tls| tls.version).unwrap_or_default().as_bytes()),
            Variable::TlsCipher => out.extend_from_slice(tls.map(|tls| &*tls.cipher).unwrap_or_default().as_bytes()),
            Variable::TlsName => out.extend_from_slice(tls.and_then(|tls| tls.sni.as_deref()).unwrap_or_default().as_bytes()),
            Variable::Process => put_number(out, u64::from(std::process::id())),
            Variable::Route => put_name(out, request.route.as_deref().map(|route| (route.name.as_deref(), route.id))),
            Variable::Service => put_name(out, request.service.as_deref().map(|service| (service.name.as_deref(), service.id))),
            Variable::Consumer => put_name(out, request.consumer.as_deref().map(|consumer| (consumer.username.as_deref(), consumer.id))),
            Variable::Source => out.extend_from_slice(self.source.log_text().as_bytes()),
            Variable::KongLatency => {
                let spent = self.trace.balanced.unwrap_or(self.now).saturating_duration_since(request.started);
                put_number(out, spent.as_millis() as u64);
            }
            Variable::Unknown => {}
        }
    }

    fn put_since_balanced(&self, out: &mut Vec<u8>, moment: Instant) {
        if let Some(balanced) = self.trace.balanced.filter(|_| self.trace.proxied) {
            put_seconds(out, moment.saturating_duration_since(balanced));
        }
    }
}

/// A line for a message that was refused before it became a request: what could be understood of it.
pub(crate) fn write_refusal(log: (&Format, &Tap), now_ms: u64, head: &RequestHead, (response, body): (&ResponseHead, &[u8]), peer: &Peer) {
    let (format, tap) = log;
    tap.write(now_ms, |out, time| {
        format.write(out, |variable, out| match variable {
            Variable::RemoteAddress => out.extend_from_slice(&peer.address_text),
            Variable::TimeLocal => out.extend_from_slice(time.common.as_bytes()),
            Variable::TimeIso => out.extend_from_slice(time.iso.as_bytes()),
            Variable::Milliseconds => put_seconds(out, Duration::from_millis(now_ms)),
            Variable::Request if !head.target().is_empty() => {
                out.extend_from_slice(head.method_text());
                out.push(b' ');
                out.extend_from_slice(head.target());
                out.push(b' ');
                out.extend_from_slice(protocol(head.version));
            }
            Variable::Status => put_number(out, u64::from(response.status)),
            Variable::BodyBytesSent | Variable::BytesSent => put_number(out, body.len() as u64),
            Variable::RequestLength | Variable::KongLatency => put_number(out, 0),
            Variable::RequestTime => put_seconds(out, Duration::ZERO),
            Variable::RequestHeader(name) => out.extend_from_slice(head.headers.get(name).unwrap_or_default()),
            Variable::ResponseHeader(name) => out.extend_from_slice(response.headers.get(name).unwrap_or_default()),
            Variable::RequestId => out.extend_from_slice(response.headers.get("x-kong-request-id").unwrap_or_default()),
            Variable::Source => out.extend_from_slice(b"kong"),
            Variable::Connection => put_number(out, peer.connection_id),
            Variable::Process => put_number(out, u64::from(std::process::id())),
            _ => {}
        });
    });
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
        Version::Http2 => b"HTTP/2.0",
        Version::Http3 => b"HTTP/3.0",
    }
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(Decimal::default().write(number));
}

/// Seconds with milliseconds: `0.042`.
fn put_seconds(out: &mut Vec<u8>, time: Duration) {
    put_number(out, time.as_secs());
    let milliseconds = time.subsec_millis();
    out.push(b'.');
    out.extend([milliseconds / 100, milliseconds / 10 % 10, milliseconds % 10].map(|digit| b'0' + digit as u8));
}

fn put_address(out: &mut Vec<u8>, ip: Option<IpAddr>) {
    // Writing to a vector cannot fail.
    let _ = match ip {
        Some(ip) => write!(out, "{ip}"),
        None => write!(out, "unix:"),
    };
}

fn put_socket(out: &mut Vec<u8>, address: SocketAddr) {
    let _ = write!(out, "{address}");
}

/// As nginx joins what belongs to several upstream servers.
fn put_list<T>(out: &mut Vec<u8>, values: impl Iterator<Item = T>, put: impl Fn(&mut Vec<u8>, T)) {
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        put(out, value);
    }
}

fn put_name(out: &mut Vec<u8>, of: Option<(Option<&str>, uuid::Uuid)>) {
    let _ = match of {
        Some((Some(name), _)) => write!(out, "{name}"),
        Some((None, id)) => write!(out, "{id}"),
        None => Ok(()),
    };
}

/// The name without its port, in lower case.
fn put_host(out: &mut Vec<u8>, authority: &[u8]) {
    let port = authority.iter().rposition(|byte| *byte == b':').filter(|at| !authority[*at..].contains(&b']'));
    out.extend(authority[..port.unwrap_or(authority.len())].iter().map(u8::to_ascii_lowercase));
}

/// The user of basic authentication, as far as there is one.
fn put_user(out: &mut Vec<u8>, headers: &Headers) {
    let Some(value) = headers.get("authorization") else { return };
    let Some((scheme, rest)) = value.split_at_checked(6) else { return };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return;
    }
    if let Ok(credentials) = base64::engine::general_purpose::STANDARD.decode(rest.trim_ascii())
        && let Some(end) = credentials.iter().position(|byte| *byte == b':')
    {
        out.extend_from_slice(&credentials[..end]);
    }
}
