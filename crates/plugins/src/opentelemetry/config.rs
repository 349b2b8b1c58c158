//! What users set.

use std::collections::BTreeMap;

use portcullis_schema::{Field, Fields, Shorthand, build};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::deprecation::deprecated;
use crate::{propagation, queue};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Where spans are sent.
    #[field(url().referenceable())]
    pub traces_endpoint: Option<String>,
    /// Where logs are sent.
    #[field(url().referenceable())]
    pub logs_endpoint: Option<String>,
    /// Headers to add to these requests.
    #[field(map(header_name(), string().referenceable()))]
    pub headers: Option<BTreeMap<String, String>>,
    /// What is told of the gateway itself, beside its name, version and id.
    #[field(map(string().required(), string().required()))]
    pub resource_attributes: Option<BTreeMap<String, String>>,
    /// How spans and logs wait and are sent together.
    #[field(record::<queue::Config>().required().default(json!({ "max_batch_size": 200 })))]
    pub queue: queue::Config,
    /// Older spelling of `queue.max_batch_size`.
    #[field(batch_span_count())]
    pub batch_span_count: Option<i64>,
    /// Older spelling of `queue.max_coalescing_delay`.
    #[field(batch_flush_delay())]
    pub batch_flush_delay: Option<i64>,
    /// Milliseconds connecting may take.
    #[field(timeout().default(1000))]
    pub connect_timeout: Option<u64>,
    /// Milliseconds sending may take.
    #[field(timeout().default(5000))]
    pub send_timeout: Option<u64>,
    /// Milliseconds the collector may take.
    #[field(timeout().default(5000))]
    pub read_timeout: Option<u64>,
    /// The response header that tells clients the trace's id.
    #[field(string())]
    pub http_response_header_for_traceid: Option<String>,
    /// Older spelling of `propagation`.
    #[field(header_type())]
    pub header_type: Option<String>,
    /// The share of requests whose spans are sent; without it the node's.
    #[field(number().between(0, 1).shown("required", false))]
    pub sampling_rate: Option<f64>,
    /// How traces go on.
    #[field(record::<propagation::Config>().required().default(json!({ "default_format": "w3c" })))]
    pub propagation: propagation::Config,
}

fn batch_span_count() -> Field {
    let message = "opentelemetry: config.batch_span_count is deprecated, please use config.queue.max_batch_size instead";
    deprecated(build::integer(), message, 200)
}

fn batch_flush_delay() -> Field {
    let message = "opentelemetry: config.batch_flush_delay is deprecated, please use config.queue.max_coalescing_delay instead";
    deprecated(build::integer(), message, 3)
}

fn header_type() -> Field {
    let kinds = ["preserve", "ignore", "b3", "b3-single", "w3c", "jaeger", "ot", "aws", "gcp", "datadog"];
    let message = "opentelemetry: config.header_type is deprecated, please use config.propagation options instead";
    deprecated(build::string().default("preserve").one_of(kinds).shown("required", false), message, "preserve")
}

/// The endpoint from when there was only one. Unlike a moved field it is not told again.
pub fn shorthands() -> Vec<Shorthand> {
    let message = "OpenTelemetry: config.endpoint is deprecated, please use config.traces_endpoint instead";
    let deprecation = json!({ "message": message, "removal_in_version": "4.0" });
    vec![Shorthand {
        name: "endpoint",
        field: build::url().referenceable().shown("deprecation", deprecation),
        expand: |value, config| {
            // The newer spelling counts where both are given.
            if config.get("traces_endpoint").is_none_or(Value::is_null) {
                config.insert("traces_endpoint".to_owned(), value.clone());
            }
            Ok(())
        },
    }]
}
