//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The status of the answer.
    #[field(integer().required().between(100, 599).default(301))]
    pub status_code: i64,
    /// Where clients are sent: a URL with scheme and host.
    #[field(url().required())]
    pub location: String,
    /// Whether path and query of the request take the place of those of the location.
    #[field(boolean().default(false))]
    pub keep_incoming_path: Option<bool>,
}
