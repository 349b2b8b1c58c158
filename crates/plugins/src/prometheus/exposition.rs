//! The text that `GET /metrics` answers: Prometheus' text format 0.0.4 with Kong's names and labels (behaviour checklist 12.3).

use std::fmt::Write;
use std::sync::atomic::Ordering;

use portcullis_plugin::Env;

use crate::queue::{Counts, Figures};

use super::tables::{AI_BUCKETS, AiKey, Histogram, KONG_BUCKETS, Series, Tables, UPSTREAM_BUCKETS};

/// The workspace every row belongs to.
const WORKSPACE: &str = "default";

/// Everything there is to tell, sorted by name.
pub fn write(env: &Env) -> String {
    let tables = env.state.get::<Tables>();
    let mut series: Vec<Series> = tables.sum().into_values().collect();
    series.sort_by(|a, b| (&a.service, &a.route, &a.consumer).cmp(&(&b.service, &b.route, &b.consumer)));
    let mut out = Out(String::with_capacity(4096 + series.len() * 2048));
    ai(&mut out, &tables);
    bandwidth(&mut out, &series);
    out.head("kong_datastore_reachable", "gauge", "Datastore reachable from this node, 0 is unreachable");
    out.line("kong_datastore_reachable", "", u64::from(env.node.datastore_reachable()));
    answers(&mut out, "kong_http_requests_total", "HTTP status codes per consumer, service and route", &series, false);
    let help = "Latency added by the gateway and its plugins for each service and route, in milliseconds";
    histogram(&mut out, "kong_kong_latency_ms", help, &KONG_BUCKETS, &series, |series| Some(&series.latencies.as_ref()?.kong));
    node(&mut out, env, &tables);
    queues(&mut out, env);
    let help = "Duration of sessions for each service and route, in milliseconds";
    histogram(&mut out, "kong_session_duration_ms", help, &UPSTREAM_BUCKETS, &series, |series| whole(series, true));
    answers(&mut out, "kong_stream_sessions_total", "Status codes of sessions per service and route", &series, true);
    let help = "Latency of whole requests for each service and route, in milliseconds";
    histogram(&mut out, "kong_request_latency_ms", help, &UPSTREAM_BUCKETS, &series, |series| whole(series, false));
    let help = "Latency of upstream responses for each service and route, in milliseconds";
    histogram(&mut out, "kong_upstream_latency_ms", help, &UPSTREAM_BUCKETS, &series, |series| Some(&series.latencies.as_ref()?.upstream));
    if tables.tells_health() {
        health(&mut out, env);
    }
    out.0
}

struct Out(String);

