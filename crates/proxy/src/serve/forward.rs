//! Towards the upstream: pick a target, try it, try another, relay the answer.

use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_plugin::{Answer, Phases, Request, Response, ResponseHead, Source, Try, TryState};
use portcullis_wire::headers::Known;
use portcullis_wire::{BodyFilter, Downstream, Framing, Moments, RequestBody, Target, Timeouts, UpstreamError, UpstreamErrorKind};
use tracing::{error, warn};

use super::upstream_head::{self, BodyHeaders, Hop, put_number};
use super::{End, Resolved, Trace, respond};
use crate::balancer::{Balancer, BalancerError, HashInput, Outcome, TargetId};
use crate::dns::{Answer as Resolution, DnsError};
use crate::gateway::Worker;
use crate::snapshot::builder::host_with_port;
use crate::snapshot::{ServiceRow, Snapshot};

/// Where one try goes.
struct Place {
    address: SocketAddr,
    /// Name for SNI and, with the port, for the Host header.
    host: Box<str>,
    port: u16,
    target: Option<TargetId>,
}

/// Where tries come from.
enum Targets {
    /// An upstream entity's balancer.
    Balancer(Arc<Balancer>),
    /// The addresses of a host name, or the one address given.
    Addresses { host: Box<str>, addresses: Resolution, start: usize },
}

impl Worker {
    /// Sends the request to the service, trying as often as it allows, and relays the answer.
    pub(super) async fn forward(
        &self,
        snapshot: &Snapshot,
        service: &ServiceRow,
        request: &mut Request,
        stripped: &[u8],
        down: &mut Downstream,
        trace: &mut Trace,
        resolved: &Resolved<'_>,
    ) -> Result<ResponseHead, End> {
        let body = self.take_small_body(request, down).await?;
        let source = self.source(snapshot, request).await?;
        trace.balanced = Some(Instant::now());
        let entity = &service.entity;
        let timeouts = Timeouts {
            connect: milliseconds(entity.connect_timeout),
            write: milliseconds(entity.write_timeout),
            read: milliseconds(entity.read_timeout),
        };
        let idempotent = request.head.method.may_be_retried(request.head.method_text());
        let attempts = usize::from(entity.retries.unwrap_or(5)) + 1;
        let mut tried: Vec<TargetId> = Vec::new();
        let mut head = self.take_buffer();
        for attempt in 0..attempts {
            let begun = Instant::now();
            let place = match self.place(&source, &tried, attempt, request).await {
                Ok(place) => place,
                Err(end) if attempt == 0 => return Err(end),
                // The balancer has nobody left: the last failure is the answer.
                Err(_) => break,
            };
            trace.proxied = true;
            self.write_head(&mut head, service, request, stripped, &place, &body);
            let target = Target { address: place.address, tls: if request.upstream.https { service.tls.as_ref() } else { None } };
            let sent_body = match &body {
                Body::Empty => RequestBody::Empty,
                Body::Whole(bytes) => RequestBody::Whole(bytes),
                Body::Stream => RequestBody::Stream,
            };
            let mut moments = Moments::default();
            let sent = self
                .pools
                .send(&target, &place.host, &head, sent_body, idempotent, &request.head, down, &timeouts, &mut moments)
                .await;
            match sent {
                Ok((response, up)) => {
                    trace.answered = Some(moments.first_byte.unwrap_or_else(Instant::now));
                    self.record(trace, &place, begun, None, response.status);
                    if let (Targets::Balancer(balancer), Some(id)) = (&source, &place.target) {
                        balancer.report(id, Outcome::Answered { status: response.status, took: begun.elapsed() });
                    }
                    self.give_buffer(mem::take(&mut head));
                    return self.relay(request, down, trace, resolved, response, up).await;
                }
                Err(failure) => {
                    let status = match status_of(&failure) {
                        Ok(status) => status,
                        Err(end) => return Err(end),
                    };
                    let last = attempt + 1 == attempts || !failure.may_retry;
                    self.record(trace, &place, begun, Some(if last { TryState::Failed } else { TryState::Next }), status);
                    self.report_failure(&source, &place, &failure, last);
                    warn!(upstream = %place.address, host = %place.host, reason = ?failure.kind, last, "upstream failed");
                    if last {
                        return Err(End::Low(status));
                    }
                    tried.extend(place.target);
                }
            }
        }
        Err(End::Low(trace.tries.last().and_then(|attempt| attempt.code).unwrap_or(502)))
    }

