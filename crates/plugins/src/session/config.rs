//! What users set.

use std::sync::LazyLock;

use portcullis_schema::{Fields, random_text};
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The secret that cookies are encrypted with.
    #[field(string().shown("required", false).default(random_secret()).referenceable().encrypted())]
    pub secret: Option<String>,
    /// Where sessions are kept: in the cookie, or in the database.
    #[field(string().one_of(["cookie", "kong"]).default("cookie"))]
    pub storage: Option<String>,
    /// Which application a session is for.
    #[field(string().default("default"))]
    pub audience: Option<String>,
    /// Seconds after which a session nobody uses ends.
    #[field(number().default(900))]
    pub idling_timeout: Option<f64>,
    /// Seconds after which a session has to be renewed.
    #[field(number().default(3600))]
    pub rolling_timeout: Option<f64>,
    /// Seconds after which a session ends, renewed or not.
    #[field(number().default(86400))]
    pub absolute_timeout: Option<f64>,
    /// Seconds for which a renewed session can still be used under its old cookie.
    #[field(number().default(10))]
    pub stale_ttl: Option<f64>,
    /// The name of the cookie.
    #[field(string().default("session"))]
    pub cookie_name: Option<String>,
    /// The path the cookie is sent for.
    #[field(string().default("/"))]
    pub cookie_path: Option<String>,
    /// The domain the cookie is sent for.
    #[field(string())]
    pub cookie_domain: Option<String>,
    /// Whether the cookie goes with requests from other sites.
    #[field(string().default("Strict").one_of(["Strict", "Lax", "None", "Default"]))]
    pub cookie_same_site: Option<String>,
    /// Whether scripts cannot read the cookie.
    #[field(boolean().default(true))]
    pub cookie_http_only: Option<bool>,
    /// Whether the cookie is sent over HTTPS only.
    #[field(boolean().default(true))]
    pub cookie_secure: Option<bool>,
    /// Whether sessions outlive the browser.
    #[field(boolean().default(false))]
    pub remember: Option<bool>,
    /// The name of the cookie of sessions that outlive the browser.
    #[field(string().default("remember"))]
    pub remember_cookie_name: Option<String>,
    /// Seconds after which such a session has to be renewed.
    #[field(number().default(604800))]
    pub remember_rolling_timeout: Option<f64>,
    /// Seconds after which such a session ends, renewed or not.
    #[field(number().default(2592000))]
    pub remember_absolute_timeout: Option<f64>,
    /// What of the session clients are told in headers.
    #[field(set(string().one_of(["id", "audience", "subject", "timeout", "idling-timeout", "rolling-timeout", "absolute-timeout"])))]
    pub response_headers: Option<Vec<String>>,
    /// What of the session the upstream is told in headers.
    #[field(set(string().one_of(["id", "audience", "subject", "timeout", "idling-timeout", "rolling-timeout", "absolute-timeout"])))]
    pub request_headers: Option<Vec<String>>,
    /// Whether the body is looked at for the wish to log out.
    #[field(boolean().default(false))]
    pub read_body_for_logout: Option<bool>,
    /// The methods of requests that may log out.
    #[field(set(string().one_of(["GET", "POST", "DELETE"])).default(["POST", "DELETE"]))]
    pub logout_methods: Option<Vec<String>>,
    /// The query argument that logs out.
    #[field(string().default("session_logout"))]
    pub logout_query_arg: Option<String>,
    /// The field of the body that logs out.
    #[field(string().default("session_logout"))]
    pub logout_post_arg: Option<String>,
}

/// The secret of instances that were given none: made up when the gateway starts, so that nobody can know it.
fn random_secret() -> &'static str {
    static SECRET: LazyLock<String> = LazyLock::new(|| format!("{}{}", random_text(), &random_text()[..12]));
    &SECRET
}
