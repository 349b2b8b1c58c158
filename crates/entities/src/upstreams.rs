//! Upstreams: names that stand for several targets, with load balancing and health checks.

use std::collections::BTreeMap;

use portcullis_schema::address::{Host, parse_host};
use portcullis_schema::build::*;
use portcullis_schema::{Check, Fields, Record, Rule, Schema, Transform, Violations};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Entity, Ref};

/// A virtual host name, behind which requests are spread over targets.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Upstream {
    /// The upstream's id.
    #[field(id())]
    pub id: Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// The host name that services use.
    #[field(string().required().unique().custom(check_name))]
    pub name: String,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
    /// How a target is chosen.
    #[field(string().one_of(["consistent-hashing", "least-connections", "round-robin", "latency"]).default("round-robin"))]
    pub algorithm: Option<Algorithm>,
    /// What is hashed to choose a target.
    #[field(string().one_of(HASH_INPUTS).default("none"))]
    pub hash_on: Option<HashOn>,
    /// What is hashed where `hash_on` finds nothing.
    #[field(string().one_of(HASH_INPUTS).default("none"))]
    pub hash_fallback: Option<HashOn>,
    /// The header hashed by `header`.
    #[field(header_name())]
    pub hash_on_header: Option<String>,
    /// The header hashed by `header` as fallback.
    #[field(header_name())]
    pub hash_fallback_header: Option<String>,
    /// The cookie hashed by `cookie`; made for clients that bring none.
    #[field(cookie_name())]
    pub hash_on_cookie: Option<String>,
    /// The path of the cookie made.
    #[field(path().default("/"))]
    pub hash_on_cookie_path: Option<String>,
    /// The query argument hashed by `query_arg`.
    #[field(simple_param())]
    pub hash_on_query_arg: Option<String>,
    /// The query argument hashed by `query_arg` as fallback.
    #[field(simple_param())]
    pub hash_fallback_query_arg: Option<String>,
    /// The capture of the route's path hashed by `uri_capture`.
    #[field(simple_param())]
    pub hash_on_uri_capture: Option<String>,
    /// The capture of the route's path hashed by `uri_capture` as fallback.
    #[field(simple_param())]
    pub hash_fallback_uri_capture: Option<String>,
    /// Slots of the hash ring.
    #[field(integer().between(10, 65536).default(10000))]
    pub slots: Option<u32>,
    /// How targets are found to be well or ill.
    #[field(record::<Healthchecks>().required().default(json!({ "active": active_defaults(), "passive": passive_defaults() })))]
    pub healthchecks: Healthchecks,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
    /// The Host header sent to targets, unless the route keeps the client's.
    #[field(host_with_optional_port())]
    pub host_header: Option<String>,
    /// The certificate shown to targets.
    #[field(foreign("certificates"))]
    pub client_certificate: Option<Ref>,
    /// Whether the Host header carries the name a SRV record gave.
    #[field(boolean().default(false))]
    pub use_srv_name: Option<bool>,
}

/// How a target is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    ConsistentHashing,
    LeastConnections,
    #[default]
    RoundRobin,
    Latency,
}

/// What of a request is hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    #[default]
    None,
    Consumer,
    Ip,
    Header,
    Cookie,
    Path,
    QueryArg,
    UriCapture,
}

const HASH_INPUTS: [&str; 8] = ["none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture"];

/// How targets are found to be well or ill.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Healthchecks {
    /// Probes sent on our own.
    #[field(record::<ActiveChecks>().required().default(active_defaults()))]
    pub active: ActiveChecks,
    /// What requests of clients show.
    #[field(record::<PassiveChecks>().required().default(passive_defaults()))]
    pub passive: PassiveChecks,
    /// The share of weight, in percent, that must be well for the upstream to be.
    #[field(number().between(0, 100).default(0))]
    pub threshold: Option<f64>,
}

/// Probes sent on our own.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct ActiveChecks {
    /// Seconds to wait for an answer.
    #[field(number().between(0, 65535).default(1))]
    pub timeout: Option<f64>,
    /// The path asked for.
    #[field(path().default("/"))]
    pub http_path: Option<String>,
    /// The server name of the probe's TLS handshake.
    #[field(sni().shown("required", false))]
    pub https_sni: Option<String>,
    /// Whether the target's certificate is checked.
    #[field(boolean().required().default(true))]
    pub https_verify_certificate: bool,
    /// Probes of targets thought to be well.
    #[field(record::<ActiveHealthy>().required().default(active_defaults()["healthy"].clone()))]
    pub healthy: ActiveHealthy,
    /// Probes of targets thought to be ill.
    #[field(record::<ActiveUnhealthy>().required().default(active_defaults()["unhealthy"].clone()))]
    pub unhealthy: ActiveUnhealthy,
    /// Probes under way at once.
    #[field(integer().between(1, 2147483648_f64).default(10))]
    pub concurrency: Option<u64>,
    /// What probes speak.
    #[field(check_type())]
    pub r#type: Option<CheckType>,
    /// Headers sent along.
    #[field(map(header_name(), array(string())).shown("required", false))]
    pub headers: Option<BTreeMap<String, Vec<String>>>,
}

