//! What users set, and which settings go together.

use portcullis_schema::{Check, Fields, Record, Rule, Shorthand, build};
use serde::Deserialize;
use serde_json::Value;

use super::window::PERIODS;

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

/// Where Redis is and how it is spoken to.
#[derive(Debug, Deserialize, Fields)]
pub struct Redis {
    /// Host name or address.
    #[field(host())]
    pub host: Option<String>,
    /// The port at the host.
    #[field(port().default(6379))]
    pub port: Option<u16>,
    /// Milliseconds to wait for the server.
    #[field(timeout().default(2000))]
    pub timeout: Option<u64>,
    /// The user to log in as.
    #[field(string().referenceable())]
    pub username: Option<String>,
    /// The password to log in with.
    #[field(string().referenceable().encrypted().len_min(0))]
    pub password: Option<String>,
    /// The number of the database.
    #[field(integer().default(0))]
    pub database: Option<i64>,
    /// Whether the connection is TLS.
    #[field(boolean().default(false).shown("required", false))]
    pub ssl: Option<bool>,
    /// Whether the server's certificate is checked.
    #[field(boolean().default(false).shown("required", false))]
    pub ssl_verify: Option<bool>,
    /// The server name of the TLS handshake.
    #[field(sni().shown("required", false))]
    pub server_name: Option<String>,
}

impl Config {
    /// The limits, from the shortest window to the longest.
    pub fn limits(&self) -> [Option<f64>; PERIODS.len()] {
        [self.second, self.minute, self.hour, self.day, self.month, self.year]
    }
}

const NAMES: [&str; PERIODS.len()] = ["second", "minute", "hour", "day", "month", "year"];

pub fn checks() -> Vec<Check> {
    let when = |if_field, value: &str, then_field| Check::Conditional {
        if_field,
        if_match: vec![Rule::Eq(value.into())],
        then_field,
        then_match: Vec::new(),
        then_required: true,
        then_error: None,
    };
    vec![
        Check::Hidden { fields: vec!["config"], check: check_order_and_sync },
        Check::AtLeastOneOf(vec!["config.second", "config.minute", "config.hour", "config.day", "config.month", "config.year"]),
        when("config.policy", "redis", "config.redis.host"),
        when("config.policy", "redis", "config.redis.port"),
        when("config.policy", "redis", "config.redis.timeout"),
        when("config.limit_by", "header", "config.header_name"),
        when("config.limit_by", "path", "config.path"),
    ]
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
    use build::{boolean, integer, string};
    macro_rules! moved {
        ($($name:literal = $new:literal: $field:expr),* $(,)?) => {
            vec![$(Shorthand::moved(
                $name,
                $field,
                &["redis", $new],
                concat!("rate-limiting: config.", $name, " is deprecated, please use config.redis.", $new, " instead"),
            )),*]
        };
    }
    moved![
        "redis_host" = "host": string(),
        "redis_port" = "port": integer(),
        "redis_password" = "password": string().len_min(0),
        "redis_username" = "username": string(),
        "redis_ssl" = "ssl": boolean(),
        "redis_ssl_verify" = "ssl_verify": boolean(),
        "redis_server_name" = "server_name": string(),
        "redis_timeout" = "timeout": integer(),
        "redis_database" = "database": integer(),
    ]
}
