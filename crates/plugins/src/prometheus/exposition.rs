//! What there is to tell, with Kong's names and labels (behaviour checklist 12.3); what Kong does not tell is in
//! [`extra`](super::extra).

use std::sync::atomic::Ordering;

use portcullis_plugin::{Env, Exposition};

use super::extra;
use super::out::{Buckets, Exemplar, Kind, Out, Text};
use super::tables::{AI_BUCKETS, AiKey, Histogram, KONG_BUCKETS, Series, Tables, UPSTREAM_BUCKETS};

/// The workspace every row belongs to.
const WORKSPACE: &str = "default";

/// Bytes that a series with all its latencies takes as text, about.
const SERIES_BYTES: usize = 7 << 10;

/// Everything there is to tell, as the text that `GET /metrics` answers.
pub fn write(env: &Env, format: Exposition) -> String {
    let series = series(env);
    let mut out = Text::new(format == Exposition::OpenMetrics, (16 << 10) + series.len() * SERIES_BYTES);
    tell_series(env, &series, &mut out);
    out.finish()
}

/// Everything there is to tell, sorted by name.
pub fn tell(env: &Env, out: &mut impl Out) {
    tell_series(env, &series(env), out);
}

fn series(env: &Env) -> Vec<Series> {
    let mut series: Vec<Series> = env.state.get::<Tables>().sum().into_values().collect();
    series.sort_unstable_by(|a, b| (&a.service, &a.route, &a.consumer).cmp(&(&b.service, &b.route, &b.consumer)));
    series
}

fn tell_series(env: &Env, series: &[Series], out: &mut impl Out) {
    let tables = env.state.get::<Tables>();
    ai(out, &tables);
    bandwidth(out, series);
    out.head("kong_datastore_reachable", Kind::Gauge, "Datastore reachable from this node, 0 is unreachable");
    out.whole(&[], u64::from(env.node.datastore_reachable()));
    answers(out, "kong_http_requests_total", "HTTP status codes per consumer, service and route", series, false);
    let help = "Latency added by the gateway and its plugins for each service and route, in milliseconds";
    histogram(out, "kong_kong_latency_ms", help, &KONG_BUCKETS, series, |series| Some((&series.latencies.as_ref()?.kong, &[])));
    node(out, env, &tables);
    let help = "Duration of sessions for each service and route, in milliseconds";
    histogram(out, "kong_session_duration_ms", help, &UPSTREAM_BUCKETS, series, |series| whole(series, true));
    answers(out, "kong_stream_sessions_total", "Status codes of sessions per service and route", series, true);
    let help = "Latency of whole requests for each service and route, in milliseconds";
    histogram(out, "kong_request_latency_ms", help, &UPSTREAM_BUCKETS, series, |series| whole(series, false));
    let help = "Latency of upstream responses for each service and route, in milliseconds";
    histogram(out, "kong_upstream_latency_ms", help, &UPSTREAM_BUCKETS, series, |series| Some((&series.latencies.as_ref()?.upstream, &[])));
    if tables.tells_health() {
        health(out, env);
    }
    extra::tell(out, env);
}

/// Use of AI providers. There is no cache of answers, so the labels of one are empty.
fn ai(out: &mut impl Out, tables: &Tables) {
    let all = tables.ai();
    if all.is_empty() {
        return;
    }
    fn labels<'a>((provider, model): &'a AiKey, kind: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
        let mut labels = vec![
            ("ai_provider", &**provider),
            ("ai_model", &**model),
            ("cache_status", ""),
            ("vector_db", ""),
            ("embeddings_provider", ""),
            ("embeddings_model", ""),
        ];
        labels.extend(kind.map(|kind| ("token_type", kind)));
        labels.push(("workspace", WORKSPACE));
        labels
    }
    if all.values().any(|series| series.cost > 0.0) {
        out.head("kong_ai_llm_cost_total", Kind::Counter, "Cost of AI requests per provider and model");
        for (key, series) in all.iter().filter(|(_, series)| series.cost > 0.0) {
            out.real(&labels(key, None), series.cost);
        }
    }
    if all.values().any(|series| series.latency.total() > 0) {
        let help = "Time that AI providers took per provider and model, in milliseconds";
        out.head("kong_ai_llm_provider_latency_ms", Kind::Histogram, help);
        for (key, series) in all.iter().filter(|(_, series)| series.latency.total() > 0) {
            out.histogram(&labels(key, None), &buckets(&series.latency, &AI_BUCKETS, &[]));
        }
    }
    out.head("kong_ai_llm_requests_total", Kind::Counter, "AI requests per provider and model");
    all.iter().for_each(|(key, series)| out.whole(&labels(key, None), series.requests));
    if all.values().any(|series| series.total_tokens > 0) {
        out.head("kong_ai_llm_tokens_total", Kind::Counter, "Tokens of AI requests per provider and model");
        for (key, series) in &all {
            let counts = [
                ("completion_tokens", series.completion_tokens),
                ("prompt_tokens", series.prompt_tokens),
                ("total_tokens", series.total_tokens),
            ];
            for (kind, tokens) in counts.into_iter().filter(|(_, tokens)| *tokens > 0) {
                out.whole(&labels(key, Some(kind)), tokens);
            }
        }
    }
}

