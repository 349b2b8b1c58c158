//! The life of a request.
//!
//! [`Worker`] is the wire's `Service`: a head comes in, [`Worker::serve`] reads top to bottom as the request lives: client,
//! route, rewrite and access in priority order, the upstream with its retries, header filter, body filter while streaming,
//! log once the last byte has gone.
//!
//! - [`client`]: who is calling, and which proxies in front of us are believed
//! - [`debug`]: what a request is told that asks where its time went
//! - [`enforce`]: protocol rules of a route (426, redirects, gRPC)
//! - [`extra`]: what is counted beyond Kong's metrics
//! - [`forward`]: picking a target, trying it, trying another
//! - [`grpc`]: what gRPC clients get instead
//! - [`upstream_head`]: the request head as it goes on
//! - [`stream`]: connections without HTTP
//! - [`respond`]: answers of the gateway's own and the headers every response gains
//! - [`errors`]: bodies of errors

pub mod client;
mod debug;
mod enforce;
pub mod errors;
mod extra;
mod forward;
mod grpc;
mod respond;
mod stream;
pub mod upstream_head;

use std::mem;
use std::rc::Rc;
use std::time::Instant;

use portcullis_plugin::extra_metrics::{ExtraGroups, ExtraMetrics, Phase};
use portcullis_plugin::log_lines::{self, RequestLines};
use portcullis_plugin::{
    Answer, Context, Exchange, Latencies, Phases, Request, RequestHead, ResponseHead, Source, Stage, Step, Try, Upstream,
};
use portcullis_wire::headers::Known;
use portcullis_wire::{Downstream, Framing, Headers, Peer, Refusal, Service};
use smallvec::SmallVec;
use tracing::error;
use uuid::Uuid;

use crate::access_log::{Facts, write_refusal};
use crate::gateway::{Current, Worker};
use crate::plan::{Bound, Plan};
use crate::router::{self, Captures, Match, Query, Route, path};
use crate::snapshot::{ServiceRow, Snapshot};

/// What happened to a request, gathered as it goes.
#[derive(Default)]
pub(crate) struct Trace {
    pub tries: SmallVec<[Try; 1]>,
    /// Status of each upstream answer or failed try.
    pub statuses: SmallVec<[u16; 6]>,
    /// When the plugins were done and the first target was picked.
    pub balanced: Option<Instant>,
    /// When the upstream's response head had come.
    pub answered: Option<Instant>,
    /// The request went as far as a target.
    pub proxied: bool,
    pub debug: Option<debug::Debug>,
}

impl Trace {
    /// The statuses joined as nginx does in `$upstream_status`.
    pub fn upstream_status(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(16);
        for (at, status) in self.statuses.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = if at == 0 { write!(text, "{status}") } else { write!(text, ", {status}") };
        }
        text
    }
}

/// The plugin instances that take part in this request, as each was resolved when its turn came.
type Resolved<'p> = SmallVec<[&'p Bound; 8]>;

/// How a request ends when nothing is relayed from an upstream.
pub(crate) enum End {
    /// A plugin or a rule answers.
    Answer(Box<Answer>),
    /// The gateway failed or the upstream did: Kong's nginx-level error page.
    Low(u16),
    /// The client is gone; there is nobody to answer. The status is for logs.
    Gone,
}

impl From<Answer> for End {
    fn from(answer: Answer) -> Self {
        End::Answer(Box::new(answer))
    }
}

impl Service for Worker {
    async fn serve(&self, head: &mut RequestHead, down: &mut Downstream) {
        self.count_request();
        let current = self.current();
        let mut request = self.request(mem::take(head), down, &current);
        let extra = self.gateway.extra.as_deref();
        let _in_flight = extra.map(ExtraMetrics::enter);
        let lines = log_lines::are_wanted().then(RequestLines::default);
        if let Some(lines) = &lines {
            request.context.set(lines.clone());
        }
        log_lines::scope(lines, self.attend(&current, &mut request, down)).await;
        if let Some(extra) = extra {
            extra::count(extra, &request);
        }
        *head = mem::take(&mut request.head);
        self.give_buffer(mem::take(&mut request.upstream.path));
        self.give_headers(mem::take(&mut request.response_headers));
    }

