//! The figures of an exchange as StatsD lines.

use std::fmt::Write;
use std::ops::RangeInclusive;

use portcullis_plugin::{Exchange, Request};

use super::Config;
use super::config::{ConsumerIdentifier, Metric, ServiceIdentifier, TagStyle, WorkspaceIdentifier};

/// The workspace every entity belongs to.
const WORKSPACE_NAME: &str = "default";

/// What is written, for whom and how.
pub struct Lines {
    /// What every name begins with, the dot included.
    prefix: String,
    metrics: Vec<Metric>,
    /// Ranges of statuses that are told; none for all.
    statuses: Option<Vec<RangeInclusive<u16>>>,
    consumer: ConsumerIdentifier,
    service: ServiceIdentifier,
    workspace: WorkspaceIdentifier,
    tags: Option<TagStyle>,
}

/// Names and values of tags.
type Tags<'a> = [(&'a str, &'a str)];

impl Lines {
    pub fn new(config: Config, hostname: &str) -> Self {
        let mut prefix = config.prefix.unwrap_or_else(|| "kong".to_owned());
        if config.hostname_in_prefix == Some(true) {
            prefix = format!("{prefix}.node.{}", plain(hostname));
        }
        let range = |text: String| {
            let (from, to) = text.split_once('-')?;
            Some(from.parse().ok()?..=to.parse().ok()?)
        };
        Self {
            prefix: prefix + ".",
            metrics: config.metrics.unwrap_or_default(),
            statuses: config.allow_status_codes.map(|ranges| ranges.into_iter().filter_map(range).collect()),
            consumer: config.consumer_identifier_default,
            service: config.service_identifier_default,
            workspace: config.workspace_identifier_default,
            tags: config.tag_style,
        }
    }

    /// A line for each figure, a line feed after each.
    pub fn of(&self, exchange: &Exchange<'_>) -> String {
        let mut out = String::with_capacity(self.metrics.len() * 64);
        for metric in &self.metrics {
            self.put(&mut out, metric, exchange);
        }
        out
    }

