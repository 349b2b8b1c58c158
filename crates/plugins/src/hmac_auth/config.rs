//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

use super::signing::Algorithm;

/// The default of lists that are there even when nothing was given.
const NONE: [&str; 0] = [];

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Whether the credentials are taken out of the request before it goes to the upstream.
    #[field(boolean().required().default(false))]
    pub hide_credentials: bool,
    /// Seconds by which the clocks of client and gateway may differ.
    #[field(number().default(300).gt(0.0))]
    pub clock_skew: Option<f64>,
    /// Id or username of the consumer that requests without valid credentials pass as. Without one they are refused.
    #[field(string())]
    pub anonymous: Option<String>,
    /// Whether the `Digest` header is checked against the body.
    #[field(boolean().required().default(false))]
    pub validate_request_body: bool,
    /// Headers that a signature must cover.
    #[field(array(string()).default(NONE))]
    pub enforce_headers: Option<Vec<String>>,
    /// The algorithms a signature may use.
    #[field(array(string().one_of(["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"])).default(["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"]))]
    pub algorithms: Option<Vec<Algorithm>>,
    /// The realm named in the challenge of a refusal.
    #[field(string().shown("required", false))]
    pub realm: Option<String>,
}
