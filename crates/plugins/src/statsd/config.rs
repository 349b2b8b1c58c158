//! What users set.

use portcullis_schema::{Field, Fields, build};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::datadog::needs_sample_rate;
use crate::queue;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The server's host.
    #[field(host().default("localhost"))]
    pub host: Option<String>,
    /// The port at the host.
    #[field(port().default(8125))]
    pub port: Option<u16>,
    /// What every name begins with.
    #[field(string().default("kong"))]
    pub prefix: Option<String>,
    /// The figures to send.
    #[field(array(record::<Metric>().checks(vec![needs_sample_rate()])).default(defaults()))]
    pub metrics: Option<Vec<Metric>>,
    /// Ranges of statuses (`200-299`) that figures about statuses are sent for; without it all.
    #[field(array(string().matches("^[0-9]+-[0-9]+$", "^[0-9]+-[0-9]+$")))]
    pub allow_status_codes: Option<Vec<String>>,
    /// Bytes of a datagram that figures are put together in; 0 sends each by itself.
    #[field(number().between(0, 65507).default(0))]
    pub udp_packet_size: Option<f64>,
    /// Whether figures go over TCP.
    #[field(boolean().default(false))]
    pub use_tcp: Option<bool>,
    /// Whether names tell the node's host.
    #[field(boolean().default(false))]
    pub hostname_in_prefix: Option<bool>,
    /// What of a consumer names tell.
    #[field(consumer_identifier().required().default("custom_id"))]
    pub consumer_identifier_default: ConsumerIdentifier,
    /// What of a service names tell.
    #[field(service_identifier().required().default("service_name_or_host"))]
    pub service_identifier_default: ServiceIdentifier,
    /// What of a workspace names tell.
    #[field(workspace_identifier().required().default("workspace_id"))]
    pub workspace_identifier_default: WorkspaceIdentifier,
    /// No longer has any effect; see `queue.max_retry_time`.
    #[field(queue::retry_count("statsd"))]
    pub retry_count: Option<i64>,
    /// Older spelling of `queue.max_batch_size`.
    #[field(queue::queue_size("statsd"))]
    pub queue_size: Option<i64>,
    /// Older spelling of `queue.max_coalescing_delay`.
    #[field(queue::flush_timeout("statsd"))]
    pub flush_timeout: Option<f64>,
    /// How tags are written; without it ids are part of the names.
    #[field(string().one_of(["dogstatsd", "influxdb", "librato", "signalfx"]).shown("required", false))]
    pub tag_style: Option<TagStyle>,
    /// How figures wait and are sent together.
    #[field(record::<queue::Config>().required())]
    pub queue: queue::Config,
}

#[derive(Debug, Deserialize, Fields)]
pub struct Metric {
    /// What is measured.
    #[field(string().required().one_of(NAMES))]
    pub name: String,
    /// What kind of figure the server makes of it.
    #[field(string().required().one_of(["counter", "gauge", "histogram", "meter", "set", "timer"]))]
    pub stat_type: String,
    /// The share of figures that is sent.
    #[field(number().gt(0.0))]
    pub sample_rate: Option<f64>,
    /// What of a consumer the name tells.
    #[field(consumer_identifier())]
    pub consumer_identifier: Option<ConsumerIdentifier>,
    /// What of a service the name tells.
    #[field(service_identifier())]
    pub service_identifier: Option<ServiceIdentifier>,
    /// What of a workspace the name tells.
    #[field(workspace_identifier())]
    pub workspace_identifier: Option<WorkspaceIdentifier>,
}

const NAMES: [&str; 13] = [
    "kong_latency",
    "latency",
    "request_count",
    "request_per_user",
    "request_size",
    "response_size",
    "status_count",
    "status_count_per_user",
    "unique_users",
    "upstream_latency",
    "status_count_per_workspace",
    "status_count_per_user_per_route",
    "shdict_usage",
];

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ConsumerIdentifier {
    ConsumerId,
    CustomId,
    Username,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum ServiceIdentifier {
    #[serde(rename = "service_id")]
    Id,
    #[serde(rename = "service_name")]
    Name,
    #[serde(rename = "service_host")]
    Host,
    #[serde(rename = "service_name_or_host")]
    NameOrHost,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum WorkspaceIdentifier {
    #[serde(rename = "workspace_id")]
    Id,
    #[serde(rename = "workspace_name")]
    Name,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TagStyle {
    Dogstatsd,
    Influxdb,
    Librato,
    Signalfx,
}

fn consumer_identifier() -> Field {
    build::string().one_of(["consumer_id", "custom_id", "username"])
}

fn service_identifier() -> Field {
    build::string().one_of(["service_id", "service_name", "service_host", "service_name_or_host"])
}

fn workspace_identifier() -> Field {
    build::string().one_of(["workspace_id", "workspace_name"])
}

fn defaults() -> Value {
    let metrics = [
        ("request_count", "counter"),
        ("latency", "timer"),
        ("request_size", "counter"),
        ("status_count", "counter"),
        ("response_size", "counter"),
        ("unique_users", "set"),
        ("request_per_user", "counter"),
        ("upstream_latency", "timer"),
        ("kong_latency", "timer"),
        ("status_count_per_user", "counter"),
        ("status_count_per_workspace", "counter"),
        ("status_count_per_user_per_route", "counter"),
        ("shdict_usage", "gauge"),
    ];
    let metric = |(name, stat_type): (&str, &str)| match stat_type {
        "counter" | "gauge" => json!({ "name": name, "stat_type": stat_type, "sample_rate": 1 }),
        _ => json!({ "name": name, "stat_type": stat_type }),
    };
    metrics.into_iter().map(metric).collect()
}