/// Probes of targets thought to be well.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct ActiveHealthy {
    /// Good answers in a row that make an ill target well. Zero: never.
    #[field(integer().between(0, 255).default(0))]
    pub successes: Option<u16>,
    /// Seconds between probes. Zero: no probes.
    #[field(number().between(0, 65535).default(0))]
    pub interval: Option<f64>,
    /// Statuses that count as good.
    #[field(array(integer().between(100, 999)).default([200, 302]))]
    pub http_statuses: Option<Vec<u16>>,
}

/// Probes of targets thought to be ill.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct ActiveUnhealthy {
    /// Seconds between probes. Zero: no probes.
    #[field(number().between(0, 65535).default(0))]
    pub interval: Option<f64>,
    /// Connection failures in a row that make a target ill. Zero: never.
    #[field(integer().between(0, 255).default(0))]
    pub tcp_failures: Option<u16>,
    /// Timeouts in a row that make a target ill. Zero: never.
    #[field(integer().between(0, 255).default(0))]
    pub timeouts: Option<u16>,
    /// Statuses that count as bad.
    #[field(array(integer().between(100, 999)).default([429, 404, 500, 501, 502, 503, 504, 505]))]
    pub http_statuses: Option<Vec<u16>>,
    /// Bad answers in a row that make a target ill. Zero: never.
    #[field(integer().between(0, 255).default(0))]
    pub http_failures: Option<u16>,
}

/// What requests of clients show.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct PassiveChecks {
    /// When a target is found to be ill.
    #[field(record::<PassiveUnhealthy>().required().default(passive_defaults()["unhealthy"].clone()))]
    pub unhealthy: PassiveUnhealthy,
    /// When a target is found to be well.
    #[field(record::<PassiveHealthy>().required().default(passive_defaults()["healthy"].clone()))]
    pub healthy: PassiveHealthy,
    /// Whether statuses count, or connections only.
    #[field(check_type())]
    pub r#type: Option<CheckType>,
}

/// When requests show a target to be ill.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct PassiveUnhealthy {
    /// Connection failures in a row that make a target ill. Zero: never.
    #[field(integer().between(0, 255).default(0))]
    pub tcp_failures: Option<u16>,
    /// Timeouts in a row that make a target ill. Zero: never.
    #[field(integer().between(0, 255).default(0))]
    pub timeouts: Option<u16>,
    /// Statuses that count as bad.
    #[field(array(integer().between(100, 999)).default([429, 500, 503]))]
    pub http_statuses: Option<Vec<u16>>,
    /// Bad answers in a row that make a target ill. Zero: never.
    #[field(integer().between(0, 255).default(0))]
    pub http_failures: Option<u16>,
}

/// When requests show a target to be well.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct PassiveHealthy {
    /// Statuses that count as good.
    #[field(array(integer().between(100, 999)).default(passive_defaults()["healthy"]["http_statuses"].clone()))]
    pub http_statuses: Option<Vec<u16>>,
    /// Good answers in a row that make an ill target well. Zero: never.
    #[field(integer().between(0, 255).default(0))]
    pub successes: Option<u16>,
}

/// What a health check looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckType {
    Tcp,
    #[default]
    Http,
    Https,
    Grpc,
    Grpcs,
}

fn check_type() -> portcullis_schema::Field {
    string().one_of(["tcp", "http", "https", "grpc", "grpcs"]).default("http")
}

fn active_defaults() -> Value {
    json!({
        "type": "http", "timeout": 1, "concurrency": 10, "http_path": "/", "https_verify_certificate": true,
        "healthy": { "interval": 0, "http_statuses": [200, 302], "successes": 0 },
        "unhealthy": {
            "interval": 0, "http_statuses": [429, 404, 500, 501, 502, 503, 504, 505],
            "tcp_failures": 0, "timeouts": 0, "http_failures": 0,
        },
    })
}

