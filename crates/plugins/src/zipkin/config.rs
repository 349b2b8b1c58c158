//! What users set.

use std::collections::HashSet;

use portcullis_schema::{Field, Fields, build};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{propagation, queue};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The name that spans of the gateway itself carry.
    #[field(string().required().default("kong"))]
    pub local_service_name: String,
    /// Where spans are sent; without it traces only go on.
    #[field(url())]
    pub http_endpoint: Option<String>,
    /// The share of requests whose spans are sent, where the client has not decided.
    #[field(number().between(0, 1).default(0.001))]
    pub sample_ratio: Option<f64>,
    /// The name that spans of a service without a name carry.
    #[field(string())]
    pub default_service_name: Option<String>,
    /// Whether spans tell the credential.
    #[field(switch(true))]
    pub include_credential: bool,
    /// Bytes of the ids of new traces.
    #[field(integer().required().default(16).one_of([8, 16]))]
    pub traceid_byte_count: usize,
    /// Older spelling of `propagation`.
    #[field(header_type())]
    pub header_type: String,
    /// Older spelling of `propagation.default_format`.
    #[field(default_header_type())]
    pub default_header_type: String,
    /// The request header whose pairs become tags.
    #[field(string().required().default("Zipkin-Tags"))]
    pub tags_header: String,
    /// Tags of every request's span.
    #[field(array(record::<Tag>()).custom(check_repeated))]
    pub static_tags: Option<Vec<Tag>>,
    /// What a request's span is named by.
    #[field(string().required().default("method").one_of(["method", "method_path"]))]
    pub http_span_name: String,
    /// Milliseconds connecting may take.
    #[field(timeout().default(2000))]
    pub connect_timeout: Option<u64>,
    /// Milliseconds sending may take.
    #[field(timeout().default(5000))]
    pub send_timeout: Option<u64>,
    /// Milliseconds the server may take.
    #[field(timeout().default(5000))]
    pub read_timeout: Option<u64>,
    /// The response header that tells clients the trace's id.
    #[field(string())]
    pub http_response_header_for_traceid: Option<String>,
    /// Whether the times of phases are annotations or tags.
    #[field(string().required().default("annotations").one_of(["annotations", "tags"]))]
    pub phase_duration_flavor: String,
    /// How spans wait and are sent together.
    #[field(record::<queue::Config>().required())]
    pub queue: queue::Config,
    /// How traces go on.
    #[field(record::<propagation::Config>().required().default(json!({ "default_format": "b3" })))]
    pub propagation: propagation::Config,
}

#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Tag {
    /// The tag's name.
    #[field(string().required().not_one_of(RESERVED))]
    pub name: String,
    /// The tag's value.
    #[field(string().required())]
    pub value: String,
}

/// Tags that the plugin sets itself.
const RESERVED: [&str; 13] = [
    "error",
    "http.method",
    "http.path",
    "http.status_code",
    "kong.balancer.state",
    "kong.balancer.try",
    "kong.consumer",
    "kong.credential",
    "kong.node.id",
    "kong.route",
    "kong.service",
    "lc",
    "peer.hostname",
];

fn header_type() -> Field {
    let kinds = ["preserve", "ignore", "b3", "b3-single", "w3c", "jaeger", "ot", "aws", "datadog", "gcp"];
    let message = "zipkin: config.header_type is deprecated, please use config.propagation options instead";
    build::string().required().default("preserve").one_of(kinds).shown("deprecation", deprecation(message, "preserve"))
}

fn default_header_type() -> Field {
    let kinds = ["b3", "b3-single", "w3c", "jaeger", "ot", "aws", "datadog", "gcp"];
    let message = "zipkin: config.default_header_type is deprecated, please use config.propagation.default_format instead";
    build::string().required().default("b3").one_of(kinds).shown("deprecation", deprecation(message, "b3"))
}

fn deprecation(message: &str, old_default: &str) -> Value {
    json!({ "message": message, "removal_in_version": "4.0", "old_default": old_default })
}

fn check_repeated(tags: &Value) -> Result<(), String> {
    let mut seen = HashSet::new();
    let names = tags.as_array().into_iter().flatten().filter_map(|tag| tag.get("name")?.as_str());
    for name in names {
        if !seen.insert(name) {
            return Err(format!("repeated tags are not allowed: {name}"));
        }
    }
    Ok(())
}