fn bandwidth(out: &mut impl Out, all: &[Series]) {
    let mut first = true;
    for series in all.iter().filter(|series| series.has_bytes) {
        if std::mem::take(&mut first) {
            out.head("kong_bandwidth_bytes", Kind::Counter, "Total bandwidth (ingress/egress) throughput in bytes");
        }
        for (direction, bytes) in [("egress", series.sent), ("ingress", series.received)] {
            let labels = [
                ("service", &*series.service),
                ("route", &series.route),
                ("direction", direction),
                ("workspace", WORKSPACE),
                ("consumer", &series.consumer),
            ];
            out.whole(&labels, bytes);
        }
    }
}

/// The time of whole requests, or of connections without HTTP.
fn whole(series: &Series, stream: bool) -> Option<(&Histogram<13>, &[Exemplar])> {
    let latencies = series.latencies.as_ref().filter(|_| series.stream == stream)?;
    Some((&latencies.request, &latencies.exemplars))
}

fn answers(out: &mut impl Out, name: &'static str, help: &'static str, all: &[Series], stream: bool) {
    let mut first = true;
    for series in all.iter().filter(|series| series.stream == stream && !series.answers.is_empty()) {
        if std::mem::take(&mut first) {
            out.head(name, Kind::Counter, help);
        }
        let mut answers = series.answers.clone();
        answers.sort_unstable();
        for (status, upstream, count) in answers {
            let status = crate::number::Digits::of(u64::from(status));
            let labels = [
                ("service", &*series.service),
                ("route", &series.route),
                ("code", std::str::from_utf8(status.as_bytes()).unwrap_or_default()),
                ("source", if upstream { "service" } else { "kong" }),
                ("workspace", WORKSPACE),
                ("consumer", &series.consumer),
            ];
            // Sessions have no consumer.
            out.whole(if series.stream { &labels[..5] } else { &labels }, count);
        }
    }
}

fn buckets<'a, const N: usize>(histogram: &'a Histogram<N>, bounds: &'a [u32; N], exemplars: &'a [Exemplar]) -> Buckets<'a> {
    Buckets { bounds, counts: &histogram.counts, larger: histogram.larger, sum: histogram.sum, exemplars }
}

fn histogram<const N: usize>(
    out: &mut impl Out,
    name: &'static str,
    help: &'static str,
    bounds: &[u32; N],
    all: &[Series],
    of: impl Fn(&Series) -> Option<(&Histogram<N>, &[Exemplar])>,
) {
    let mut first = true;
    let mut rest = all;
    // Latencies have no consumer: series that differ in theirs only stand together and are one here.
    while let Some(series) = rest.first() {
        let same = |other: &&Series| (&other.service, &other.route) == (&series.service, &series.route);
        let count = rest.iter().take_while(same).count();
        let (group, others) = rest.split_at(count);
        rest = others;
        let mut found = group.iter().filter_map(&of).filter(|(histogram, _)| histogram.total() > 0);
        let Some((histogram, exemplars)) = found.next() else { continue };
        if std::mem::take(&mut first) {
            out.head(name, Kind::Histogram, help);
        }
        let labels = [("service", &*series.service), ("route", &series.route), ("workspace", WORKSPACE)];
        match found.next() {
            None => out.histogram(&labels, &buckets(histogram, bounds, exemplars)),
            Some((second, _)) => {
                let mut sum = histogram.clone();
                sum.add(second);
                found.for_each(|(histogram, _)| sum.add(histogram));
                out.histogram(&labels, &buckets(&sum, bounds, exemplars));
            }
        }
    }
}

fn node(out: &mut impl Out, env: &Env, tables: &Tables) {
    let id = env.node.id().to_string();
    let counts = env.node.connections();
    out.head("kong_memory_workers_lua_vms_bytes", Kind::Gauge, "Memory of each worker process in bytes");
    for (pid, bytes) in env.node.worker_memory() {
        out.whole(&[("node_id", &id), ("pid", &pid.to_string()), ("kong_subsystem", "http")], bytes);
    }
    out.head("kong_nginx_connections_total", Kind::Gauge, "Number of connections by subsystem");
    let states = [
        ("accepted", counts.accepted),
        ("active", counts.active),
        ("handled", counts.handled),
        ("reading", counts.reading),
        ("total", counts.requests),
        ("waiting", counts.waiting),
        ("writing", counts.writing),
    ];
    for (state, count) in states {
        out.whole(&[("node_id", &id), ("subsystem", "http"), ("state", state)], count);
    }
    out.head("kong_nginx_metric_errors_total", Kind::Counter, "Number of metric errors");
    out.whole(&[], tables.errors.load(Ordering::Relaxed));
    out.head("kong_nginx_requests_total", Kind::Gauge, "Number of requests total");
    out.whole(&[("node_id", &id), ("subsystem", "http")], counts.requests);
    out.head("kong_nginx_timers", Kind::Gauge, "Number of timers");
    out.whole(&[("state", "pending")], 0);
    out.whole(&[("state", "running")], 0);
    out.head("kong_node_info", Kind::Gauge, "Node metadata information");
    out.whole(&[("node_id", &id), ("version", env.node.version())], 1);
}

fn health(out: &mut impl Out, env: &Env) {
    let targets = env.node.target_health();
    if targets.is_empty() {
        return;
    }
    let help =
        "Health status of targets of upstream. States = healthchecks_off|healthy|unhealthy|dns_error, value is 1 when state is populated.";
    out.head("kong_upstream_target_health", Kind::Gauge, help);
    for target in targets {
        for state in ["dns_error", "healthchecks_off", "healthy", "unhealthy"] {
            let labels = [
                ("upstream", &*target.upstream),
                ("target", &target.target),
                ("address", &target.address),
                ("state", state),
                ("subsystem", "http"),
            ];
            out.whole(&labels, u64::from(state == target.state));
        }
    }
}