    fn refuse(&self, refusal: &Refusal, head: &RequestHead, peer: &Peer) -> (ResponseHead, Vec<u8>) {
        self.count_request();
        let (response, body) = self.refusal(refusal.status, &head.headers);
        if let Some((format, tap)) = &self.access_log {
            let now_ms = (self.wall_clock_ns(Instant::now()) / 1_000_000) as u64;
            write_refusal((format, tap), now_ms, head, (&response, &body), peer);
        }
        (response, body)
    }
}

impl Worker {
    /// The request's life, from its route to its log.
    async fn attend(&self, current: &Current, request: &mut Request, down: &mut Downstream) {
        let mut trace = Trace { debug: self.debug(request), ..Trace::default() };
        let mut resolved = Resolved::new();
        let outcome = self.run(current, request, down, &mut trace, &mut resolved).await;
        let (response, source) = match outcome {
            Ok(response) => (response, Source::Service),
            Err(end) => self.conclude(end, request, down, &mut trace, &resolved).await,
        };
        if resolved.iter().any(|bound| bound.phases.has(Phases::LOG)) {
            self.log(request, &response, source, &trace, down, &resolved);
        }
        if let Some(debug) = &trace.debug {
            debug.log(request, &trace);
        }
        if let Some((format, tap)) = &self.access_log {
            let now = Instant::now();
            let facts = Facts {
                request,
                response: &response,
                source,
                trace: &trace,
                now,
                now_ms: (self.wall_clock_ns(now) / 1_000_000) as u64,
                request_bytes: down.bytes_received(),
                response_bytes: down.bytes_sent(),
                body_bytes: down.body_bytes_sent(),
            };
            facts.write(format, tap);
        }
        down.worker().give_response(response);
    }

    fn request(&self, head: RequestHead, down: &Downstream, current: &Rc<Current>) -> Request {
        let client = client_of(&self.gateway.settings, &head.headers, down);
        self.request_of(head, client, current)
    }

    #[inline(always)]
    fn request_of(&self, head: RequestHead, client: portcullis_plugin::Client, current: &Rc<Current>) -> Request {
        let started = Instant::now();
        Request {
            client,
            head,
            id: self.request_id(),
            started,
            started_at_ms: (self.wall_clock_ns(started) / 1_000_000) as u64,
            route: None,
            service: None,
            captures: None,
            consumer: None,
            credential: None,
            authenticated_groups: None,
            upstream: Upstream { path: self.take_buffer(), ..Upstream::default() },
            response_headers: self.take_headers(),
            body: None,
            log_fields: Default::default(),
            context: Context::default(),
            timeline: self.gateway.settings.timeline.then(Box::default),
            directory: current.clone(),
        }
    }