    /// Edits the upstream's answer as gateway and plugins want it and streams it to the client.
    async fn relay(
        &self,
        request: &mut Request,
        down: &mut Downstream,
        trace: &mut Trace,
        resolved: &Resolved<'_>,
        mut response: ResponseHead,
        mut up: portcullis_wire::UpstreamResponse,
    ) -> Result<ResponseHead, End> {
        self.add_proxied_headers(&mut response.headers, request, trace);
        let switching = response.status == 101;
        let buffered = !switching
            && (request.upstream.buffer_response || resolved.iter().any(|bound| bound.entry.phases.has(Phases::RESPONSE)));
        let mut body = Vec::new();
        if buffered {
            let limit = self.gateway.settings.max_buffered_response;
            up.read_body(&mut body, limit).await.map_err(|failure| status_of(&failure).map_or_else(|end| end, End::Low))?;
            for bound in resolved.iter().filter(|bound| bound.entry.phases.has(Phases::RESPONSE)) {
                let Ok(handler) = &bound.handler else { continue };
                if let Err(cause) = handler.response(request, Response { head: &mut response, body: &mut body }) {
                    error!(plugin = bound.entry.name, %cause, "plugin failed");
                    return Err(Answer::error(500, "An unexpected error occurred").into());
                }
            }
        }
        self.header_filter(&mut response, request, resolved, Source::Service);
        let relayed = if switching {
            down.tunnel(&mut response, up).await.map(|_| ())
        } else if buffered {
            respond::filter_body(&mut body, request, resolved);
            response.framing = Framing::Length(body.len() as u64);
            response.headers.remove_known(Known::ContentLength);
            return match down.respond(&mut response, &body).await {
                Ok(()) => Ok(response),
                Err(_) => Err(End::Gone),
            };
        } else if resolved.iter().any(|bound| bound.entry.phases.has(Phases::BODY_FILTER)) {
            let mut filter = Filters { request, resolved };
            down.relay(&mut response, up, Some(&mut filter)).await.map(|_| ())
        } else {
            down.relay(&mut response, up, None).await.map(|_| ())
        };
        if let Err(failure) = relayed {
            // The head is out: the only honest end is a broken connection, which the wire has made of it.
            tracing::info!(reason = ?failure, "response was cut short");
        }
        Ok(response)
    }

    /// Takes the body along whole when it is small: then the request can be tried again, and the upstream isn't kept waiting
    /// for a slow client. Others stream.
    async fn take_small_body(&self, request: &mut Request, down: &mut Downstream) -> Result<Body, End> {
        if let Some(body) = request.upstream.body.take().or_else(|| request.body.take()) {
            return Ok(if body.is_empty() && request.head.framing == Framing::None { Body::Empty } else { Body::Whole(body) });
        }
        let buffering = request.route.as_ref().is_none_or(|route| route.request_buffering);
        match request.head.framing {
            Framing::None => Ok(Body::Empty),
            Framing::Length(length) if buffering && length <= self.gateway.settings.body_buffer_size => {
                let mut body = Vec::with_capacity(length as usize);
                down.read_body(&mut body, length).await.map_err(respond::body_error)?;
                Ok(Body::Whole(body))
            }
            _ => Ok(Body::Stream),
        }
    }

    fn write_head(&self, out: &mut Vec<u8>, service: &ServiceRow, request: &Request, stripped: &[u8], place: &Place, body: &Body) {
        out.clear();
        let upstream = &request.upstream;
        let made;
        let own_host = place.target.is_none() && *upstream.host == *service.entity.host && upstream.port == service.port;
        let kept = || request.route.as_ref().filter(|route| route.preserve_host).and(request.head.headers.known(Known::Host));
        let host: &[u8] = match upstream.host_header.as_deref().or_else(kept) {
            Some(host) => host,
            None if own_host => &service.host_header,
            None => {
                made = host_with_port(&place.host, place.port, upstream.https);
                &made
            }
        };
        let (mut peer, mut real) = ([0u8; 48], [0u8; 48]);
        let peer = ip_text(&mut peer, request.client.ip);
        let hop = Hop { host, peer, real_ip: ip_text(&mut real, request.client.forwarded_ip), stripped };
        let body = match body {
            Body::Whole(bytes) => BodyHeaders::Length(bytes.len()),
            Body::Empty | Body::Stream => BodyHeaders::Unchanged,
        };
        upstream_head::write(out, &self.gateway.settings, request, &hop, body);
    }

