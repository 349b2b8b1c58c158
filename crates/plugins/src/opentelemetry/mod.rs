//! opentelemetry: follows requests through services: traces go on to the upstream, spans and log lines to a collector over
//! OTLP/HTTP.
//!
//! In `access` the trace is read or begun and the upstream is told; in `log` the spans of the exchange ([`span`]) and the lines
//! that were logged on its way ([`logs`]) are written as OTLP messages ([`protobuf`]) and queued. What spans there are is the
//! node's affair (`tracing_instrumentations`): without any, traces only go on, unsampled. Each of the two is done where its
//! endpoint is given. The node's metrics go to a collector by [`metrics`], which is no part of the plugin.

mod config;
mod logs;
mod metrics;
mod protobuf;
mod span;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_plugin::log_lines::{RequestLines, Wanting, take_node_lines};
use portcullis_plugin::{Env, Exchange, Handler, Head, Instance, Instruments, Phases, Plugin, Request, Result, Scopes, Step, Tracing};
use portcullis_schema::{Check, Shorthand};

use crate::http_client::Poster;
use crate::propagation::{Incoming, Outgoing, Propagation, TraceId, random_id};
use crate::queue::{Queue, Queues, Send, Settings};
pub use config::Config;
use logs::Within;
pub use metrics::{MetricsSender, MetricsTo};
use protobuf::Message;
use span::Spans;

/// The instrumentation scope that Kong's spans carry.
const SCOPE: (&str, &str) = ("kong-internal", "0.1.0");

/// See the module's description.
pub struct OpenTelemetry {
    propagation: Propagation,
    trace_header: Option<String>,
    sampling_rate: Option<f64>,
    tracing: Arc<Tracing>,
    traces: Option<Queue<Box<[u8]>>>,
    logs: Option<Logs>,
}

/// Where log lines go, and what has them kept until then.
struct Logs {
    queue: Queue<Box<[u8]>>,
    _wanting: Wanting,
}

/// What is remembered of a request until its spans are made.
#[derive(Clone, Copy, Debug)]
struct Trace {
    id: TraceId,
    root: u64,
    parent: Option<u64>,
    /// The span of the try that reaches the upstream.
    balancer: u64,
    sampled: bool,
    /// It is the caller's, or the node makes spans for it: what is logged belongs to it.
    told: bool,
}

impl Plugin for OpenTelemetry {
    const NAME: &'static str = "opentelemetry";
    const PRIORITY: i32 = 14;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let queue = |endpoint: &str, list: List| -> Result<_> {
            let milliseconds = |given: Option<u64>, default| Duration::from_millis(given.unwrap_or(default));
            let timeout = milliseconds(config.send_timeout, 5000) + milliseconds(config.read_timeout, 5000);
            let connect = milliseconds(config.connect_timeout, 1000);
            let headers = config.headers.iter().flatten();
            let poster = Poster::new(endpoint, "application/x-protobuf", headers, connect, timeout)?;
            let resource = resource(config.resource_attributes.as_ref().unwrap_or(&BTreeMap::new()), env);
            let described = format!("{list:?} {} {resource:?}", poster.describe());
            let settings = Settings::from(&config.queue);
            Ok(env.state.get::<Queues<_>>().get(env, Self::NAME, &described, settings, || send(poster, resource)))
        };
        let traces = config.traces_endpoint.as_deref().map(|endpoint| queue(endpoint, List::Spans)).transpose()?;
        let logs = config.logs_endpoint.as_deref().map(|endpoint| queue(endpoint, List::Logs)).transpose()?;
        Ok(Self {
            propagation: Propagation::new(&config.propagation, config.header_type.as_deref(), None),
            trace_header: config.http_response_header_for_traceid,
            sampling_rate: config.sampling_rate,
            tracing: env.state.get::<Tracing>(),
            traces,
            logs: logs.map(|queue| Logs { queue, _wanting: Wanting::start() }),
        })
    }

    fn config_checks() -> Vec<Check> {
        vec![Check::AtLeastOneOf(vec!["traces_endpoint", "logs_endpoint"])]
    }

    fn shorthands() -> Vec<Shorthand> {
        config::shorthands()
    }
}

impl OpenTelemetry {
    /// The trace that a request belongs to: its caller's, or one that begins here.
    fn begin(&self, found: Option<&Incoming>) -> Trace {
        let decided = || {
            found.and_then(|found| found.sampled).unwrap_or_else(|| {
                let rate = self.sampling_rate.unwrap_or_else(|| self.tracing.sampling_rate());
                // 2^53 values, as many as a float between 0 and 1 tells apart.
                ((random_id() >> 11) as f64) < rate * (1u64 << 53) as f64
            })
        };
        let spans = self.tracing.instruments() != Instruments::NONE;
        Trace {
            told: spans || found.is_some_and(|found| found.trace.is_some()),
            id: found.and_then(|found| found.trace).unwrap_or_else(|| TraceId::random(false)),
            root: random_id(),
            parent: found.and_then(|found| found.span),
            balancer: random_id(),
            sampled: spans && decided(),
        }
    }
}

