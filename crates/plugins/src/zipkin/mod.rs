//! zipkin: follows requests through services: traces go on to the upstream, spans to a Zipkin server.
//!
//! In `access` the trace is read or begun, and the upstream is told of the span that will stand for it; in `log` the spans of
//! the exchange are made and queued:
//!
//! - the request itself, a `SERVER` span
//! - the proxying, a `CLIENT` span below it whose id the upstream was told
//! - each try to reach a target, a `CLIENT` span below the request's

mod config;
mod span;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_plugin::{Env, Exchange, Handler, Head, Instance, Phases, Plugin, Request, Result, Step};

use crate::http_client::Poster;
use crate::propagation::{Incoming, Outgoing, Propagation, TraceId, random_id};
use crate::queue::{Queue, Queues, Send, Settings};
pub use config::Config;
use span::Spans;

/// See the module's description.
pub struct Zipkin {
    config: Config,
    propagation: Propagation,
    node: String,
    /// None: traces only go on.
    queue: Option<Queue<Box<[u8]>>>,
}

/// What is remembered of a request until its spans are made.
#[derive(Clone, Copy, Debug)]
struct Trace {
    id: TraceId,
    request: u64,
    parent: Option<u64>,
    proxy: u64,
    sampled: bool,
    debug: bool,
    access: Option<Instant>,
    header_filter: Option<Instant>,
}

impl Plugin for Zipkin {
    const NAME: &'static str = "zipkin";
    const PRIORITY: i32 = 100_000;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::LOG);
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let propagation = Propagation::new(&config.propagation, Some(&config.header_type), Some(&config.default_header_type));
        let queue = match &config.http_endpoint {
            Some(endpoint) => {
                let milliseconds = |given: Option<u64>, default| Duration::from_millis(given.unwrap_or(default));
                let timeout = milliseconds(config.send_timeout, 5000) + milliseconds(config.read_timeout, 5000);
                let poster = Poster::new(endpoint, "application/json", [], milliseconds(config.connect_timeout, 2000), timeout)?;
                let described = poster.describe();
                let settings = Settings::from(&config.queue);
                Some(env.state.get::<Queues<_>>().get(env, Self::NAME, &described, settings, || send(poster)))
            }
            None => None,
        };
        Ok(Self { config, propagation, node: env.node.id().to_string(), queue })
    }
}

impl Zipkin {
    /// The trace that a request belongs to: its caller's, or one that begins here.
    fn begin(&self, found: Option<&Incoming>) -> Trace {
        let sampled = found.and_then(|found| found.sampled).unwrap_or_else(|| {
            let ratio = self.config.sample_ratio.unwrap_or(0.001);
            // 2^53 values, as many as a float between 0 and 1 tells apart.
            ((random_id() >> 11) as f64) < ratio * (1u64 << 53) as f64
        });
        let short = self.config.traceid_byte_count == 8;
        let shared = found.filter(|found| found.shares_span).and_then(|found| Some((found.span?, found.parent)));
        let (request, parent) = shared.unwrap_or_else(|| (random_id(), found.and_then(|found| found.span)));
        Trace {
            id: found.and_then(|found| found.trace).unwrap_or_else(|| TraceId::random(short)),
            request,
            parent,
            proxy: random_id(),
            sampled,
            debug: found.is_some_and(|found| found.debug),
            access: None,
            header_filter: None,
        }
    }
}

impl Handler for Zipkin {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let found = self.propagation.extract(&request.head.headers);
        let trace = Trace { access: Some(Instant::now()), ..self.begin(found.as_ref()) };
        let out = Outgoing {
            trace: trace.id,
            span: trace.proxy,
            parent: Some(trace.request),
            sampled: trace.sampled,
            debug: trace.debug,
            quiet_when_unsampled: true,
        };
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
        let Some(trace) = head.context.get_mut::<Trace>() else { return Ok(()) };
        trace.header_filter = Some(Instant::now());
        if let Some(name) = &self.config.http_response_header_for_traceid {
            head.response.headers.append(name, trace.id.hex().as_bytes());
        }
        Ok(())
    }

    fn log(&self, exchange: &Exchange<'_>) {
        let Some(queue) = &self.queue else { return };
        let Some(trace) = exchange.request.context.get::<Trace>().filter(|trace| trace.sampled) else { return };
        let spans = Spans { config: &self.config, node: &self.node, trace, exchange, now: Instant::now() };
        for span in spans.all() {
            match serde_json::to_vec(&span) {
                Ok(span) => queue.push(span.into()),
                Err(error) => tracing::error!(%error, "a span could not be written"),
            }
        }
    }
}

fn send(poster: Poster) -> Send<Box<[u8]>> {
    let poster = Arc::new(poster);
    Box::new(move |batch| {
        let poster = poster.clone();
        Box::pin(async move {
            let body = [&b"["[..], &batch.join(&b","[..]), b"]"].concat();
            let status = poster.post(body).await?;
            if status >= 300 {
                // As in Kong an answer settles it, whatever it is.
                tracing::warn!(status, endpoint = %poster.uri(), "spans were refused");
            }
            Ok(())
        })
    })
}
