//! opentelemetry: follows requests through services: traces go on to the upstream, spans to a collector over OTLP/HTTP.
//!
//! In `access` the trace is read or begun and the upstream is told; in `log` the spans of the exchange are written as OTLP
//! messages ([`protobuf`]) and queued. What spans there are is the node's affair (`tracing_instrumentations`): without any,
//! traces only go on, unsampled.

mod config;
mod protobuf;
mod span;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_plugin::{Env, Exchange, Handler, Head, Instance, Instruments, Phases, Plugin, Request, Result, Scopes, Step, Tracing};
use portcullis_schema::{Check, Shorthand};

use crate::http_client::Poster;
use crate::propagation::{Incoming, Outgoing, Propagation, TraceId, random_id};
use crate::queue::{Queue, Queues, Send, Settings};
pub use config::Config;
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
    /// None: traces only go on.
    queue: Option<Queue<Box<[u8]>>>,
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
}

impl Plugin for OpenTelemetry {
    const NAME: &'static str = "opentelemetry";
    const PRIORITY: i32 = 14;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let queue = match &config.traces_endpoint {
            Some(endpoint) => {
                let milliseconds = |given: Option<u64>, default| Duration::from_millis(given.unwrap_or(default));
                let timeout = milliseconds(config.send_timeout, 5000) + milliseconds(config.read_timeout, 5000);
                let connect = milliseconds(config.connect_timeout, 1000);
                let headers = config.headers.iter().flatten();
                let poster = Poster::new(endpoint, "application/x-protobuf", headers, connect, timeout)?;
                let resource = resource(&config, env);
                let described = format!("{} {resource:?}", poster.describe());
                let settings = Settings::from(&config.queue);
                Some(env.state.get::<Queues<_>>().get(env, Self::NAME, &described, settings, || send(poster, resource)))
            }
            None => None,
        };
        Ok(Self {
            propagation: Propagation::new(&config.propagation, config.header_type.as_deref(), None),
            trace_header: config.http_response_header_for_traceid,
            sampling_rate: config.sampling_rate,
            tracing: env.state.get::<Tracing>(),
            queue,
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
        Trace {
            id: found.and_then(|found| found.trace).unwrap_or_else(|| TraceId::random(false)),
            root: random_id(),
            parent: found.and_then(|found| found.span),
            balancer: random_id(),
            sampled: self.tracing.instruments() != Instruments::NONE && decided(),
        }
    }
}

impl Handler for OpenTelemetry {
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
        let Some(queue) = &self.queue else { return };
        let Some(trace) = exchange.request.context.get::<Trace>().filter(|trace| trace.sampled) else { return };
        Spans { trace, exchange, instruments: self.tracing.instruments(), now: Instant::now() }.each(|span| queue.push(span));
    }
}

/// `Resource`: who the spans come from.
fn resource(config: &Config, env: &Env) -> Vec<u8> {
    let own = config.resource_attributes.iter().flatten();
    let given = |name: &str| config.resource_attributes.as_ref().is_some_and(|own| own.contains_key(name));
    let mut resource = Message::default();
    let id = env.node.id().to_string();
    for (name, value) in [("service.name", "kong"), ("service.instance.id", &id), ("service.version", env.node.version())] {
        if !given(name) {
            resource.attribute(1, name, value.as_bytes());
        }
    }
    own.for_each(|(name, value)| resource.attribute(1, name, value.as_bytes()));
    resource.0
}

fn send(poster: Poster, resource: Vec<u8>) -> Send<Box<[u8]>> {
    let sender = Arc::new((poster, resource));
    Box::new(move |batch| {
        let sender = sender.clone();
        Box::pin(async move {
            let (poster, resource) = &*sender;
            let mut request = Message::default();
            // `ExportTraceServiceRequest` of one `ResourceSpans` with one `ScopeSpans`.
            request.message(1, |spans| {
                spans.bytes(1, resource);
                spans.message(2, |scoped| {
                    scoped.message(1, |scope| {
                        scope.bytes(1, SCOPE.0.as_bytes());
                        scope.bytes(2, SCOPE.1.as_bytes());
                    });
                    batch.iter().for_each(|span| scoped.bytes(2, span));
                });
            });
            match poster.post(request.0).await? {
                200 => Ok(()),
                status => Err(format!("{} answered {status}", poster.uri())),
            }
        })
    })
}
