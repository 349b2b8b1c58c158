//! What users set.

use portcullis_schema::{Check, Fields, Rule};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::queue;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The agent's host; null takes `KONG_DATADOG_AGENT_HOST` of the environment.
    #[field(host().referenceable().default("localhost"))]
    pub host: Option<String>,
    /// The agent's port; null takes `KONG_DATADOG_AGENT_PORT` of the environment.
    #[field(port().default(8125))]
    pub port: Option<u16>,
    /// What every name begins with.
    #[field(string().default("kong"))]
    pub prefix: Option<String>,
    /// The tag that tells the service.
    #[field(string().default("name"))]
    pub service_name_tag: Option<String>,
    /// The tag that tells the status.
    #[field(string().default("status"))]
    pub status_tag: Option<String>,
    /// The tag that tells the consumer.
    #[field(string().default("consumer"))]
    pub consumer_tag: Option<String>,
    /// No longer has any effect; see `queue.max_retry_time`.
    #[field(queue::retry_count("datadog"))]
    pub retry_count: Option<i64>,
    /// Older spelling of `queue.max_batch_size`.
    #[field(queue::queue_size("datadog"))]
    pub queue_size: Option<i64>,
    /// Older spelling of `queue.max_coalescing_delay`.
    #[field(queue::flush_timeout("datadog"))]
    pub flush_timeout: Option<f64>,
    /// How figures wait and are sent together.
    #[field(record::<queue::Config>().required())]
    pub queue: queue::Config,
    /// The figures to send.
    #[field(array(record::<Metric>().checks(vec![needs_sample_rate()])).required().default(defaults()))]
    pub metrics: Vec<Metric>,
}

#[derive(Debug, Deserialize, Fields)]
pub struct Metric {
    /// What is measured.
    #[field(string().required().one_of(["kong_latency", "latency", "request_count", "request_size", "response_size", "upstream_latency"]))]
    pub name: String,
    /// What kind of figure the agent makes of it.
    #[field(string().required().one_of(["counter", "gauge", "histogram", "meter", "set", "timer", "distribution"]))]
    pub stat_type: String,
    /// Further tags.
    #[field(array(string().matches("^.*[^:]$", "^(?s:.*)[^:]$")))]
    pub tags: Option<Vec<String>>,
    /// The share of figures that is sent.
    #[field(number().between(0, 1))]
    pub sample_rate: Option<f64>,
    /// What of a consumer the tag tells.
    #[field(string().one_of(["consumer_id", "custom_id", "username"]))]
    pub consumer_identifier: Option<String>,
}

/// Counters and gauges tell how many of them are sent; statsd has the same rule.
pub fn needs_sample_rate() -> Check {
    Check::Conditional {
        if_field: "stat_type",
        if_match: vec![Rule::OneOf(vec!["counter".into(), "gauge".into()])],
        then_field: "sample_rate",
        then_match: Vec::new(),
        then_required: true,
        then_error: None,
    }
}

fn defaults() -> Value {
    let timer = |name: &str| json!({ "name": name, "stat_type": "timer", "tags": ["app:kong"], "consumer_identifier": "custom_id" });
    let mut count = timer("request_count");
    count["stat_type"] = "counter".into();
    count["sample_rate"] = 1.into();
    json!([count, timer("latency"), timer("request_size"), timer("response_size"), timer("upstream_latency"), timer("kong_latency")])
}
