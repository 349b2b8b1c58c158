//! datadog: sends figures about every exchange to a Datadog agent, with tags.

mod config;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use portcullis_plugin::{Env, Exchange, Handler, Instance, Phases, Plugin, Request, Result};

use crate::queue::{OLD_DEFAULTS, Queue, Queues, Send, Settings};
use crate::sinks::Datagrams;
use crate::statsd;
pub use config::Config;
use config::Metric;

/// How long sending may take; users cannot set it.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// See the module's description.
pub struct Datadog {
    config: Config,
    queue: Queue<Box<[u8]>>,
}

impl Plugin for Datadog {
    const NAME: &'static str = "datadog";
    const PRIORITY: i32 = 10;
    const PHASES: Phases = Phases::LOG;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        // As Kong's agents are found in Kubernetes.
        let host = config.host.clone().or_else(|| std::env::var("KONG_DATADOG_AGENT_HOST").ok()).unwrap_or_else(|| "localhost".to_owned());
        let port = config.port.or_else(|| std::env::var("KONG_DATADOG_AGENT_PORT").ok()?.parse().ok()).unwrap_or(8125);
        let endpoint = format!("{host}:{port}");
        let settings = Settings::from(&config.queue).with_older(config.queue_size, config.flush_timeout, OLD_DEFAULTS);
        let queue = env.state.get::<Queues<_>>().get(env, Self::NAME, &endpoint, settings, || send(Datagrams::new(&host, port, TIMEOUT)));
        Ok(Self { config, queue })
    }
}

impl Handler for Datadog {
    fn log(&self, exchange: &Exchange<'_>) {
        let mut lines = String::with_capacity(self.config.metrics.len() * 64);
        self.config.metrics.iter().for_each(|metric| self.put(&mut lines, metric, exchange));
        if !lines.is_empty() {
            self.queue.push(lines.into_bytes().into());
        }
    }
}

impl Datadog {
    fn put(&self, out: &mut String, metric: &Metric, exchange: &Exchange<'_>) {
        let latencies = &exchange.latencies;
        let (name, value) = match &*metric.name {
            "request_count" => ("request.count", 1),
            "latency" => ("latency", latencies.request),
            "request_size" => ("request.size", exchange.request_bytes as i64),
            "response_size" => ("response.size", exchange.response_bytes as i64),
            "upstream_latency" => ("upstream_latency", latencies.proxy),
            _ => ("kong_latency", latencies.kong),
        };
        // What did not happen has no figure.
        if value < 0 {
            return;
        }
        let config = &self.config;
        let prefix = config.prefix.as_deref().unwrap_or("kong");
        // Writing to a string cannot fail.
        let _ = write!(out, "{prefix}.{name}:{value}|{}", statsd::kind(&metric.stat_type));
        if let Some(rate) = metric.sample_rate.filter(|rate| *rate != 1.0) {
            let _ = write!(out, "|@{rate}");
        }
        let request = exchange.request;
        let service = request.service.as_ref().map(|service| service.name.as_deref().unwrap_or(&service.host)).unwrap_or_default();
        let _ = write!(out, "|#{}:{service}", config.service_name_tag.as_deref().unwrap_or("name"));
        let _ = write!(out, ",{}:{}", config.status_tag.as_deref().unwrap_or("status"), exchange.response.status);
        if let Some(consumer) = consumer(request, metric.consumer_identifier.as_deref()) {
            let _ = write!(out, ",{}:{consumer}", config.consumer_tag.as_deref().unwrap_or("consumer"));
        }
        for tag in metric.tags.iter().flatten() {
            let _ = write!(out, ",{tag}");
        }
        out.push('\n');
    }
}

/// What a tag tells of the consumer; nothing unless asked for.
fn consumer(request: &Request, by: Option<&str>) -> Option<String> {
    let consumer = request.consumer.as_ref()?;
    match by? {
        "consumer_id" => Some(consumer.id.to_string()),
        "custom_id" => consumer.custom_id.as_deref().map(str::to_owned),
        _ => consumer.username.as_deref().map(str::to_owned),
    }
}

/// A datagram for every figure.
fn send(socket: Datagrams) -> Send<Box<[u8]>> {
    statsd::over_udp(socket, 0)
}
