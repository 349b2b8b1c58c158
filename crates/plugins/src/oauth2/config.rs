//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The scopes a client may ask for.
    #[field(array(string()))]
    pub scopes: Option<Vec<String>>,
    /// Whether a client has to ask for a scope.
    #[field(boolean().default(false).required())]
    pub mandatory_scope: bool,
    /// What proves to the token endpoints that a user has agreed; made up when none is given.
    #[field(string().required().auto().unique().encrypted())]
    pub provision_key: String,
    /// Seconds for which a token is valid; 0 for ever.
    #[field(number().default(7200).required())]
    pub token_expiration: f64,
    /// Whether authorization codes are given out.
    #[field(boolean().default(false).required())]
    pub enable_authorization_code: bool,
    /// Whether tokens are given out at the authorization endpoint.
    #[field(boolean().default(false).required())]
    pub enable_implicit_grant: bool,
    /// Whether clients get tokens for themselves.
    #[field(boolean().default(false).required())]
    pub enable_client_credentials: bool,
    /// Whether clients get tokens for a user whose password was checked elsewhere.
    #[field(boolean().default(false).required())]
    pub enable_password_grant: bool,
    /// Whether the credentials are taken out of the request before it goes to the upstream.
    #[field(boolean().default(false).required())]
    pub hide_credentials: bool,
    /// Whether plain HTTP will do if a trusted proxy took in the request over HTTPS.
    #[field(boolean().default(false).required())]
    pub accept_http_if_already_terminated: bool,
    /// Id or username of the consumer that requests without valid credentials pass as. Without one they are refused.
    #[field(string())]
    pub anonymous: Option<String>,
    /// Whether tokens given out by another instance of the plugin are taken too.
    #[field(boolean().default(false).required())]
    pub global_credentials: bool,
    /// The header that carries the token.
    #[field(string().default("authorization"))]
    pub auth_header_name: Option<String>,
    /// Seconds for which a refresh token is valid; 0 for ever.
    #[field(ttl().required().default(1209600))]
    pub refresh_token_ttl: f64,
    /// Whether a refresh token stays the same when it is used.
    #[field(boolean().default(false).required())]
    pub reuse_refresh_token: bool,
    /// Who has to prove that a code was given to them: nobody, public clients, or every client.
    #[field(string().shown("required", false).one_of(["none", "lax", "strict"]).default("lax"))]
    pub pkce: Option<String>,
    /// The realm named in the challenge of a refusal.
    #[field(string().shown("required", false))]
    pub realm: Option<String>,
}
