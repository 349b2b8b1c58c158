//! Towards the upstream: pick a target, try it, try another, relay the answer.

use std::borrow::Cow;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_plugin::{Answer, Phases, Request, Response, ResponseHead, Source, Stage, Try, TryState};
use portcullis_wire::headers::Known;
use portcullis_wire::{BodyFilter, Downstream, Framing, Moments, RequestBody, Target, Timeouts, UpstreamError, UpstreamErrorKind};
use smallvec::SmallVec;
use tracing::{error, warn};
use uuid::Uuid;

use super::upstream_head::{self, BodyHeaders, Hop};
use super::{End, Resolved, Routed, Trace, grpc, respond};
use crate::balancer::{Balancer, HashInput, HashKey, Outcome, PeerId, Picked};
use crate::dns::{Answer as Resolution, DnsError};
use crate::gateway::Worker;
use crate::plan::Bound;
use crate::snapshot::ServiceRow;
use crate::snapshot::builder::host_with_port;

/// Where one try goes.
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// Name for SNI and, with the port, for the Host header.
    pub(super) host: Arc<str>,
    port: u16,
    /// The balancer's peer; counts as a connection of it while held.
    pub(super) picked: Option<Picked>,
}

/// Where tries come from.
pub(super) enum Targets {
    /// An upstream entity's balancer.
    Balancer(Arc<Balancer>, HashKey),
    /// The one address given.
    Address(SocketAddr, Arc<str>),
    /// The addresses of a host name, in turn.
    Name { host: Arc<str>, addresses: Resolution, turn: usize },
}

