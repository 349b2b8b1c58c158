//! What users set.

use std::collections::BTreeMap;

use portcullis_schema::{Field, Fields, build};
use regex::Regex;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Whether the first rule that matches is the only one (`first`), or each works on what the ones before it left (`chain`).
    #[field(string().required().one_of(["first", "chain"]).default("first"))]
    pub mode: String,
    /// The rules, tried in this order.
    #[field(array(record::<Rule>()).required().len_min(1))]
    pub rules: Vec<Rule>,
}

/// What has to match, all of it, and what is done then.
#[derive(Debug, Deserialize, Fields)]
pub struct Rule {
    /// Methods, one of which the request has to have.
    #[field(set(http_method()))]
    pub methods: Option<Vec<String>>,
    /// A regular expression that the path has to match.
    #[field(pattern())]
    pub path: Option<String>,
    /// A regular expression that the host has to match.
    #[field(pattern())]
    pub host: Option<String>,
    /// Regular expressions that headers have to match, by name.
    #[field(map(header_name(), pattern()))]
    pub headers: Option<BTreeMap<String, String>>,
    /// Regular expressions that query arguments have to match, by name.
    #[field(map(string(), pattern()))]
    pub query: Option<BTreeMap<String, String>>,
    /// The path that goes to the upstream. `$1` and `${name}` stand for what the expressions captured.
    #[field(string().starts_with("/"))]
    pub set_path: Option<String>,
    /// The host that goes to the upstream.
    #[field(string())]
    pub set_host: Option<String>,
    /// Headers that are set.
    #[field(map(header_name(), string()))]
    pub set_headers: Option<BTreeMap<String, String>>,
    /// Headers that are removed.
    #[field(array(header_name()))]
    pub remove_headers: Option<Vec<String>>,
    /// Query arguments that are set.
    #[field(map(string(), string()))]
    pub set_query: Option<BTreeMap<String, String>>,
    /// Query arguments that are removed.
    #[field(array(string()))]
    pub remove_query: Option<Vec<String>>,
}

/// A regular expression.
fn pattern() -> Field {
    build::string().custom(|value| {
        let text = value.as_str().unwrap_or_default();
        Regex::new(text).map(|_| ()).map_err(|_| format!("'{text}' is not a valid regex"))
    })
}
