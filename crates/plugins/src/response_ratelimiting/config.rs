//! What users set.

use std::collections::BTreeMap;

use portcullis_schema::{Check, Fields};
use serde::Deserialize;
use serde_json::Value;

use crate::redis::Redis;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The response header by which the upstream counts.
    #[field(string().default("x-kong-limit"))]
    pub header_name: Option<String>,
    /// What is counted: a consumer's responses, a credential's, or an address's. Where that is not known the client's address
    /// counts.
    #[field(string().default("consumer").one_of(["consumer", "credential", "ip"]))]
    pub limit_by: Option<LimitBy>,
    /// Where counts are kept: on each node, in the database, or in Redis.
    #[field(string().default("local").one_of(["local", "cluster", "redis"]))]
    pub policy: Option<Policy>,
    /// Whether requests pass when counts cannot be reached.
    #[field(boolean().required().default(true))]
    pub fault_tolerant: bool,
    /// The Redis server, for the policy of that name.
    #[field(record::<Redis>().required())]
    pub redis: Redis,
    /// Whether requests are refused as soon as any limit is used up.
    #[field(boolean().required().default(false))]
    pub block_on_first_violation: bool,
    /// Whether clients are spared the headers that tell limits and what is left.
    #[field(boolean().required().default(false))]
    pub hide_client_headers: bool,
    /// The limits, each under a name that the upstream uses.
    #[field(map(string(), record::<Limit>().checks(vec![any_period()])).required().len_min(1).custom(check_order))]
    pub limits: BTreeMap<String, Limit>,
}

/// What each period takes of one limit.
#[derive(Debug, Deserialize, Fields)]
pub struct Limit {
    /// What a second takes.
    #[field(number().gt(0.0))]
    pub second: Option<f64>,
    /// What a minute takes.
    #[field(number().gt(0.0))]
    pub minute: Option<f64>,
    /// What an hour takes.
    #[field(number().gt(0.0))]
    pub hour: Option<f64>,
    /// What a day takes.
    #[field(number().gt(0.0))]
    pub day: Option<f64>,
    /// What a month takes.
    #[field(number().gt(0.0))]
    pub month: Option<f64>,
    /// What a year takes.
    #[field(number().gt(0.0))]
    pub year: Option<f64>,
}

impl Limit {
    /// From the shortest period to the longest.
    pub fn periods(&self) -> [Option<f64>; PERIODS.len()] {
        [self.second, self.minute, self.hour, self.day, self.month, self.year]
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LimitBy {
    #[default]
    Consumer,
    Credential,
    Ip,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    #[default]
    Local,
    Cluster,
    Redis,
}

/// A limit names at least one period.
fn any_period() -> Check {
    Check::AtLeastOneOf(PERIODS.to_vec())
}

/// From the shortest to the longest.
pub const PERIODS: [&str; 6] = ["second", "minute", "hour", "day", "month", "year"];

/// A longer period takes no less than a shorter one.
fn check_order(limits: &Value) -> Result<(), String> {
    for limit in limits.as_object().into_iter().flat_map(|limits| limits.values()) {
        let given: Vec<(&str, f64)> = PERIODS.into_iter().filter_map(|period| Some((period, limit.get(period)?.as_f64()?))).collect();
        for (at, (shorter, less)) in given.iter().enumerate() {
            if let Some((longer, more)) = given[at + 1..].iter().find(|(_, more)| more < less) {
                return Err(format!("the limit for {longer}({more:.1}) cannot be lower than the limit for {shorter}({less:.1})"));
            }
        }
    }
    Ok(())
}