impl Worker {
    /// Sends the request to the service, trying as often as it allows, and relays the answer.
    pub(super) async fn forward(
        &self,
        service: &ServiceRow,
        request: &mut Request,
        routed: &Routed<'_>,
        down: &mut Downstream,
        trace: &mut Trace,
        resolved: &Resolved<'_>,
    ) -> Result<ResponseHead, End> {
        let body = self.take_small_body(request, down).await?;
        let begun = super::begin(request);
        let targets = self.targets(service, request, routed).await;
        if matches!(targets, Ok(Targets::Name { .. }) | Err(_)) {
            super::note(request, Stage::Dns, None, begun);
        }
        let targets = targets?;
        let balanced = Instant::now();
        trace.balanced = Some(balanced);
        let entity = &service.entity;
        let timeouts = service_timeouts(service, request);
        let patience = request.upstream.patience.as_deref();
        let idempotent = request.head.method.may_be_retried(request.head.method_text());
        let attempts = usize::from(patience.and_then(|own| own.retries).or(entity.retries).unwrap_or(5)) + 1;
        let mut tried: SmallVec<[PeerId; 4]> = SmallVec::new();
        let mut head = self.take_buffer();
        let upstream_https = request.upstream.https;
        for attempt in 0..attempts {
            let begun = if attempt == 0 { balanced } else { Instant::now() };
            let place = match self.place(&targets, &tried, attempt, request) {
                Ok(place) => place,
                Err(end) if attempt == 0 => return Err(end),
                // The balancer has nobody left, which goes before the failure that led there, as in Kong.
                Err(_) => return Err(End::Low(503)),
            };
            trace.proxied = true;
            let host = host_header(service, request, &place);
            self.write_head(&mut head, request, routed.stripped, &host, &body);
            // nginx' proxy_ssl_name is the Host being sent: it is the SNI, and the name a certificate is checked for.
            let sent_name = || std::str::from_utf8(upstream_head::without_port(&host)).unwrap_or(&place.host);
            let server_name = if upstream_https { sent_name() } else { "" };
            let target = Target { address: place.address, tls: if request.upstream.https { service.tls.as_ref() } else { None } };
            let sent_body = match &body {
                Body::Empty => RequestBody::Empty,
                Body::Whole(bytes) => RequestBody::Whole(bytes),
                Body::Stream => RequestBody::Stream,
            };
            let mut moments = Moments::default();
            let sent = if service.grpc {
                let pools = &self.pools;
                Box::pin(pools.send_http2(&target, server_name, &head, sent_body, idempotent, &request.head, down, &timeouts, &mut moments))
                    .await
            } else {
                self.pools.send(&target, server_name, &head, sent_body, idempotent, &request.head, down, &timeouts, &mut moments).await
            };
            match sent {
                Ok((response, up)) => {
                    trace.answered = Some(moments.first_byte.unwrap_or_else(Instant::now));
                    self.record(trace, &place, begun, None, response.status);
                    if let Some(extra) = &self.gateway.extra {
                        super::extra::answered(extra, moments.reused);
                    }
                    if let (Targets::Balancer(balancer, key), Some(picked)) = (&targets, &place.picked) {
                        balancer.report(&picked.peer, Outcome::Status(response.status));
                        let now = Instant::now();
                        balancer.observe(&picked.peer, now.saturating_duration_since(begun), now);
                        if let Some(cookie) = &key.set_cookie {
                            request.response_headers.append("Set-Cookie", cookie.as_bytes());
                        }
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
                    report_failure(&targets, &place, &failure, last);
                    if let Some(extra) = &self.gateway.extra {
                        super::extra::failed(extra, &failure.kind, moments.reused, last);
                    }
                    warn!(upstream = %place.address, host = %place.host, reason = ?failure.kind, last, "upstream failed");
                    if last {
                        return Err(End::Low(status));
                    }
                    tried.extend(place.picked.as_ref().map(|picked| picked.peer.id));
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
        let buffered = !switching && (request.upstream.buffer_response || resolved.iter().any(|bound| wants_response(bound, request)));
        let mut body = Vec::new();
        let mut trailing: SmallVec<[String; 2]> = SmallVec::new();
        if buffered {
            let limit = self.gateway.settings.max_buffered_response;
            up.read_body(&mut body, limit).await.map_err(|failure| status_of(&failure).map_or_else(|end| end, End::Low))?;
            // Whoever sees the whole response sees its trailers too.
            for (name, value) in up.trailers() {
                response.headers.append(name, value);
                trailing.push(name.to_owned());
            }
            for bound in resolved.iter() {
                if !wants_response(bound, request) {
                    continue;
                }
                let Ok(handler) = &bound.handler else { continue };
                if let Err(cause) = handler.response(request, Response { head: &mut response, body: &mut body }) {
                    error!(plugin = bound.entry.name, %cause, "plugin failed");
                    return Err(Answer::error(500, "An unexpected error occurred").into());
                }
            }
        }
        self.header_filter(&mut response, request, resolved, Source::Service);
        let status = response.status;
        self.add_final_headers(&mut response.headers, status, request, trace);
        let relayed = if switching {
            down.tunnel(&mut response, up).await.map(|_| ())
        } else if buffered {
            respond::filter_body(&mut body, request, resolved);
            response.framing = Framing::Length(body.len() as u64);
            response.headers.remove_known(Known::ContentLength);
            let trailers = grpc::take_trailers(&mut response.headers, &trailing, request.head.version);
            return match down.respond_with_trailers(&mut response, &body, &trailers).await {
                Ok(()) => Ok(response),
                Err(_) => Err(End::Gone),
            };
        } else if resolved.iter().any(|bound| bound.phases.has(Phases::BODY_FILTER)) {
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
            // The upstream is told the length of a small chunked body, as nginx does when it buffers.
            Framing::Chunked if buffering && down.gather_body().await.map_err(respond::body_error)? => {
                let mut body = Vec::new();
                down.read_body(&mut body, u64::MAX).await.map_err(respond::body_error)?;
                Ok(Body::Whole(body))
            }
            _ => Ok(Body::Stream),
        }
    }

    fn write_head(&self, out: &mut Vec<u8>, request: &Request, stripped: &[u8], host: &[u8], body: &Body) {
        out.clear();
        let client = &request.client;
        // The usual client has one address, which the connection keeps as text.
        let behind = client.peer.proxy_protocol.map(|_| address_text(client.ip));
        let peer = behind.as_ref().map_or(&*client.peer.address_text, |text| text.as_bytes());
        let other = (client.forwarded_ip != client.ip).then(|| address_text(client.forwarded_ip));
        let hop = Hop { host, peer, real_ip: other.as_ref().map_or(peer, |text| text.as_bytes()), stripped };
        let body = match body {
            Body::Whole(bytes) => BodyHeaders::Length(bytes.len() as u64),
            Body::Empty => BodyHeaders::Empty,
            Body::Stream => match request.head.framing {
                // A request never ends with its connection.
                Framing::None | Framing::UntilClose => BodyHeaders::Empty,
                Framing::Length(length) => BodyHeaders::Length(length),
                Framing::Chunked => BodyHeaders::Chunked,
            },
        };
        upstream_head::write(out, &self.gateway.settings, request, &hop, body);
    }

    /// Where tries for the request's host come from: an upstream entity of that name, the address itself, or DNS.
    pub(super) async fn targets(&self, service: &ServiceRow, request: &Request, routed: &Routed<'_>) -> Result<Targets, End> {
        let upstream = &request.upstream;
        let own = upstream.port == service.port && *upstream.host == *service.entity.host;
        if own && let Some(address) = service.address {
            return Ok(Targets::Address(address, service.host.clone()));
        }
        if let Some(balancer) = routed.snapshot.upstreams.get(&upstream.host) {
            let consumer = request.consumer.as_ref().map(|consumer| consumer.id);
            let input = HashInput {
                consumer: consumer.or_else(|| request.credential.as_ref().map(|credential| credential.id)),
                client_address: &address_text(request.client.forwarded_ip),
                headers: &request.head.headers,
                path: routed.path,
                query: upstream.query.as_deref(),
                captures: routed.captures,
            };
            let key = balancer.key(&input, Uuid::new_v4);
            return Ok(Targets::Balancer(balancer.clone(), key));
        }
        let host = upstream.host.clone();
        if let Some(ip) = crate::dns::literal(&host) {
            return Ok(Targets::Address(SocketAddr::new(ip, upstream.port), host));
        }
        let known = match self.gateway.dns.cached(&host) {
            Some(known) => known,
            None => self.gateway.dns.resolve(&host).await,
        };
        let addresses = known.map_err(|error| End::from(dns_answer(&host, &error)))?;
        Ok(Targets::Name { host, addresses, turn: self.random() as usize >> 8 })
    }

    pub(super) fn place(&self, targets: &Targets, tried: &[PeerId], attempt: usize, request: &Request) -> Result<Place, End> {
        match targets {
            Targets::Address(address, host) => Ok(Place { address: *address, host: host.clone(), port: address.port(), picked: None }),
            Targets::Name { host, addresses, turn } => {
                let found = addresses.pick(turn.wrapping_add(attempt));
                let port = found.port.filter(|port| *port != 0).unwrap_or(request.upstream.port);
                Ok(Place { address: SocketAddr::new(found.ip, port), host: host.clone(), port, picked: None })
            }
            Targets::Balancer(balancer, key) => {
                let picked = balancer.pick(tried, key, Instant::now()).map_err(|error| {
                    warn!(upstream = balancer.name(), %error, "no target");
                    End::from(Answer::error(error.status(), error.to_string()))
                })?;
                let address = picked.peer.address();
                Ok(Place { address, host: picked.host.clone(), port: address.port(), picked: Some(picked) })
            }
        }
    }

    pub(super) fn record(&self, trace: &mut Trace, place: &Place, begun: Instant, state: Option<TryState>, code: u16) {
        trace.statuses.push(code);
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
}

/// Whether this instance's `response` is to see the whole response.
fn wants_response(bound: &Bound, request: &Request) -> bool {
    bound.phases.has(Phases::RESPONSE) && bound.handler.as_ref().is_ok_and(|handler| handler.buffers(request))
}

/// Tells the balancer of a failed try. Of the last one Kong counts the status that the client sees instead.
pub(super) fn report_failure(targets: &Targets, place: &Place, failure: &UpstreamError, last: bool) {
    let (Targets::Balancer(balancer, _), Some(picked)) = (targets, &place.picked) else { return };
    let outcome = match failure.kind {
        UpstreamErrorKind::ReadTimeout | UpstreamErrorKind::ConnectTimeout | UpstreamErrorKind::SendTimeout => Outcome::TimedOut,
        UpstreamErrorKind::ClientGone | UpstreamErrorKind::ClientBody(_) => return,
        _ if last => Outcome::Status(502),
        _ => Outcome::ConnectFailed,
    };
    balancer.report(&picked.peer, outcome);
}

/// How long the service, or a plugin in its place, is ready to wait.
pub(super) fn service_timeouts(service: &ServiceRow, request: &Request) -> Timeouts {
    let entity = &service.entity;
    let patience = request.upstream.patience.as_deref().copied().unwrap_or_default();
    Timeouts {
        connect: milliseconds(patience.connect_timeout_ms.or(entity.connect_timeout)),
        write: milliseconds(patience.write_timeout_ms.or(entity.write_timeout)),
        read: milliseconds(patience.read_timeout_ms.or(entity.read_timeout)),
    }
}

/// The Host header of a try: a plugin's, the client's where the route keeps it, or the target's own.
fn host_header<'a>(service: &'a ServiceRow, request: &'a Request, place: &Place) -> Cow<'a, [u8]> {
    let upstream = &request.upstream;
    let kept = || request.route.as_ref().filter(|route| route.preserve_host).and(request.head.headers.known(Known::Host));
    if let Some(host) = upstream.host_header.as_deref().or_else(kept) {
        return host.into();
    }
    let own = place.picked.is_none() && upstream.port == service.port && *upstream.host == *service.entity.host;
    if own { (&*service.host_header).into() } else { host_with_port(&place.host, place.port, upstream.https).into_vec().into() }
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
        for bound in self.resolved.iter().filter(|bound| bound.phases.has(Phases::BODY_FILTER)) {
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
    let (status, message) = error.answer();
    Answer::error(status, message.to_owned())
}

fn milliseconds(setting: Option<u64>) -> Duration {
    Duration::from_millis(setting.unwrap_or(60_000))
}

/// An address as logs and hashes have it.
fn address_text(ip: Option<IpAddr>) -> String {
    ip.map_or_else(|| "unix:".to_owned(), |ip| ip.to_string())
}