    /// Everything up to the last byte of the upstream's answer.
    async fn run<'p>(
        &self,
        current: &'p Current,
        request: &mut Request,
        down: &mut Downstream,
        trace: &mut Trace,
        resolved: &mut Resolved<'p>,
    ) -> Result<ResponseHead, End> {
        let snapshot = &*current.snapshot;
        let global = snapshot.plugins.global();
        // On the stack in nearly all cases: the head is about to change hands with plugins.
        let target: SmallVec<[u8; 512]> = request.head.target().into();
        let (raw_path, query) = path::split_target(&target);
        request.upstream.query = query.map(<[u8]>::to_vec);
        if global.has(Phases::REWRITE)
            && let Err(end) = rewrite(global, request).await
        {
            collect(global, request, 0, resolved);
            return Err(end);
        }
        let path = path::normalise(raw_path).map_err(|_| End::Low(400))?;
        let begun = begin(request);
        let matched = find(snapshot, request, &path, query);
        note(request, Stage::Router, None, begun);
        let Some(matched) = matched else {
            // No plan applies; global instances still see the answer.
            collect(global, request, 0, resolved);
            return Err(Answer::error(404, "no Route matched with those values").into());
        };
        let route = matched.route;
        let service = route.service.and_then(|id| snapshot.service(&id));
        let stripped = if route.entity.strip_path { matched.prefix_len.unwrap_or(0) } else { 0 };
        let stripped = path.get(matched.prefix_start..matched.prefix_start + stripped).unwrap_or_default();
        let routed = Routed { snapshot, path: &path, stripped, captures: matched.captures.as_deref() };
        adopt(request, route, service, &routed, matched.prefix_len);
        if let Some(answer) = enforce::protocol(request, route) {
            collect(global, request, 0, resolved);
            return Err(answer.into());
        }
        let plan = snapshot.plugins.plan(Some(route.id), route.service);
        self.access(plan, request, down, resolved).await?;
        let Some(service) = service else {
            return Err(Answer::error(503, "no Service found with those values").into());
        };
        self.forward(service, request, &routed, down, trace, resolved).await
    }

    /// Runs `access` of the plan's plugins in order; the first that answers ends the request.
    async fn access<'p>(
        &self,
        plan: &'p Plan,
        request: &mut Request,
        down: &mut Downstream,
        resolved: &mut Resolved<'p>,
    ) -> Result<(), End> {
        for (at, slot) in plan.slots.iter().enumerate() {
            let Some(bound) = slot.resolve(request.consumer.as_ref().map(|consumer| consumer.id)) else { continue };
            resolved.push(bound);
            if !bound.phases.has(Phases::ACCESS) {
                if let Err(cause) = &bound.handler {
                    return Err(self.plugin_failed(bound, cause, plan, at, request, resolved));
                }
                continue;
            }
            let ended = match &bound.handler {
                Ok(handler) => {
                    if request.body.is_none()
                        && let Some(limit) = handler.body_limit(request)
                    {
                        read_body(request, down, limit).await?;
                    }
                    let begun = begin(request);
                    let ended = finish(handler.access(request)).await.map_err(|error| error.to_string());
                    note(request, Stage::Access(bound.entry.name), Some(bound.instance.id), begun);
                    ended
                }
                Err(cause) => Err(cause.clone()),
            };
            match ended {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    collect(plan, request, at + 1, resolved);
                    return Err(End::Answer(answer));
                }
                Err(cause) => return Err(self.plugin_failed(bound, &cause, plan, at, request, resolved)),
            }
        }
        Ok(())
    }

    fn plugin_failed<'p>(
        &self,
        bound: &Bound,
        cause: &str,
        plan: &'p Plan,
        at: usize,
        request: &Request,
        resolved: &mut Resolved<'p>,
    ) -> End {
        error!(plugin = bound.entry.name, id = %bound.instance.id, cause, "plugin failed");
        collect(plan, request, at + 1, resolved);
        Answer::error(500, "An unexpected error occurred").into()
    }

    fn log(&self, request: &Request, response: &ResponseHead, source: Source, trace: &Trace, down: &Downstream, resolved: &Resolved<'_>) {
        let now = Instant::now();
        let since = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as i64;
        let waiting = trace.balanced.map(|balanced| since(balanced, trace.answered.unwrap_or(now)));
        let latencies = Latencies {
            kong: trace.balanced.map_or_else(|| since(request.started, now), |balanced| since(request.started, balanced)),
            proxy: waiting.filter(|_| trace.answered.is_some()).unwrap_or(-1),
            request: since(request.started, now),
            receive: trace.answered.map_or(0, |answered| since(answered, now)),
        };
        let mut uri = self.take_buffer();
        if trace.proxied {
            uri.extend_from_slice(&request.upstream.path);
            if let Some(query) = &request.upstream.query {
                uri.push(b'?');
                uri.extend_from_slice(query);
            }
        }
        let upstream_status = trace.upstream_status();
        let exchange = Exchange {
            request,
            response,
            source,
            tries: &trace.tries,
            upstream_uri: trace.proxied.then_some(uri.as_slice()),
            upstream_status: &upstream_status,
            latencies,
            request_bytes: down.bytes_received(),
            response_bytes: down.bytes_sent(),
        };
        let timing = self.gateway.extra.as_deref().filter(|extra| extra.groups().has(ExtraGroups::PLUGINS));
        for bound in resolved.iter().filter(|bound| bound.phases.has(Phases::LOG)) {
            let Ok(handler) = &bound.handler else { continue };
            let begun = timing.map(|_| Instant::now());
            handler.log(&exchange);
            if let (Some(extra), Some(begun)) = (timing, begun) {
                extra.took(bound.entry.name, Phase::Log, begun.elapsed());
            }
        }
        self.give_buffer(uri);
    }
}

