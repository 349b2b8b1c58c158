//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The file that describes the gRPC services; needed for JSON only.
    #[field(string().shown("required", false))]
    pub proto: Option<String>,
    /// Whether the gRPC method is told by the path without the part the route strips.
    #[field(boolean().shown("required", false))]
    pub pass_stripped_path: Option<bool>,
    /// The value of `Access-Control-Allow-Origin` on every answer.
    #[field(string().shown("required", false).default("*"))]
    pub allow_origin_header: Option<String>,
}
