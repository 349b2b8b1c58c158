//! Connections without HTTP (behaviour checklist 6.6): route, plugins, a target, and bytes both ways.
//!
//! Plugins that know streams have their turn before the first byte goes on, by the same code that serves their HTTP requests
//! (there is no request in it: no method, no headers); an answer closes the connection. They log when it has ended.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use portcullis_plugin::{Exchange, Latencies, Phases, Request, RequestHead, ResponseHead, Session as Facts, Source, Step, TryState};
use portcullis_wire::stream::{self, DatagramSession, Session};
use portcullis_wire::{Peer, StreamService, UpstreamError};
use smallvec::SmallVec;
use tracing::{debug, error, info, warn};

use super::forward::{report_failure, service_timeouts};
use super::{End, Resolved, Routed, Trace};
use crate::balancer::PeerId;
use crate::gateway::{Current, Worker};
use crate::router::Route;
use crate::router::stream::{StreamQuery, Transport};
use crate::snapshot::ServiceRow;

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// How a connection ended that was not relayed to its end; the status is for logs, as nginx has it.
struct Broken(u16);

/// What is known of a connection once it has been matched.
struct Matched<'s> {
    route: &'s Route,
    service: &'s ServiceRow,
}

impl StreamService for Worker {
    async fn serve_stream(&self, mut session: Session) {
        let current = self.current();
        let query = query_of(Transport::Tcp, session.peer(), session.sni());
        let Some(matched) = matched(&current, &query) else { return };
        if session.is_encrypted() && !matched.route.protocols.tls_passthrough() {
            session = match session.terminate().await {
                Ok(session) => session,
                Err(problem) => return debug!(%problem, "handshake failed"),
            };
        }
        let peer = Rc::new(session.take_peer());
        let mut request = self.stream_request(&peer, &current, &matched);
        let mut trace = Trace::default();
        let resolved = resolve(&current, &matched);
        let outcome = self.carry(session, &current, &matched, &mut request, &mut trace, &resolved).await;
        self.log_session(request, outcome, &trace, &resolved);
    }

    async fn serve_datagrams(&self, session: DatagramSession) {
        let current = self.current();
        let query = query_of(Transport::Udp, session.peer(), None);
        let Some(matched) = matched(&current, &query) else { return };
        let mut request = self.stream_request(session.peer(), &current, &matched);
        let mut trace = Trace::default();
        let resolved = resolve(&current, &matched);
        let outcome = self.carry_datagrams(session, &current, &matched, &mut request, &mut trace, &resolved).await;
        self.log_session(request, outcome, &trace, &resolved);
    }
}

fn query_of<'a>(transport: Transport, peer: &Peer, sni: Option<&'a str>) -> StreamQuery<'a> {
    StreamQuery { transport, source: peer.address.unwrap_or(NOWHERE), destination: peer.local.unwrap_or(NOWHERE), sni }
}

fn matched<'s>(current: &'s Current, query: &StreamQuery<'_>) -> Option<Matched<'s>> {
    let snapshot = &*current.snapshot;
    let Some(route) = snapshot.router.find_stream(query) else {
        info!(client = %query.source, listener = %query.destination, sni = query.sni, "no route matched a connection");
        return None;
    };
    let Some(service) = route.service.and_then(|id| snapshot.service(&id)) else {
        info!(client = %query.source, route = %route.id, "the matched route has no service");
        return None;
    };
    Some(Matched { route, service })
}

/// The instances that take part: those of plugins that know streams.
fn resolve<'s>(current: &'s Current, matched: &Matched<'s>) -> Resolved<'s> {
    let plan = current.snapshot.stream_plugins.plan(Some(matched.route.id), matched.route.service);
    plan.slots.iter().filter_map(|slot| slot.resolve(None)).collect()
}

impl Worker {
    fn stream_request(&self, peer: &Rc<Peer>, current: &Rc<Current>, matched: &Matched<'_>) -> Request {
        let mut request = self.request_of(RequestHead::default(), super::client_of_peer(&self.gateway.settings, peer), current);
        request.route = Some(matched.route.entity.clone());
        request.service = Some(matched.service.entity.clone());
        request.upstream.host = matched.service.host.clone();
        request.upstream.port = matched.service.port;
        request
    }

    /// Runs the plugins in order; the first that answers ends the connection.
    async fn preread(&self, request: &mut Request, resolved: &Resolved<'_>) -> Result<(), Broken> {
        for bound in resolved.iter().filter(|bound| bound.phases.has(Phases::ACCESS)) {
            let ended = match &bound.handler {
                Ok(handler) => match handler.access(request) {
                    Step::Next => Ok(None),
                    Step::Answer(answer) => Ok(Some(answer)),
                    Step::Later(future) => future.await,
                    Step::Fail(cause) => Err(cause),
                }
                .map_err(|cause| cause.to_string()),
                Err(cause) => Err(cause.clone()),
            };
            match ended {
                Ok(None) => {}
                Ok(Some(answer)) => return Err(Broken(answer.status)),
                Err(cause) => {
                    error!(plugin = bound.entry.name, cause, "plugin failed");
                    return Err(Broken(500));
                }
            }
        }
        Ok(())
    }

