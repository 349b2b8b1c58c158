//! The spans of an exchange as OTLP messages (`opentelemetry.proto.trace.v1.Span`).

use std::io::Write;
use std::time::Instant;

use portcullis_plugin::{Exchange, Instruments, Stage};

use super::Trace;
use super::protobuf::Message;
use crate::propagation::random_id;

/// `SpanKind`
const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// `Span.attributes`
const ATTRIBUTES: u32 = 9;

/// All there is to make spans of.
pub struct Spans<'a> {
    pub trace: &'a Trace,
    pub exchange: &'a Exchange<'a>,
    pub instruments: Instruments,
    pub now: Instant,
}

impl Spans<'_> {
    /// Hands every span on as a message of its own, the root first.
    pub fn each(&self, mut put: impl FnMut(Box<[u8]>)) {
        put(self.root());
        self.stages(&mut put);
        if self.instruments.has(Instruments::BALANCER) {
            (0..self.exchange.tries.len()).for_each(|at| put(self.attempt(at)));
        }
    }

    /// Nanoseconds since the epoch.
    fn at(&self, moment: Instant) -> u64 {
        let request = self.exchange.request;
        request.started_at_ms * 1_000_000 + moment.saturating_duration_since(request.started).as_nanos() as u64
    }

    fn span(&self, id: u64, parent: Option<u64>, name: &str, kind: u64, (begun, ended): (u64, u64)) -> Message {
        let mut span = Message(Vec::with_capacity(512));
        span.bytes(1, &self.trace.id.value.to_be_bytes());
        span.bytes(2, &id.to_be_bytes());
        if let Some(parent) = parent {
            span.bytes(4, &parent.to_be_bytes());
        }
        span.text(5, name.as_bytes());
        span.varint(6, kind);
        span.fixed64(7, begun);
        span.fixed64(8, ended.max(begun));
        // Sampled, as in W3C's trace flags.
        span.fixed32(16, 1);
        span
    }

    fn root(&self) -> Box<[u8]> {
        let request = self.exchange.request;
        let head = &request.head;
        let mut span = self.span(self.trace.root, self.trace.parent, "kong", SERVER, (self.at(request.started), self.at(self.now)));
        let scheme = if request.client.forwarded_https { "https" } else { "http" };
        let host = host(head.authority().or_else(|| head.headers.get("host")).unwrap_or_default());
        let mut url = Vec::with_capacity(scheme.len() + 3 + host.len() + head.target().len());
        url.extend_from_slice(scheme.as_bytes());
        url.extend_from_slice(b"://");
        url.extend_from_slice(&host);
        url.extend_from_slice(head.target());
        span.attribute(ATTRIBUTES, "http.method", head.method_text());
        span.attribute(ATTRIBUTES, "http.url", &url);
        span.attribute(ATTRIBUTES, "http.host", &host);
        span.attribute(ATTRIBUTES, "http.scheme", scheme.as_bytes());
        span.attribute(ATTRIBUTES, "http.flavor", head.version.text().as_bytes());
        span.attribute(ATTRIBUTES, "kong.request.id", request.id.as_bytes());
        let mut address = Vec::with_capacity(40);
        for (name, ip) in [("http.client_ip", request.client.forwarded_ip), ("net.peer.ip", request.client.ip)] {
            if let Some(ip) = ip {
                address.clear();
                // Writing to a vector cannot fail.
                let _ = write!(address, "{ip}");
                span.attribute(ATTRIBUTES, name, &address);
            }
        }
        if let Some(path) = request.route.as_ref().and_then(|route| route.paths.as_ref()?.first()) {
            span.attribute(ATTRIBUTES, "http.route", path.as_bytes());
        }
        let status = self.exchange.response.status;
        span.number(ATTRIBUTES, "http.status_code", i64::from(status));
        if status >= 500 {
            fail(&mut span);
        }
        span.0.into()
    }

    /// What the gateway noted on the request's way.
    fn stages(&self, put: &mut impl FnMut(Box<[u8]>)) {
        let Some(timeline) = &self.exchange.request.timeline else { return };
        for stretch in &timeline.stretches {
            let times = (self.at(stretch.begun), self.at(stretch.ended));
            let (instrument, name, kind) = match stretch.stage {
                Stage::Router => (Instruments::ROUTER, "kong.router".to_owned(), INTERNAL),
                Stage::Dns => (Instruments::DNS, "kong.dns".to_owned(), CLIENT),
                Stage::Rewrite(plugin) => (Instruments::REWRITE, format!("kong.rewrite.plugin.{plugin}"), INTERNAL),
                Stage::Access(plugin) => (Instruments::ACCESS, format!("kong.access.plugin.{plugin}"), INTERNAL),
                Stage::HeaderFilter(plugin) => (Instruments::HEADER_FILTER, format!("kong.header_filter.plugin.{plugin}"), INTERNAL),
            };
            if !self.instruments.has(instrument) {
                continue;
            }
            let mut span = self.span(random_id(), Some(self.trace.root), &name, kind, times);
            if stretch.stage == Stage::Dns {
                let request = self.exchange.request;
                span.attribute(ATTRIBUTES, "dns.record.domain", request.upstream.host.as_bytes());
                if let Some(address) = self.exchange.tries.first().and_then(|attempt| attempt.address) {
                    span.number(ATTRIBUTES, "dns.record.port", i64::from(address.port()));
                    span.attribute(ATTRIBUTES, "dns.record.ip", address.ip().to_string().as_bytes());
                }
            }
            put(span.0.into());
        }
    }

    fn attempt(&self, at: usize) -> Box<[u8]> {
        let tries = self.exchange.tries;
        let attempt = &tries[at];
        // The next try begins where this one failed.
        let ended = tries.get(at + 1).map_or_else(|| self.at(self.now), |next| next.balancer_start_ns);
        // The upstream was told of one span: the last try's, which is the one that may have reached it.
        let id = if at + 1 == tries.len() { self.trace.balancer } else { random_id() };
        let mut span = self.span(id, Some(self.trace.root), "kong.balancer", CLIENT, (attempt.balancer_start_ns, ended));
        span.number(ATTRIBUTES, "try_count", at as i64 + 1);
        if let Some(address) = attempt.address {
            span.attribute(ATTRIBUTES, "net.peer.ip", address.ip().to_string().as_bytes());
            span.number(ATTRIBUTES, "net.peer.port", i64::from(address.port()));
        }
        span.attribute(ATTRIBUTES, "net.peer.name", self.exchange.request.upstream.host.as_bytes());
        if attempt.state.is_some() {
            if let Some(code) = attempt.code {
                span.number(ATTRIBUTES, "http.status_code", i64::from(code));
            }
            fail(&mut span);
        }
        span.0.into()
    }
}

/// `Span.status` with `STATUS_CODE_ERROR`
fn fail(span: &mut Message) {
    span.message(15, |status| status.varint(3, 2));
}

/// The name without its port, in lower case.
fn host(authority: &[u8]) -> Vec<u8> {
    let port = authority.iter().rposition(|byte| *byte == b':').filter(|at| !authority[*at..].contains(&b']'));
    authority[..port.unwrap_or(authority.len())].to_ascii_lowercase()
}
