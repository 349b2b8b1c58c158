//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// How much a request body may hold, in units of `size_unit`.
    #[field(integer().default(128))]
    pub allowed_payload_size: Option<i64>,
    /// What the size is counted in: units of 1048576, 1024 or 1 bytes.
    #[field(string().required().one_of(["megabytes", "kilobytes", "bytes"]).default("megabytes"))]
    pub size_unit: Unit,
    /// Whether requests that do not tell the length of their body are refused.
    #[field(boolean().required().default(false))]
    pub require_content_length: bool,
}

/// What sizes are counted in.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Megabytes,
    Kilobytes,
    Bytes,
}

impl Unit {
    pub fn bytes(self) -> i64 {
        match self {
            Unit::Megabytes => 1 << 20,
            Unit::Kilobytes => 1 << 10,
            Unit::Bytes => 1,
        }
    }
}
