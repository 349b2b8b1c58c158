//! prometheus: counts and measures what passes, and tells it at `GET /metrics` under Kong's metric names.
//!
//! Each thread counts in a table of its own, so that counting never waits for another worker; a scrape adds the tables up
//! ([`exposition`]). What is counted belongs to the process and outlives configuration changes.

pub(crate) mod exposition;
mod extra;
pub(crate) mod out;
mod tables;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_plugin::extra_metrics::{ExtraGroups, ExtraMetrics};
use portcullis_plugin::{Env, Exchange, Exposition, Handler, Instance, Phases, Plugin, Request, Result, Session};
use portcullis_schema::Fields;
use serde::Deserialize;
use serde_json::Value;

use tables::Tables;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Whether requests and bytes are counted by consumer too.
    #[field(boolean().default(false))]
    pub per_consumer: bool,
    /// Whether answers are counted by their status.
    #[field(boolean().default(false))]
    pub status_code_metrics: bool,
    /// Whether use of AI providers is counted.
    #[field(boolean().default(false))]
    pub ai_metrics: bool,
    /// Whether latencies are measured.
    #[field(boolean().default(false))]
    pub latency_metrics: bool,
    /// Whether bytes are counted.
    #[field(boolean().default(false))]
    pub bandwidth_metrics: bool,
    /// Whether the health of targets is told.
    #[field(boolean().default(false))]
    pub upstream_health_metrics: bool,
}

/// See the module's description.
pub struct Prometheus {
    config: Config,
    tables: Arc<Tables>,
    extra: Arc<ExtraMetrics>,
    /// Counts this instance among those that tell targets' health, while it lives.
    _health: Option<tables::TellsHealth>,
}

impl Plugin for Prometheus {
    const NAME: &'static str = "prometheus";
    const PRIORITY: i32 = 13;
    const PHASES: Phases = Phases::LOG;
    const METRICS: Option<fn(&Env, Exposition) -> String> = Some(exposition::write);
    type Config = Config;

    fn new(config: Config, _instance: &Instance, env: &Env) -> Result<Self> {
        let tables = env.state.get::<Tables>();
        let health = config.upstream_health_metrics.then(|| tables.tell_health());
        Ok(Self { config, tables, extra: env.state.get(), _health: health })
    }
}

impl Handler for Prometheus {
    fn log(&self, exchange: &Exchange<'_>) {
        // As in Kong: what matched no route is nobody's traffic.
        let Some(route) = &exchange.request.route else { return };
        let request = exchange.request;
        let consumer = if self.config.per_consumer { request.consumer.as_ref() } else { None };
        let session = request.context.get::<Session>();
        let trace = self.extra.groups().has(ExtraGroups::EXEMPLARS).then(|| trace_of(request)).flatten();
        self.tables.count(route, request.service.as_ref(), consumer, session.is_some(), |series| {
            if self.config.status_code_metrics {
                series.answered(session.map_or(exchange.response.status, |session| session.status), exchange.source);
            }
            // As in Kong: bytes are told of HTTP only.
            if self.config.bandwidth_metrics && session.is_none() {
                series.received += exchange.request_bytes;
                series.sent += exchange.response_bytes;
                series.has_bytes = true;
            }
            if self.config.latency_metrics {
                let latencies = &exchange.latencies;
                let proxy = if session.is_some() { -1 } else { latencies.proxy };
                series.measured(latencies.kong, proxy, latencies.request);
                if let Some(trace) = &trace {
                    series.exemplify(trace, latencies.request, request.started_at_ms);
                }
            }
        });
        if self.config.ai_metrics {
            self.count_ai(request);
        }
    }
}

/// The trace that the request belongs to, as the plugin wrote it down that took part in it.
fn trace_of(request: &Request) -> Option<&str> {
    request.log_fields.iter().find(|(path, _)| path.starts_with("trace_id.")).and_then(|(_, id)| id.as_str())
}

impl Prometheus {
    /// Counts what AI plugins noted for the log (`ai.proxy.meta`, `ai.proxy.usage`).
    fn count_ai(&self, request: &Request) {
        for (path, meta) in &request.log_fields {
            let Some(case) = path.strip_prefix("ai.").and_then(|path| path.strip_suffix(".meta")) else { continue };
            let usage = request.log_fields.get(&format!("ai.{case}.usage")).unwrap_or(&Value::Null);
            let text = |name: &str| meta.get(name).and_then(Value::as_str).unwrap_or_default();
            let tokens = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
            self.tables.count_ai(text("provider_name"), text("request_model"), |series| {
                series.requests += 1;
                series.cost += usage.get("cost").and_then(Value::as_f64).filter(|cost| *cost > 0.0).unwrap_or(0.0);
                series.prompt_tokens += tokens("prompt_tokens");
                series.completion_tokens += tokens("completion_tokens");
                series.total_tokens += tokens("total_tokens");
                if let Some(latency) = meta.get("llm_latency").and_then(Value::as_i64).filter(|latency| *latency > 0) {
                    series.took(latency);
                }
            });
        }
    }
}
