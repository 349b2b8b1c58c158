//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Id or username of the consumer that requests without valid credentials pass as. Without one they are refused.
    #[field(string())]
    pub anonymous: Option<String>,
    /// Whether the credentials are taken out of the request before it goes to the upstream.
    #[field(boolean().required().default(false))]
    pub hide_credentials: bool,
    /// The realm named in the challenge of a refusal.
    #[field(string().required().default("service"))]
    pub realm: String,
}
