//! How traces go on from request to request: the settings that the tracing plugins share.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The formats that requests are searched for, in this order; without it all.
    #[field(array(string().one_of(["gcp", "jaeger", "aws", "w3c", "ot", "datadog", "b3"])))]
    pub extract: Option<Vec<String>>,
    /// Headers that do not go on to the upstream.
    #[field(array(string()))]
    pub clear: Option<Vec<String>>,
    /// The formats that upstreams get; `preserve` is the one that was found.
    #[field(array(string().one_of(["preserve", "gcp", "b3-single", "jaeger", "aws", "w3c", "ot", "datadog", "b3"])))]
    pub inject: Option<Vec<String>>,
    /// The format where none was found.
    #[field(string().required().one_of(["gcp", "b3-single", "jaeger", "aws", "w3c", "ot", "datadog", "b3"]))]
    pub default_format: String,
}