    /// Everything between the match and the connection's end. Answers bytes to the client and to the upstream.
    async fn carry(
        &self,
        session: Session,
        current: &Current,
        matched: &Matched<'_>,
        request: &mut Request,
        trace: &mut Trace,
        resolved: &Resolved<'_>,
    ) -> Result<(u64, u64), Broken> {
        self.preread(request, resolved).await?;
        let service = matched.service;
        let targets = self.targets(service, request, &routed(current)).await.map_err(|end| broken(&end))?;
        let timeouts = service_timeouts(service, request);
        let attempts = usize::from(service.entity.retries.unwrap_or(5)) + 1;
        let mut tried: SmallVec<[PeerId; 4]> = SmallVec::new();
        trace.balanced = Some(Instant::now());
        for attempt in 0..attempts {
            let begun = Instant::now();
            let place = match self.place(&targets, &tried, attempt, request) {
                Ok(place) => place,
                Err(end) if attempt == 0 => return Err(broken(&end)),
                Err(_) => break,
            };
            trace.proxied = true;
            let announced = self.gateway.settings.stream_proxy_protocol.then_some(&*request.client.peer);
            let tls = service.tls.as_ref().map(|tls| (tls, &*service.host));
            match stream::connect(place.address, tls, timeouts.connect, announced).await {
                Ok(mut upstream) => {
                    trace.answered = Some(Instant::now());
                    self.record(trace, &place, begun, None, 200);
                    return Ok(session.relay(&mut upstream, timeouts.read).await);
                }
                Err(kind) => {
                    let last = attempt + 1 == attempts;
                    warn!(upstream = %place.address, host = %place.host, reason = ?kind, last, "upstream failed");
                    self.record(trace, &place, begun, Some(if last { TryState::Failed } else { TryState::Next }), 502);
                    report_failure(&targets, &place, &UpstreamError { kind, may_retry: true }, last);
                    tried.extend(place.picked.as_ref().map(|picked| picked.peer.id));
                }
            }
        }
        Err(Broken(502))
    }

    async fn carry_datagrams(
        &self,
        session: DatagramSession,
        current: &Current,
        matched: &Matched<'_>,
        request: &mut Request,
        trace: &mut Trace,
        resolved: &Resolved<'_>,
    ) -> Result<(u64, u64), Broken> {
        self.preread(request, resolved).await?;
        let service = matched.service;
        let targets = self.targets(service, request, &routed(current)).await.map_err(|end| broken(&end))?;
        trace.balanced = Some(Instant::now());
        let begun = Instant::now();
        let place = self.place(&targets, &[], 0, request).map_err(|end| broken(&end))?;
        trace.proxied = true;
        self.record(trace, &place, begun, None, 200);
        session.relay(place.address, service_timeouts(service, request).read).await.map_err(|problem| {
            warn!(upstream = %place.address, %problem, "upstream failed");
            Broken(502)
        })
    }

    fn log_session(&self, mut request: Request, outcome: Result<(u64, u64), Broken>, trace: &Trace, resolved: &Resolved<'_>) {
        if !resolved.iter().any(|bound| bound.phases.has(Phases::LOG)) {
            return;
        }
        let now = Instant::now();
        let since = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as i64;
        let status = outcome.as_ref().map_or_else(|Broken(status)| *status, |_| 200);
        let (sent, received) = outcome.unwrap_or_default();
        let latencies = Latencies {
            kong: trace.answered.or(trace.balanced).map_or_else(|| since(request.started, now), |at| since(request.started, at)),
            proxy: -1,
            request: since(request.started, now),
            receive: 0,
        };
        request.context.set(Facts { received, sent, status });
        let source = if trace.answered.is_some() { Source::Service } else { Source::Exit };
        let upstream_status = trace.upstream_status();
        let exchange = Exchange {
            request: &request,
            response: &ResponseHead { status, ..ResponseHead::default() },
            source,
            tries: &trace.tries,
            upstream_uri: None,
            upstream_status: &upstream_status,
            latencies,
            request_bytes: received,
            response_bytes: sent,
        };
        for bound in resolved.iter().filter(|bound| bound.phases.has(Phases::LOG)) {
            if let Ok(handler) = &bound.handler {
                handler.log(&exchange);
            }
        }
    }
}

/// A connection has no path.
fn routed(current: &Current) -> Routed<'_> {
    Routed { snapshot: &current.snapshot, path: b"", stripped: b"", captures: None }
}

fn broken(end: &End) -> Broken {
    Broken(match end {
        End::Answer(answer) => answer.status,
        End::Low(status) => *status,
        End::Gone => 499,
    })
}