/// The moment, where it is noted.
pub(crate) fn begin(request: &Request) -> Option<Instant> {
    request.timeline.as_ref().map(|_| Instant::now())
}

/// Notes a stage that ended now.
pub(crate) fn note(request: &mut Request, stage: Stage, instance: Option<Uuid>, begun: Option<Instant>) {
    if let (Some(timeline), Some(begun)) = (&mut request.timeline, begun) {
        timeline.note(stage, instance, begun);
    }
}

/// What a request was routed by, and what that found out about its path.
pub(crate) struct Routed<'a> {
    pub snapshot: &'a Snapshot,
    /// In normal form.
    pub path: &'a [u8],
    /// The text for which the path's front was cut off; empty when nothing was.
    pub stripped: &'a [u8],
    pub captures: Option<&'a Captures>,
}

fn captures_of(captures: &Captures) -> portcullis_plugin::Captures {
    let named = captures.groups.iter().filter_map(|group| Some((group.name.clone()?, group.value.clone()?)));
    portcullis_plugin::Captures { numbered: captures.groups.iter().map(|group| group.value.clone()).collect(), named: named.collect() }
}

fn find<'s>(snapshot: &'s Snapshot, request: &Request, path: &[u8], arguments: Option<&[u8]>) -> Option<Match<'s>> {
    let headers = &request.head.headers;
    let client = &request.client;
    snapshot.router.find(&Query {
        method: request.head.method_text(),
        path,
        host: headers.known(Known::Host).unwrap_or_default(),
        https: client.forwarded_https,
        sni: client.peer.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
        port: client.listen_port,
        headers,
        arguments,
        client: router::Client { source: client.forwarded_ip, source_port: client.port, destination: client.listen_ip },
    })
}

/// Route and service become the request's; what goes upstream by default follows from them.
fn adopt(request: &mut Request, route: &Route, service: Option<&ServiceRow>, routed: &Routed<'_>, matched: Option<usize>) {
    request.route = Some(route.entity.clone());
    request.captures = routed.captures.map(|captures| Box::new(captures_of(captures)));
    let upstream = &mut request.upstream;
    let service_path = service.and_then(|row| row.entity.path.as_deref());
    if service.is_some_and(|row| row.grpc) {
        // gRPC methods are called by the path as it came, whatever the route would cut off.
        upstream.path.extend_from_slice(path::split_target(request.head.target()).0);
    } else if route.glues_paths {
        path::glue(&mut upstream.path, service_path, routed.path, matched, route.entity.strip_path);
    } else {
        path::join(&mut upstream.path, service_path, routed.path, matched, route.entity.strip_path);
    }
    let Some(row) = service else { return };
    upstream.https = row.https;
    upstream.host = row.host.clone();
    upstream.port = row.port;
    request.service = Some(row.entity.clone());
}