    /// Where tries for the request's host come from: an upstream entity of that name, the address itself, or DNS.
    async fn source(&self, snapshot: &Snapshot, request: &Request) -> Result<Targets, End> {
        let host = &request.upstream.host;
        if let Some(balancer) = snapshot.upstreams.by_name(host) {
            return Ok(Targets::Balancer(balancer));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = match bare.parse::<IpAddr>() {
            Ok(ip) => Resolution::address(ip),
            Err(_) => match self.gateway.dns.cached(host) {
                Some(answer) => answer,
                None => self.gateway.dns.resolve(host).await,
            }
            .map_err(|error| End::from(dns_answer(host, &error)))?,
        };
        Ok(Targets::Addresses { host: host.clone(), addresses, start: self.random() as usize })
    }

    async fn place(&self, source: &Targets, tried: &[TargetId], attempt: usize, request: &Request) -> Result<Place, End> {
        match source {
            Targets::Addresses { host, addresses, start } => {
                let (ip, port) = addresses.nth(start.wrapping_add(attempt));
                let port = port.unwrap_or(request.upstream.port);
                Ok(Place { address: SocketAddr::new(ip, port), host: host.clone(), port, target: None })
            }
            Targets::Balancer(balancer) => {
                let picked = balancer.pick(tried, &HashInput::of(request)).await.map_err(|error| match error {
                    BalancerError::NoPeer => End::from(Answer::error(503, "failure to get a peer from the ring-balancer")),
                    BalancerError::Dns(error) => dns_answer(&request.upstream.host, &error).into(),
                })?;
                Ok(Place { address: picked.address, host: picked.host, port: picked.port, target: Some(picked.id) })
            }
        }
    }

    fn record(&self, trace: &mut Trace, place: &Place, begun: Instant, state: Option<TryState>, code: u16) {
        if !trace.upstream_status.is_empty() {
            trace.upstream_status.push_str(", ");
        }
        let mut digits = Vec::with_capacity(4);
        put_number(&mut digits, code.into());
        trace.upstream_status.push_str(std::str::from_utf8(&digits).unwrap_or_default());
        let start = self.wall_clock_ns(begun);
        trace.tries.push(Try {
            balancer_start_ms: (start / 1_000_000) as u64,
            balancer_start_ns: start as u64,
            balancer_latency_ns: 0,
            address: Some(place.address),
            state,
            code: state.map(|_| code),
        });
    }

    fn report_failure(&self, source: &Targets, place: &Place, failure: &UpstreamError, last: bool) {
        let (Targets::Balancer(balancer), Some(id)) = (source, &place.target) else { return };
        let outcome = match failure.kind {
            UpstreamErrorKind::ReadTimeout | UpstreamErrorKind::ConnectTimeout | UpstreamErrorKind::SendTimeout => Outcome::TimedOut { last },
            UpstreamErrorKind::ClientGone | UpstreamErrorKind::ClientBody(_) => return,
            _ => Outcome::Refused { last },
        };
        balancer.report(id, outcome);
    }
}

/// The request's body on its way.
enum Body {
    Empty,
    Whole(Vec<u8>),
    /// Still in the client's connection.
    Stream,
}

/// The plugins' body filters as the wire calls them.
struct Filters<'a, 'p> {
    request: &'a mut Request,
    resolved: &'a Resolved<'p>,
}

impl BodyFilter for Filters<'_, '_> {
    fn filter(&mut self, chunk: &mut Vec<u8>, last: bool) {
        for bound in self.resolved.iter().filter(|bound| bound.entry.phases.has(Phases::BODY_FILTER)) {
            let Ok(handler) = &bound.handler else { continue };
            if let Err(cause) = handler.body_filter(self.request, chunk, last) {
                error!(plugin = bound.entry.name, %cause, "body filter failed");
            }
        }
    }
}

/// The status a failed try stands for, or how the request ends when the failure was the client's.
fn status_of(failure: &UpstreamError) -> Result<u16, End> {
    match &failure.kind {
        UpstreamErrorKind::ConnectTimeout | UpstreamErrorKind::SendTimeout | UpstreamErrorKind::ReadTimeout => Ok(504),
        UpstreamErrorKind::ClientGone => Err(End::Gone),
        UpstreamErrorKind::ClientBody(error) => Err(respond::body_error(*error)),
        _ => Ok(502),
    }
}

fn dns_answer(host: &str, error: &DnsError) -> Answer {
    warn!(host, %error, "name resolution failed");
    if error.is_name_error() { Answer::error(503, "name resolution failed") } else { Answer::error(500, error.to_string()) }
}

fn milliseconds(setting: Option<u64>) -> Duration {
    Duration::from_millis(setting.unwrap_or(60_000))
}

/// An address as text, in a buffer of the caller's.
fn ip_text(buffer: &mut [u8; 48], ip: Option<IpAddr>) -> &[u8] {
    use std::io::Write;
    let Some(ip) = ip else { return b"unix:" };
    let mut rest = &mut buffer[..];
    match ip {
        IpAddr::V4(v4) => {
            let mut out = Vec::with_capacity(16);
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                put_number(&mut out, octet.into());
            }
            let _ = rest.write_all(&out);
        }
        IpAddr::V6(v6) => {
            let _ = write!(rest, "{v6}");
        }
    }
    let left = rest.len();
    &buffer[..48 - left]
}
