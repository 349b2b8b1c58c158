//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The file that describes the gRPC services and how they are reached over HTTP.
    #[field(string().shown("required", false))]
    pub proto: Option<String>,
}
