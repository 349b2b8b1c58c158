//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The statuses of responses that are kept.
    #[field(array(integer().between(100, 900)).required().len_min(1).default([200, 301, 404]))]
    pub response_code: Vec<i64>,
    /// The methods of requests whose responses are kept.
    #[field(array(string().one_of(["HEAD", "GET", "POST", "PATCH", "PUT"])).required().default(["GET", "HEAD"]))]
    pub request_method: Vec<String>,
    /// The types of responses that are kept; parameters count.
    #[field(array(string()).required().default(["text/plain", "application/json"]))]
    pub content_type: Vec<String>,
    /// Seconds for which a response is fresh.
    #[field(integer().default(300).gt(0.0))]
    pub cache_ttl: Option<i64>,
    /// Where responses are kept.
    #[field(string().one_of(["memory"]).required())]
    pub strategy: String,
    /// Whether `Cache-Control` of requests and responses is heeded.
    #[field(boolean().default(false).required())]
    pub cache_control: bool,
    /// Whether URIs that differ in upper and lower case only share a response.
    #[field(boolean().default(false).shown("required", false))]
    pub ignore_uri_case: Option<bool>,
    /// Seconds for which a response is kept, where that is longer than it is fresh.
    #[field(integer())]
    pub storage_ttl: Option<i64>,
    /// Settings of the store in memory.
    #[field(record::<Memory>().required())]
    pub memory: Memory,
    /// The query arguments that tell responses apart; without any, all do.
    #[field(array(string()))]
    pub vary_query_params: Option<Vec<String>>,
    /// The request headers that tell responses apart.
    #[field(array(string()))]
    pub vary_headers: Option<Vec<String>>,
    /// Headers that tell clients how their answer came about.
    #[field(record::<ResponseHeaders>().required())]
    pub response_headers: ResponseHeaders,
}

/// Settings of the store in memory.
#[derive(Debug, Deserialize, Fields)]
pub struct Memory {
    /// The name of the store.
    #[field(string().required().default("kong_db_cache"))]
    pub dictionary_name: String,
}

/// Headers that tell clients how their answer came about.
#[derive(Debug, Deserialize, Fields)]
pub struct ResponseHeaders {
    /// Whether the age of the response is told.
    #[field(boolean().default(true))]
    pub age: Option<bool>,
    /// Whether it is told if the response was kept.
    #[field(boolean().default(true))]
    #[serde(rename = "X-Cache-Status")]
    pub x_cache_status: Option<bool>,
    /// Whether the key is told under which the response is kept.
    #[field(boolean().default(true))]
    #[serde(rename = "X-Cache-Key")]
    pub x_cache_key: Option<bool>,
}
