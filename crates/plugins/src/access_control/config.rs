//! What users set.

use std::collections::BTreeMap;

use portcullis_schema::{Field, Fields, build};
use regex::Regex;
use serde::Deserialize;

use super::window;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The rules; the first that matches decides. `PATCH` with `config.rules` changes them and nothing else.
    #[field(array(record::<Rule>()).required().default([(); 0]))]
    pub rules: Vec<Rule>,
    /// What happens to requests that no rule matches.
    #[field(string().required().one_of(["allow", "deny"]).default("deny"))]
    pub default_action: String,
    /// Minutes that the local time of the rules' time windows is ahead of UTC.
    #[field(integer().required().between(-840, 840).default(0))]
    pub utc_offset_minutes: i64,
    /// Whether responses tell which rule decided.
    #[field(boolean().required().default(false))]
    pub explain: bool,
    /// The header that tells it.
    #[field(header_name().required().default("X-Access-Control-Rule"))]
    pub explain_header: String,
    /// The status of a refusal.
    #[field(integer().required().between(400, 599).default(403))]
    pub status_code: i64,
    /// The message of a refusal.
    #[field(string().required().default("Access denied"))]
    pub message: String,
}

/// A condition that is not given holds; of those given all have to hold. A rule without any matches everything.
#[derive(Debug, Deserialize, Fields)]
pub struct Rule {
    /// What the rule is called where it is told that it decided.
    #[field(string())]
    pub name: Option<String>,
    /// What happens to requests that it matches.
    #[field(string().required().one_of(["allow", "deny"]))]
    pub action: String,
    /// Ids, usernames or custom ids, one of which the consumer has to have.
    #[field(set(string()))]
    pub consumers: Option<Vec<String>>,
    /// Groups, to one of which the consumer has to belong: its ACL groups, or those its authentication brought along.
    #[field(set(string()))]
    pub groups: Option<Vec<String>>,
    /// Claims of the verified JWT and the values that are fine, by name; `realm.roles` is a claim inside another.
    #[field(map(string(), array(string())))]
    pub claims: Option<BTreeMap<String, Vec<String>>>,
    /// Methods.
    #[field(set(http_method()))]
    pub methods: Option<Vec<String>>,
    /// Beginnings of paths, or regular expressions behind a `~`, which match from the start.
    #[field(array(path_or_pattern()))]
    pub paths: Option<Vec<String>>,
    /// Addresses and networks of clients.
    #[field(array(ip_or_cidr()))]
    pub addresses: Option<Vec<String>>,
    /// Days of the week.
    #[field(set(string().one_of(window::DAYS)))]
    pub days: Option<Vec<String>>,
    /// The time of day from which on it holds, `HH:MM`.
    #[field(time())]
    pub from: Option<String>,
    /// The time of day until which it holds. Before `from`, it means that of the next day.
    #[field(time())]
    pub until: Option<String>,
}

fn time() -> Field {
    build::string().custom(|value| match window::minute_of(value.as_str().unwrap_or_default()) {
        Some(_) => Ok(()),
        None => Err("expected a time of day as HH:MM".to_owned()),
    })
}

fn path_or_pattern() -> Field {
    build::string().custom(|value| {
        let text = value.as_str().unwrap_or_default();
        match text.strip_prefix('~') {
            Some(pattern) => Regex::new(pattern).map(|_| ()).map_err(|_| format!("'{pattern}' is not a valid regex")),
            None if text.starts_with('/') => Ok(()),
            None => Err("should start with: / or ~".to_owned()),
        }
    })
}