async fn rewrite(plan: &Plan, request: &mut Request) -> Result<(), End> {
    for bound in plan.slots.iter().filter_map(|slot| slot.resolve(None)).filter(|bound| bound.phases.has(Phases::REWRITE)) {
        let Ok(handler) = &bound.handler else { continue };
        let begun = begin(request);
        let ended = finish(handler.rewrite(request)).await;
        note(request, Stage::Rewrite(bound.entry.name), Some(bound.instance.id), begun);
        match ended {
            Ok(None) => {}
            Ok(Some(answer)) => return Err(End::Answer(answer)),
            Err(cause) => {
                error!(plugin = bound.entry.name, %cause, "plugin failed");
                return Err(Answer::error(500, "An unexpected error occurred").into());
            }
        }
    }
    Ok(())
}

async fn finish(step: Step<'_>) -> portcullis_plugin::Result<Option<Box<Answer>>> {
    match step {
        Step::Next => Ok(None),
        Step::Answer(answer) => Ok(Some(answer)),
        Step::Later(future) => future.await,
        Step::Fail(error) => Err(error),
    }
}

/// The instances behind the one that ended the request still take part in later phases, as in Kong.
fn collect<'p>(plan: &'p Plan, request: &Request, from: usize, resolved: &mut Resolved<'p>) {
    let consumer = request.consumer.as_ref().map(|consumer| consumer.id);
    resolved.extend(plan.slots[from..].iter().filter_map(|slot| slot.resolve(consumer)));
}

/// Reads the body for a plugin. One that says it is larger than the plugin wants is left streaming; one that turns out so
/// is refused, because its beginning cannot be put back.
async fn read_body(request: &mut Request, down: &mut Downstream, limit: u64) -> Result<(), End> {
    if matches!(request.head.framing, Framing::Length(length) if length > limit) {
        return Ok(());
    }
    let mut body = Vec::new();
    down.read_body(&mut body, limit).await.map_err(respond::body_error)?;
    request.body = Some(body);
    Ok(())
}

fn client_of(settings: &crate::settings::ProxySettings, headers: &Headers, down: &Downstream) -> portcullis_plugin::Client {
    let mut client = client_of_peer(settings, down.peer());
    client.connection_requests = down.requests_on_connection();
    let announced = client.ip;
    if let Some(own) = down.peer().proxy_protocol {
        // A PROXY header is an announcement like any other: it takes a trusted peer, and a setting that asks for it.
        client.ip = own.peer.map(|address| address.ip());
        client.port = own.peer.map_or(0, |address| address.port());
        client.forwarded_ip = client.ip;
        client.trusted = client::is_trusted(settings, client.ip);
        client.listen_ip = own.local.map(|local| local.ip());
        client.listen_port = client::mapped_port(settings, own.local.map_or(0, |local| local.port()));
    }
    if client.trusted {
        client.forwarded_ip =
            if settings.real_ip_header == "proxy_protocol" { announced } else { client::real_ip(settings, headers).or(client.ip) };
        client.forwarded_https = client::forwarded_https(headers).unwrap_or(client.https);
    }
    client
}

/// The client as its connection alone tells.
#[inline]
fn client_of_peer(settings: &crate::settings::ProxySettings, peer: &Rc<Peer>) -> portcullis_plugin::Client {
    let ip = peer.address.map(|address| address.ip());
    let https = peer.tls.is_some();
    portcullis_plugin::Client {
        ip,
        port: peer.address.map_or(0, |address| address.port()),
        forwarded_ip: ip,
        trusted: client::is_trusted(settings, ip),
        https,
        forwarded_https: https,
        listen_ip: peer.local.map(|local| local.ip()),
        listen_port: client::mapped_port(settings, peer.local.map_or(0, |local| local.port())),
        peer: peer.clone(),
        connection: peer.connection_id,
        connection_requests: 1,
    }
}
