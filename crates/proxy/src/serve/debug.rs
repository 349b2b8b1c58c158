//! Request debugging: a request with `X-Kong-Request-Debug: *` is told where its time went, in a response header and, if it
//! asks for that, in the log (behaviour checklist 12.5).
//!
//! Clients on this machine need nothing else; others must bring the node's token.

use std::cell::Cell;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use portcullis_plugin::{Request, Stage, Stretch, Timeline};
use portcullis_wire::Headers;
use portcullis_wire::headers::Name;
use serde_json::{Map, Value, json};
use tracing::info;
use uuid::Uuid;

use super::Trace;
use crate::gateway::Worker;

const OUTPUT: Name = Name::new("X-Kong-Request-Debug-Output");
/// Longer outputs are shortened for clients that are not on this machine: proxies on the way may refuse large headers.
const LONGEST_HEADER: usize = 2048;
/// What goes into one line of the log.
const LONGEST_LINE: usize = 3072;

/// A request that is debugged.
#[derive(Debug)]
pub(crate) struct Debug {
    loopback: bool,
    log: Cell<bool>,
}

impl Worker {
    /// Whether this request is to be debugged; if so, it begins to note when what happens.
    pub(super) fn debug(&self, request: &mut Request) -> Option<Debug> {
        let token = self.gateway.settings.request_debug.as_ref()?;
        let headers = &request.head.headers;
        headers.get("x-kong-request-debug").filter(|value| *value == b"*")?;
        let loopback = request.client.forwarded_ip.is_some_and(|ip| ip.is_loopback());
        let brings =
            || headers.get("x-kong-request-debug-token").is_some_and(|given| verify_slices_are_equal(given, token.as_bytes()).is_ok());
        if !loopback && !brings() {
            return None;
        }
        let log = headers.get("x-kong-request-debug-log") == Some(b"true");
        request.timeline.get_or_insert_default();
        Some(Debug { loopback, log: Cell::new(log) })
    }
}

impl Debug {
    /// Tells the client, as the last header.
    pub(super) fn tell(&self, headers: &mut Headers, request: &Request, trace: &Trace) {
        let mut output = described(request, trace, None).to_string();
        if output.len() >= LONGEST_HEADER && !self.loopback {
            let message = "Output is truncated, please check the error_log for full output by filtering with the request_id.";
            output = json!({ "truncated": true, "request_id": request.id.as_str(), "message": message }).to_string();
            self.log.set(true);
        }
        headers.append_clean(OUTPUT, output.as_bytes());
    }

    /// Writes the log, where that was asked for, once the last byte has gone.
    pub(super) fn log(&self, request: &Request, trace: &Trace) {
        if !self.log.get() {
            return;
        }
        // ASCII but for names of plugins and hosts, so cutting by characters keeps to the length.
        let output: Vec<char> = described(request, trace, Some(Instant::now())).to_string().chars().collect();
        let parts = output.chunks(LONGEST_LINE).collect::<Vec<_>>();
        for (at, part) in parts.iter().enumerate() {
            let part: String = part.iter().collect();
            if parts.len() == 1 {
                info!(target: "notice", "[request-debug] output: {part}");
            } else {
                info!(target: "notice", "[request-debug] parts: {}/{} output: {part}", at + 1, parts.len());
            }
        }
    }
}

