//! What users set, and which settings go together.

use portcullis_schema::build::{integer, string, uuid};
use portcullis_schema::{Check, Fields, Record, Rule, Schema, Shorthand};
use serde::Deserialize;
use serde_json::Value;

use super::window::PERIODS;
use crate::redis::{self, Redis};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Requests a second takes.
    #[field(number().gt(0.0))]
    pub second: Option<f64>,
    /// Requests a minute takes.
    #[field(number().gt(0.0))]
    pub minute: Option<f64>,
    /// Requests an hour takes.
    #[field(number().gt(0.0))]
    pub hour: Option<f64>,
    /// Requests a day takes.
    #[field(number().gt(0.0))]
    pub day: Option<f64>,
    /// Requests a month takes.
    #[field(number().gt(0.0))]
    pub month: Option<f64>,
    /// Requests a year takes.
    #[field(number().gt(0.0))]
    pub year: Option<f64>,
    /// What is counted: a consumer's requests, a credential's, an address's, all, those with a header's value, or those to
    /// one path. Where that is not known the client's address counts.
    #[field(string().one_of(["consumer", "credential", "ip", "service", "header", "path"]).default("consumer"))]
    pub limit_by: Option<LimitBy>,
    /// The header whose values are told apart when counting by header.
    #[field(header_name())]
    pub header_name: Option<String>,
    /// The path whose requests are counted when counting by path.
    #[field(path())]
    pub path: Option<String>,
    /// Where counts are kept: on each node, in the database, or in Redis.
    #[field(string().one_of(["local", "cluster", "redis"]).len_min(0).default("local"))]
    pub policy: Option<Policy>,
    /// Whether requests pass when counts cannot be reached.
    #[field(boolean().required().default(true))]
    pub fault_tolerant: bool,
    /// The Redis server, for the policy of that name.
    #[field(record::<Redis>().required())]
    pub redis: Redis,
    /// Whether clients are spared the headers that tell limits and what is left.
    #[field(boolean().required().default(false))]
    pub hide_client_headers: bool,
    /// The status of a refusal.
    #[field(number().gt(0.0).default(429))]
    pub error_code: Option<f64>,
    /// The message of a refusal.
    #[field(string().default("API rate limit exceeded"))]
    pub error_message: Option<String>,
    /// Seconds between two exchanges with Redis; -1 asks it on every request.
    #[field(number().required().default(-1))]
    pub sync_rate: f64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LimitBy {
    #[default]
    Consumer,
    Credential,
    Ip,
    Service,
    Header,
    Path,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    #[default]
    Local,
    Cluster,
    Redis,
}

impl Config {
    /// The limits, from the shortest window to the longest.
    pub fn limits(&self) -> [Option<f64>; PERIODS.len()] {
        [self.second, self.minute, self.hour, self.day, self.month, self.year]
    }
}

const NAMES: [&str; PERIODS.len()] = ["second", "minute", "hour", "day", "month", "year"];

pub fn checks() -> Vec<Check> {
    let when = |value: &str, then_field| Check::Conditional {
        if_field: "config.limit_by",
        if_match: vec![Rule::Eq(value.into())],
        then_field,
        then_match: Vec::new(),
        then_required: true,
        then_error: None,
    };
    let mut checks = vec![
        Check::Hidden { fields: vec!["config"], check: check_order_and_sync },
        Check::AtLeastOneOf(vec!["config.second", "config.minute", "config.hour", "config.day", "config.month", "config.year"]),
    ];
    checks.extend(redis::checks());
    checks.extend([when("header", "config.header_name"), when("path", "config.path")]);
    checks
}

/// A longer window takes no fewer requests than a shorter one; counts are exchanged in batches only with Redis.
fn check_order_and_sync(record: &Record) -> Result<(), Vec<(String, Value)>> {
    let Some(config) = record.get("config").and_then(Value::as_object) else { return Ok(()) };
    let number = |name: &str| config.get(name).and_then(Value::as_f64);
    let complain = |text: String| Err(vec![("config".to_owned(), Value::String(text))]);
    let limits: Vec<(&str, f64)> = NAMES.into_iter().filter_map(|name| Some((name, number(name)?))).collect();
    for (at, (shorter, fewer)) in limits.iter().enumerate() {
        if let Some((longer, more)) = limits[at + 1..].iter().find(|(_, more)| more < fewer) {
            return complain(format!("The limit for {longer}({more:.1}) cannot be lower than the limit for {shorter}({fewer:.1})"));
        }
    }
    let sync_rate = number("sync_rate").unwrap_or(-1.0);
    let by_redis = config.get("policy").and_then(Value::as_str) == Some("redis");
    if sync_rate != -1.0 && !by_redis {
        return complain("sync_rate can only be used with the redis policy".to_owned());
    }
    if sync_rate != -1.0 && sync_rate < 0.02 {
        return complain("sync_rate must be greater than 0.02, or -1 to disable".to_owned());
    }
    Ok(())
}

/// The flat spellings of Redis settings from before there was a record of them.
pub fn shorthands() -> Vec<Shorthand> {
    redis::flat_spellings!("rate-limiting")
}

/// Counts kept in the database, for the policy `cluster`. Rows have no id: the fields but `value` name one together.
pub fn metrics() -> Schema {
    let fields = vec![
        ("identifier", string().required().len_min(0)),
        ("period", string().required()),
        ("period_date", integer().required().timestamp()),
        ("service_id", uuid().required()),
        ("route_id", uuid().required()),
        ("value", integer().required()),
    ];
    Schema { workspaceable: false, admin_api: false, exported: false, ttl: true, ..Schema::new("ratelimiting_metrics", fields) }
}