    fn put(&self, out: &mut String, metric: &Metric, exchange: &Exchange<'_>) {
        let request = exchange.request;
        let scope = self.scope(request, metric.service_identifier.unwrap_or(self.service));
        let consumer = consumer(request, metric.consumer_identifier.unwrap_or(self.consumer));
        let workspace = match metric.workspace_identifier.unwrap_or(self.workspace) {
            WorkspaceIdentifier::Id => request.directory.workspace().to_string(),
            WorkspaceIdentifier::Name => WORKSPACE_NAME.to_owned(),
        };
        let status = exchange.response.status;
        let told = self.statuses.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(&status)));
        let latencies = &exchange.latencies;
        let route = request.route.as_ref().map(|route| route.id.to_string());
        // What stands in the name, what the name is when ids are tags, and the value. Minus one stands for what did not happen.
        let (suffix, bare, value) = match &*metric.name {
            "request_count" => (String::from("request.count"), "request.count", 1),
            "request_size" => ("request.size".to_owned(), "request.size", exchange.request_bytes as i64),
            "response_size" => ("response.size".to_owned(), "response.size", exchange.response_bytes as i64),
            "latency" => ("latency".to_owned(), "latency", latencies.request),
            "upstream_latency" => ("upstream_latency".to_owned(), "upstream_latency", latencies.proxy),
            "kong_latency" => ("kong_latency".to_owned(), "kong_latency", latencies.kong),
            "status_count" if told => (format!("status.{status}"), "status.count", 1),
            "status_count_per_workspace" if told => {
                (format!("workspace.{}.status.{status}", plain(&workspace)), "workspace.status.count", 1)
            }
            "unique_users" => {
                let Some(consumer) = &consumer else { return };
                return self.line(out, &format!("{}.user.uniques", scope.0), "user.uniques", consumer, metric, &scope.1);
            }
            "request_per_user" => {
                let Some(consumer) = &consumer else { return };
                (format!("user.{consumer}.request.count"), "user.request.count", 1)
            }
            "status_count_per_user" if told => {
                let Some(consumer) = &consumer else { return };
                (format!("user.{consumer}.status.{status}"), "user.status.count", 1)
            }
            "status_count_per_user_per_route" if told => {
                let (Some(consumer), Some(route)) = (&consumer, &route) else { return };
                let name = format!("route.{route}.user.{consumer}.status.{status}");
                let status = status.to_string();
                let tags = [("route", route.as_str()), ("consumer", consumer.as_str()), ("status", status.as_str())];
                return self.tagged(out, &name, "route.user.status.count", "1", metric, &tags);
            }
            // Shared memory is Kong's own affair: there is none to tell of.
            _ => return,
        };
        if value < 0 {
            return;
        }
        let status = status.to_string();
        let mut tags = vec![("service", scope.1.as_str())];
        tags.extend(route.as_deref().map(|route| ("route", route)));
        tags.extend(consumer.as_deref().map(|consumer| ("consumer", consumer)));
        tags.push(("workspace", workspace.as_str()));
        tags.push(("status", status.as_str()));
        self.tagged(out, &format!("{}.{suffix}", scope.0), bare, &value.to_string(), metric, &tags);
    }

    fn line(&self, out: &mut String, name: &str, bare: &str, value: &str, metric: &Metric, service: &str) {
        self.tagged(out, name, bare, value, metric, &[("service", service)]);
    }

    fn tagged(&self, out: &mut String, name: &str, bare: &str, value: &str, metric: &Metric, tags: &Tags<'_>) {
        let kind = kind(&metric.stat_type);
        let rate = metric.sample_rate.filter(|rate| *rate != 1.0).map(|rate| format!("|@{rate}")).unwrap_or_default();
        let prefix = &self.prefix;
        let joined = |between: char| {
            let pairs: Vec<String> = tags.iter().map(|(name, value)| format!("{name}{between}{value}")).collect();
            pairs.join(",")
        };
        // Writing to a string cannot fail.
        let _ = match self.tags {
            None => writeln!(out, "{prefix}{name}:{value}|{kind}{rate}"),
            Some(TagStyle::Dogstatsd) => writeln!(out, "{prefix}{bare}:{value}|{kind}{rate}|#{}", joined(':')),
            Some(TagStyle::Influxdb) => writeln!(out, "{prefix}{bare},{}:{value}|{kind}{rate}", joined('=')),
            Some(TagStyle::Librato) => writeln!(out, "{prefix}{bare}#{}:{value}|{kind}{rate}", joined('=')),
            Some(TagStyle::Signalfx) => writeln!(out, "{prefix}{bare}[{}]:{value}|{kind}{rate}", joined('=')),
        };
    }

    /// What names begin with, and what a tag tells of the service.
    fn scope(&self, request: &Request, by: ServiceIdentifier) -> (String, String) {
        let Some(service) = &request.service else { return ("global.unmatched".to_owned(), "unmatched".to_owned()) };
        let name = || service.name.as_deref();
        let told = match by {
            ServiceIdentifier::Id => service.id.to_string(),
            ServiceIdentifier::Host => service.host.to_string(),
            ServiceIdentifier::Name | ServiceIdentifier::NameOrHost => name().unwrap_or(&service.host).to_owned(),
        };
        let told = plain(&told);
        (format!("service.{told}"), told)
    }
}

fn consumer(request: &Request, by: ConsumerIdentifier) -> Option<String> {
    let consumer = request.consumer.as_ref()?;
    let told = match by {
        ConsumerIdentifier::ConsumerId => consumer.id.to_string(),
        ConsumerIdentifier::CustomId => consumer.custom_id.as_deref()?.to_owned(),
        ConsumerIdentifier::Username => consumer.username.as_deref()?.to_owned(),
    };
    Some(plain(&told))
}

/// Dots part names, and some characters end them: none may come from an identifier.
fn plain(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '.' | ':' | '|' | '@' | '#' | ',' | '\n') { '_' } else { c }).collect()
}

/// How the protocol calls a kind of figure.
pub fn kind(stat_type: &str) -> &'static str {
    match stat_type {
        "gauge" => "g",
        "histogram" => "h",
        "meter" => "m",
        "set" => "s",
        "timer" => "ms",
        "distribution" => "d",
        _ => "c",
    }
}
