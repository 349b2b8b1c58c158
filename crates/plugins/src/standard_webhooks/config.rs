//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The secret that webhooks are signed with.
    #[field(string().required().referenceable().encrypted())]
    pub secret_v1: String,
    /// Seconds after which a webhook is too old.
    #[field(integer().required().default(300).gt(-1.0))]
    pub tolerance_second: i64,
}