impl Out {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// `labels` are written as they are, without braces; empty for none.
    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn histogram<const N: usize>(&mut self, name: &str, labels: &str, bounds: &[u32; N], histogram: &Histogram<N>) {
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(histogram.counts) {
            below += count;
            let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        let total = histogram.total();
        let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
        let _ = writeln!(self.0, "{name}_count{{{labels}}} {total}");
        let _ = writeln!(self.0, "{name}_sum{{{labels}}} {}", histogram.sum);
    }
}

/// Backslash, quote and line feed are the characters a label value escapes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Use of AI providers. There is no cache of answers, so the labels of one are empty.
fn ai(out: &mut Out, tables: &Tables) {
    let all = tables.ai();
    if all.is_empty() {
        return;
    }
    let labels = |(provider, model): &AiKey, more: &str| {
        let (provider, model) = (escaped(provider), escaped(model));
        format!(
            "ai_provider=\"{provider}\",ai_model=\"{model}\",cache_status=\"\",vector_db=\"\",embeddings_provider=\"\",\
             embeddings_model=\"\",{more}workspace=\"{WORKSPACE}\""
        )
    };
    if all.values().any(|series| series.cost > 0.0) {
        out.head("kong_ai_llm_cost_total", "counter", "Cost of AI requests per provider and model");
        for (key, series) in all.iter().filter(|(_, series)| series.cost > 0.0) {
            let _ = writeln!(out.0, "kong_ai_llm_cost_total{{{}}} {}", labels(key, ""), series.cost);
        }
    }
    if all.values().any(|series| series.latency.total() > 0) {
        let name = "kong_ai_llm_provider_latency_ms";
        out.head(name, "histogram", "Time that AI providers took per provider and model, in milliseconds");
        for (key, series) in all.iter().filter(|(_, series)| series.latency.total() > 0) {
            out.histogram(name, &labels(key, ""), &AI_BUCKETS, &series.latency);
        }
    }
    out.head("kong_ai_llm_requests_total", "counter", "AI requests per provider and model");
    all.iter().for_each(|(key, series)| out.line("kong_ai_llm_requests_total", &labels(key, ""), series.requests));
    if all.values().any(|series| series.total_tokens > 0) {
        out.head("kong_ai_llm_tokens_total", "counter", "Tokens of AI requests per provider and model");
        for (key, series) in &all {
            let counts = [
                ("completion_tokens", series.completion_tokens),
                ("prompt_tokens", series.prompt_tokens),
                ("total_tokens", series.total_tokens),
            ];
            for (kind, tokens) in counts.into_iter().filter(|(_, tokens)| *tokens > 0) {
                out.line("kong_ai_llm_tokens_total", &labels(key, &format!("token_type=\"{kind}\",")), tokens);
            }
        }
    }
}

fn bandwidth(out: &mut Out, all: &[Series]) {
    let mut first = true;
    for series in all.iter().filter(|series| series.has_bytes) {
        if std::mem::take(&mut first) {
            out.head("kong_bandwidth_bytes", "counter", "Total bandwidth (ingress/egress) throughput in bytes");
        }
        let (service, route, consumer) = (escaped(&series.service), escaped(&series.route), escaped(&series.consumer));
        for (direction, bytes) in [("egress", series.sent), ("ingress", series.received)] {
            let labels = format!(
                "service=\"{service}\",route=\"{route}\",direction=\"{direction}\",workspace=\"{WORKSPACE}\",consumer=\"{consumer}\""
            );
            out.line("kong_bandwidth_bytes", &labels, bytes);
        }
    }
}

/// The time of whole requests, or of connections without HTTP.
fn whole(series: &Series, stream: bool) -> Option<&Histogram<13>> {
    series.latencies.as_ref().filter(|_| series.stream == stream).map(|latencies| &latencies.request)
}

fn answers(out: &mut Out, name: &str, help: &str, all: &[Series], stream: bool) {
    let mut first = true;
    for series in all.iter().filter(|series| series.stream == stream && !series.answers.is_empty()) {
        if std::mem::take(&mut first) {
            out.head(name, "counter", help);
        }
        let (service, route, consumer) = (escaped(&series.service), escaped(&series.route), escaped(&series.consumer));
        let mut answers = series.answers.clone();
        answers.sort_unstable();
        for (status, upstream, count) in answers {
            let source = if upstream { "service" } else { "kong" };
            let mut labels =
                format!("service=\"{service}\",route=\"{route}\",code=\"{status}\",source=\"{source}\",workspace=\"{WORKSPACE}\"");
            if !series.stream {
                let _ = write!(labels, ",consumer=\"{consumer}\"");
            }
            out.line(name, &labels, count);
        }
    }
}

fn histogram<const N: usize>(
    out: &mut Out,
    name: &str,
    help: &str,
    bounds: &[u32; N],
    all: &[Series],
    of: impl Fn(&Series) -> Option<&Histogram<N>>,
) {
    let mut first = true;
    // Latencies have no consumer: series that differ in theirs only are one here.
    let mut groups: Vec<(&str, &str, Histogram<N>)> = Vec::new();
    for series in all {
        let Some(histogram) = of(series).filter(|histogram| histogram.total() > 0) else { continue };
        match groups.last_mut() {
            Some((service, route, sum)) if (*service, *route) == (&*series.service, &*series.route) => {
                sum.counts.iter_mut().zip(histogram.counts).for_each(|(count, more)| *count += more);
                sum.larger += histogram.larger;
                sum.sum += histogram.sum;
            }
            _ => groups.push((&series.service, &series.route, histogram.clone())),
        }
    }
    for (service, route, histogram) in groups {
        if std::mem::take(&mut first) {
            out.head(name, "histogram", help);
        }
        let labels = format!("service=\"{}\",route=\"{}\",workspace=\"{WORKSPACE}\"", escaped(service), escaped(route));
        out.histogram(name, &labels, bounds, &histogram);
    }
}

fn node(out: &mut Out, env: &Env, tables: &Tables) {
    let id = env.node.id();
    let counts = env.node.connections();
    out.head("kong_memory_workers_lua_vms_bytes", "gauge", "Memory of each worker process in bytes");
    for (pid, bytes) in env.node.worker_memory() {
        out.line("kong_memory_workers_lua_vms_bytes", &format!("node_id=\"{id}\",pid=\"{pid}\",kong_subsystem=\"http\""), bytes);
    }
    out.head("kong_nginx_connections_total", "gauge", "Number of connections by subsystem");
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
        out.line("kong_nginx_connections_total", &format!("node_id=\"{id}\",subsystem=\"http\",state=\"{state}\""), count);
    }
    out.head("kong_nginx_metric_errors_total", "counter", "Number of metric errors");
    out.line("kong_nginx_metric_errors_total", "", tables.errors.load(Ordering::Relaxed));
    out.head("kong_nginx_requests_total", "gauge", "Number of requests total");
    out.line("kong_nginx_requests_total", &format!("node_id=\"{id}\",subsystem=\"http\""), counts.requests);
    out.head("kong_nginx_timers", "gauge", "Number of timers");
    out.line("kong_nginx_timers", "state=\"pending\"", 0);
    out.line("kong_nginx_timers", "state=\"running\"", 0);
    out.head("kong_node_info", "gauge", "Node metadata information");
    out.line("kong_node_info", &format!("node_id=\"{id}\",version=\"{}\"", escaped(env.node.version())), 1);
}

