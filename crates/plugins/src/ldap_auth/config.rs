//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Host name or address of the LDAP server.
    #[field(host().required())]
    pub ldap_host: String,
    /// The port at the host.
    #[field(port().required().default(389))]
    pub ldap_port: u16,
    /// Whether the connection is TLS from its first byte on.
    #[field(boolean().required().default(false))]
    pub ldaps: bool,
    /// Whether the connection is turned to TLS once it stands.
    #[field(boolean().required().default(false))]
    pub start_tls: bool,
    /// Whether the server's certificate is checked.
    #[field(boolean().required().default(false))]
    pub verify_ldap_host: bool,
    /// The distinguished name that users are looked for under.
    #[field(string().required())]
    pub base_dn: String,
    /// The attribute that holds the name of a user.
    #[field(string().required())]
    pub attribute: String,
    /// Seconds for which the outcome of a login is remembered.
    #[field(number().required().default(60))]
    pub cache_ttl: f64,
    /// Whether the credentials are taken out of the request before it goes to the upstream.
    #[field(boolean().required().default(false))]
    pub hide_credentials: bool,
    /// Milliseconds to wait for the server.
    #[field(number().default(10000))]
    pub timeout: Option<f64>,
    /// Milliseconds an idle connection is kept.
    #[field(number().default(60000))]
    pub keepalive: Option<f64>,
    /// Id or username of the consumer that requests without valid credentials pass as. Without one they are refused.
    #[field(string())]
    pub anonymous: Option<String>,
    /// The scheme that clients name in their `Authorization` header.
    #[field(string().default("ldap"))]
    pub header_type: Option<String>,
    /// The realm named in the challenge of a refusal.
    #[field(string().shown("required", false))]
    pub realm: Option<String>,
}