/// The tree of times, in milliseconds; `ended` when the response has gone.
fn described(request: &Request, trace: &Trace, ended: Option<Instant>) -> Value {
    let empty = Timeline::default();
    let stretches = &request.timeline.as_deref().unwrap_or(&empty).stretches;
    let router = stretches.iter().find(|stretch| stretch.stage == Stage::Router);
    let routed = router.map_or(request.started, |stretch| stretch.begun);
    let mut children = Map::new();
    let mut without_upstream = 0.0;
    let mut put = |name: &str, total: f64, child: Map<String, Value>, counts: bool| {
        if counts {
            without_upstream += total;
        }
        children.insert(name.to_owned(), node(total, child));
    };
    put("rewrite", ms(routed - request.started), plugins(stretches, |stage| named(stage, Phase::Rewrite)), true);
    if let Some(router) = router {
        let mut child = plugins(stretches, |stage| named(stage, Phase::Access));
        child.insert("router".to_owned(), node(ms(router.ended - router.begun), Map::new()));
        if let Some(dns) = stretches.iter().find(|stretch| stretch.stage == Stage::Dns) {
            let total = ms(dns.ended - dns.begun);
            let resolve = Map::from_iter([("resolve".to_owned(), node(total, Map::new()))]);
            let host = Map::from_iter([(request.upstream.host.to_string(), node(total, resolve))]);
            child.insert("dns".to_owned(), node(total, host));
        }
        let until = trace.balanced.or_else(|| stretches.iter().rfind(|stretch| !is_filter(stretch)).map(|stretch| stretch.ended));
        put("access", ms(until.unwrap_or(routed).saturating_duration_since(routed)), child, true);
    }
    if !trace.tries.is_empty() {
        let total = trace.tries.iter().map(|attempt| Duration::from_nanos(attempt.balancer_latency_ns)).sum();
        put("balancer", ms(total), Map::new(), true);
    }
    if let (Some(balanced), Some(answered)) = (trace.balanced, trace.answered) {
        let waited = ms(answered.saturating_duration_since(balanced)).floor();
        let mut child = Map::from_iter([("time_to_first_byte".to_owned(), node(waited, Map::new()))]);
        let mut total = waited;
        if let Some(ended) = ended {
            let streaming = ms(ended.saturating_duration_since(answered)).floor();
            child.insert("streaming".to_owned(), node(streaming, Map::new()));
            total += streaming;
        }
        put("upstream", total, child, false);
    }
    let filtered = stretches.iter().filter(|stretch| is_filter(stretch)).map(|stretch| stretch.ended - stretch.begun).sum();
    put("header_filter", ms(filtered), plugins(stretches, |stage| named(stage, Phase::HeaderFilter)), true);
    json!({
        "request_id": request.id.as_str(),
        "workspace_id": request.directory.workspace(),
        "child": children,
        "total_time_without_upstream": (without_upstream * 100.0).floor() / 100.0,
    })
}

#[derive(PartialEq)]
enum Phase {
    Rewrite,
    Access,
    HeaderFilter,
}

/// The plugin of a stage of this phase.
fn named(stage: Stage, wanted: Phase) -> Option<&'static str> {
    let (phase, name) = match stage {
        Stage::Rewrite(name) => (Phase::Rewrite, name),
        Stage::Access(name) => (Phase::Access, name),
        Stage::HeaderFilter(name) => (Phase::HeaderFilter, name),
        Stage::Router | Stage::Dns => return None,
    };
    (phase == wanted).then_some(name)
}

fn is_filter(stretch: &Stretch) -> bool {
    matches!(stretch.stage, Stage::HeaderFilter(_))
}

/// The phase's plugins, each with its instances; nothing when none ran.
fn plugins(stretches: &[Stretch], name: impl Fn(Stage) -> Option<&'static str>) -> Map<String, Value> {
    let (mut all, mut total) = (Map::new(), 0.0);
    for stretch in stretches {
        let Some(name) = name(stretch.stage) else { continue };
        let took = ms(stretch.ended - stretch.begun);
        let id = stretch.instance.unwrap_or(Uuid::nil()).to_string();
        total += took;
        all.insert(name.to_owned(), node(took, Map::from_iter([(id, node(took, Map::new()))])));
    }
    if all.is_empty() { Map::new() } else { Map::from_iter([("plugins".to_owned(), node(total, all))]) }
}

fn node(total: f64, child: Map<String, Value>) -> Value {
    let mut node = Map::from_iter([("total_time".to_owned(), json!((total * 100.0).floor() / 100.0))]);
    if !child.is_empty() {
        node.insert("child".to_owned(), Value::Object(child));
    }
    Value::Object(node)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