impl Handler for OpenTelemetry {
    fn phases(&self) -> Phases {
        // As in Kong: an instance that only sends log lines takes no part in traces.
        if self.traces.is_some() { Self::PHASES } else { Phases::LOG }
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let found = self.propagation.extract(&request.head.headers);
        let trace = self.begin(found.as_ref());
        // Without spans of its own the gateway hands its root on, whose parent is the caller.
        let balancer = trace.sampled && self.tracing.instruments().has(Instruments::BALANCER);
        let (span, parent) = if balancer { (trace.balancer, Some(trace.root)) } else { (trace.root, trace.parent) };
        let out = Outgoing { trace: trace.id, span, parent, sampled: trace.sampled, debug: false, quiet_when_unsampled: false };
        self.propagation.inject(request, found.as_ref(), &out);
        request.context.set(trace);
        Step::Next
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        if head.context.get::<Trace>().is_none() {
            // What ended before its turn is traced all the same.
            let found = self.propagation.extract(&head.request.head.headers);
            let trace = self.begin(found.as_ref());
            head.context.set(trace);
        }
        if let Some(name) = &self.trace_header
            && let Some(trace) = head.context.get::<Trace>()
        {
            head.response.headers.append(name, format!("{:032x}", trace.id.value).as_bytes());
        }
        Ok(())
    }

    fn log(&self, exchange: &Exchange<'_>) {
        let trace = exchange.request.context.get::<Trace>();
        let instruments = self.tracing.instruments();
        if let (Some(queue), Some(trace)) = (&self.traces, trace.filter(|trace| trace.sampled)) {
            Spans { trace, exchange, instruments, now: Instant::now() }.each(|span| queue.push(span));
        }
        if let Some(logs) = &self.logs {
            self.send_lines(&logs.queue, exchange);
        }
    }
}

impl OpenTelemetry {
    /// The node's lines of late, then the request's.
    fn send_lines(&self, queue: &Queue<Box<[u8]>>, exchange: &Exchange<'_>) {
        let request = exchange.request;
        for line in take_node_lines() {
            queue.push_if_room(logs::record(&line, Within::default()));
        }
        let Some(lines) = request.context.get::<RequestLines>() else { return };
        let spans = self.tracing.instruments() != Instruments::NONE;
        // Where spans are made but not sent, lines still tell which request they belong to.
        let own = || spans.then(|| Trace { sampled: false, ..self.begin(None) });
        let trace = request.context.get::<Trace>().copied().filter(|trace| trace.told).or_else(own);
        let within = Within { request_id: Some(request.id.as_str()), trace: trace.as_ref(), spans };
        lines.each(|line| queue.push_if_room(logs::record(line, within)));
    }
}

/// `Resource`: who the spans come from.
fn resource(own: &BTreeMap<String, String>, env: &Env) -> Vec<u8> {
    let mut resource = Message::default();
    let id = env.node.id().to_string();
    for (name, value) in [("service.name", "kong"), ("service.instance.id", &id), ("service.version", env.node.version())] {
        if !own.contains_key(name) {
            resource.attribute(1, name, value.as_bytes());
        }
    }
    own.iter().for_each(|(name, value)| resource.attribute(1, name, value.as_bytes()));
    resource.0
}

/// What a request to a collector lists. Both kinds of request have one shape: a resource, a scope, a list.
#[derive(Clone, Copy, Debug)]
enum List {
    /// `ExportTraceServiceRequest` of one `ResourceSpans` with one `ScopeSpans`.
    Spans,
    /// `ExportLogsServiceRequest` of one `ResourceLogs` with one `ScopeLogs`.
    Logs,
}

fn send(poster: Poster, resource: Vec<u8>) -> Send<Box<[u8]>> {
    let sender = Arc::new((poster, resource));
    Box::new(move |batch| {
        let sender = sender.clone();
        Box::pin(async move {
            let (poster, resource) = &*sender;
            let mut request = Message::default();
            request.message(1, |of_resource| {
                of_resource.bytes(1, resource);
                of_resource.message(2, |scoped| {
                    scoped.message(1, |scope| {
                        scope.bytes(1, SCOPE.0.as_bytes());
                        scope.bytes(2, SCOPE.1.as_bytes());
                    });
                    batch.iter().for_each(|entry| scoped.bytes(2, entry));
                });
            });
            match poster.post(request.0).await? {
                200 => Ok(()),
                status => Err(format!("{} answered {status}", poster.uri())),
            }
        })
    })
}