/// What waits for log, metric and trace servers; one line a plugin that ever had something to send.
fn queues(out: &mut Out, env: &Env) {
    let figures = env.state.get::<Counts>().figures();
    if figures.is_empty() {
        return;
    }
    type Of = fn(&Figures) -> u64;
    let metrics: [(&str, &str, &str, Of); 3] = [
        ("kong_queue_entries", "gauge", "Entries that wait to be sent, by plugin", |figures| figures.waiting),
        ("kong_queue_lost_total", "counter", "Entries dropped from full queues or given up on, by plugin", |figures| figures.lost),
        ("kong_queue_sent_total", "counter", "Entries that were sent, by plugin", |figures| figures.sent),
    ];
    for (name, kind, help, of) in metrics {
        out.head(name, kind, help);
        figures.iter().for_each(|figures| out.line(name, &format!("plugin=\"{}\"", figures.plugin), of(figures)));
    }
}

fn health(out: &mut Out, env: &Env) {
    let targets = env.node.target_health();
    if targets.is_empty() {
        return;
    }
    let help =
        "Health status of targets of upstream. States = healthchecks_off|healthy|unhealthy|dns_error, value is 1 when state is populated.";
    out.head("kong_upstream_target_health", "gauge", help);
    for target in targets {
        for state in ["dns_error", "healthchecks_off", "healthy", "unhealthy"] {
            let labels = format!(
                "upstream=\"{}\",target=\"{}\",address=\"{}\",state=\"{state}\",subsystem=\"http\"",
                escaped(&target.upstream),
                escaped(&target.target),
                escaped(&target.address)
            );
            out.line("kong_upstream_target_health", &labels, u64::from(state == target.state));
        }
    }
}