fn passive_defaults() -> Value {
    let good: Vec<u16> = (200..=208).chain([226]).chain(300..=308).collect();
    json!({
        "type": "http",
        "healthy": { "http_statuses": good, "successes": 0 },
        "unhealthy": { "http_statuses": [429, 500, 503], "tcp_failures": 0, "timeouts": 0, "http_failures": 0 },
    })
}

/// The name of a query argument or a capture.
fn simple_param() -> portcullis_schema::Field {
    string().len_min(1)
}

fn check_name(value: &Value) -> Result<(), String> {
    let Some(name) = value.as_str() else { return Ok(()) };
    let complaint = match parse_host(name) {
        Err(error) if error.starts_with("invalid ipv") => "no ip addresses allowed",
        Err(_) => "must be a valid hostname",
        Ok((Host::V4(_) | Host::V6(_), _)) => "no ip addresses allowed",
        Ok((_, Some(_))) => "no port allowed",
        Ok(_) => return Ok(()),
    };
    Err(format!("Invalid name ('{name}'); {complaint}"))
}

impl Entity for Upstream {
    const NAME: &'static str = "upstreams";
    const ENDPOINT_KEY: Option<&'static str> = Some("name");

    fn schema() -> Schema {
        let but = |left_out: &[&str]| HASH_INPUTS.iter().copied().filter(|input| !left_out.contains(input)).collect::<Vec<_>>();
        let checks = vec![
            needs("hash_on", "^header$", "hash_on_header"),
            needs("hash_fallback", "^header$", "hash_fallback_header"),
            needs("hash_on", "^cookie$", "hash_on_cookie"),
            needs("hash_fallback", "^cookie$", "hash_on_cookie"),
            falls_back_to("^none$", &["none"]),
            falls_back_to("^cookie$", &["none"]),
            falls_back_to("^consumer$", &but(&["consumer"])),
            falls_back_to("^ip$", &but(&["ip"])),
            falls_back_to("^path$", &["none", "consumer", "header", "cookie", "query_arg", "ip", "uri_capture"]),
            Check::Distinct(vec!["hash_on_header", "hash_fallback_header"]),
            needs("hash_on", "^query_arg$", "hash_on_query_arg"),
            needs("hash_fallback", "^query_arg$", "hash_fallback_query_arg"),
            Check::Distinct(vec!["hash_on_query_arg", "hash_fallback_query_arg"]),
            needs("hash_on", "^uri_capture$", "hash_on_uri_capture"),
            needs("hash_fallback", "^uri_capture$", "hash_fallback_uri_capture"),
            Check::Distinct(vec!["hash_on_uri_capture", "hash_fallback_uri_capture"]),
        ];
        let settled = Transform { inputs: &[], needs: &[], apply: settle_algorithm };
        Schema { checks, shape: Some(shape_algorithm), transforms: vec![settled], ..Self::base() }
    }
}

fn is(pattern: &'static str) -> Vec<Rule> {
    vec![Rule::Match { pattern: portcullis_schema::field::Pattern { lua: pattern, regex: pattern }, message: None }]
}

fn needs(if_field: &'static str, pattern: &'static str, then_field: &'static str) -> Check {
    Check::Conditional { if_field, if_match: is(pattern), then_field, then_match: Vec::new(), then_required: true, then_error: None }
}

fn falls_back_to(pattern: &'static str, inputs: &[&str]) -> Check {
    Check::Conditional {
        if_field: "hash_on",
        if_match: is(pattern),
        then_field: "hash_fallback",
        then_match: vec![Rule::OneOf(inputs.iter().map(|input| json!(input)).collect())],
        then_required: false,
        then_error: None,
    }
}

/// The algorithm and what is hashed pull each other along: without hashing there is no consistent hashing, with hashing
/// nothing else, and algorithms that look at load don't hash. Kong does so on every write and every read.
/// Kong knows `algorithm` and `hash_on` as shorthands of both: naming one sets the other.
fn shape_algorithm(record: &mut Record) {
    if matches!(record.get("algorithm").and_then(Value::as_str), Some("least-connections" | "latency")) {
        record.insert("hash_on".to_owned(), Value::Null);
    }
    let algorithm = match record.get_mut("hash_on") {
        Some(hash_on @ Value::Null) => {
            *hash_on = "none".into();
            return;
        }
        Some(Value::String(hash_on)) if hash_on == "none" => "round-robin",
        Some(Value::String(_)) => "consistent-hashing",
        _ => return,
    };
    record.insert("algorithm".to_owned(), algorithm.into());
}

/// What was merged is brought in line in the same way once it is known to be valid, which is how Kong reads it from then on.
fn settle_algorithm(record: &mut Record) -> Result<(), Violations> {
    shape_algorithm(record);
    Ok(())
}
