//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

use super::token::Claim;

/// The default of lists that are there even when nothing was given.
const NONE: [&str; 0] = [];

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Query arguments that may carry the token.
    #[field(set(string()).default(["jwt"]))]
    pub uri_param_names: Option<Vec<String>>,
    /// Cookies that may carry the token.
    #[field(set(string()).default(NONE))]
    pub cookie_names: Option<Vec<String>>,
    /// The claim, or header of the token, that names the credential.
    #[field(string().default("iss"))]
    pub key_claim_name: Option<String>,
    /// Whether the secrets of credentials are kept in base64.
    #[field(boolean().required().default(false))]
    pub secret_is_base64: bool,
    /// The registered claims that are checked.
    #[field(set(string().one_of(["exp", "nbf"])))]
    pub claims_to_verify: Option<Vec<Claim>>,
    /// Id or username of the consumer that requests without valid credentials pass as. Without one they are refused.
    #[field(string())]
    pub anonymous: Option<String>,
    /// Whether OPTIONS requests need credentials too.
    #[field(boolean().required().default(true))]
    pub run_on_preflight: bool,
    /// Seconds from now within which a token must end; 0 sets no bound.
    #[field(number().default(0).between(0, 31536000))]
    pub maximum_expiration: Option<f64>,
    /// Headers that may carry the token.
    #[field(set(string()).default(["authorization"]))]
    pub header_names: Option<Vec<String>>,
    /// The realm named in the challenge of a refusal.
    #[field(string().shown("required", false))]
    pub realm: Option<String>,
}
