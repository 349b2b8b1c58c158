//! What users set.

use std::collections::BTreeMap;

use portcullis_schema::build::{map, string};
use portcullis_schema::typedefs::header_name;
use portcullis_schema::{Field, Fields, Record};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::log_fields::{LuaFields, custom_fields_by_lua};
use crate::queue;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Where records are sent. A user and password in it become an `Authorization` header.
    #[field(url().required().encrypted().referenceable())]
    pub http_endpoint: String,
    /// The method of the requests that carry records.
    #[field(string().default("POST").one_of(["POST", "PUT", "PATCH"]))]
    pub method: Option<String>,
    /// The content type of these requests.
    #[field(string().default("application/json").one_of(["application/json", "application/json; charset=utf-8"]))]
    pub content_type: Option<String>,
    /// Milliseconds such a request may take.
    #[field(number().default(10000))]
    pub timeout: Option<f64>,
    /// Milliseconds an idle connection is kept.
    #[field(number().default(60000))]
    pub keepalive: Option<f64>,
    /// No longer has any effect; see `queue.max_retry_time`.
    #[field(queue::retry_count("http-log"))]
    pub retry_count: Option<i64>,
    /// No longer has any effect; see `queue.max_batch_size`.
    #[field(queue::queue_size("http-log"))]
    pub queue_size: Option<i64>,
    /// No longer has any effect; see `queue.max_coalescing_delay`.
    #[field(queue::flush_timeout("http-log"))]
    pub flush_timeout: Option<f64>,
    /// Headers to add to these requests.
    #[field(headers())]
    pub headers: Option<BTreeMap<String, String>>,
    /// How records wait and are sent together.
    #[field(record::<queue::Config>().required())]
    pub queue: queue::Config,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
}

fn headers() -> Field {
    let names = header_name()
        .matches_none("^[Hh][Oo][Ss][Tt]$", "^(?i:host)$", "cannot contain 'Host' header")
        .matches_none(
            "^[Cc][Oo][Nn][Tt][Ee][Nn][Tt]%-[Ll][Ee][nn][Gg][Tt][Hh]$",
            "^(?i:content-length)$",
            "cannot contain 'Content-Length' header",
        )
        .matches_none("^[Cc][Oo][Nn][Tt][Ee][Nn][Tt]%-[Tt][Yy][Pp][Ee]$", "^(?i:content-type)$", "cannot contain 'Content-Type' header");
    map(names, string().referenceable())
}

/// A user in the endpoint and an `Authorization` header would be two answers to one question.
pub fn check_authorization(record: &Record) -> Result<(), Vec<(String, Value)>> {
    let Some(config) = record.get("config").and_then(Value::as_object) else { return Ok(()) };
    let headers = config.get("headers").and_then(Value::as_object);
    let authorized = headers.is_some_and(|headers| headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")));
    let endpoint = config.get("http_endpoint").and_then(Value::as_str).and_then(|endpoint| Url::parse(endpoint).ok());
    let has_user = endpoint.is_some_and(|url| !url.username().is_empty() || url.password().is_some());
    if authorized && has_user {
        let complaint = "specifying both an 'Authorization' header and user info in 'http_endpoint' is not allowed";
        return Err(vec![("config".to_owned(), complaint.into())]);
    }
    Ok(())
}
