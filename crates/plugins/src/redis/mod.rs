//! Redis, for all plugins that keep something there.
//!
//! - this file: the record that says where it is, and the older spellings of what is in it
//! - [`link`]: the connection to one server, shared by all instances with the same settings
//! - [`counts`]: counters that many nodes add to

pub mod counts;
pub mod link;

use portcullis_schema::{Check, Fields, Rule};
use serde::Deserialize;

/// Where Redis is and how it is spoken to.
#[derive(Debug, Deserialize, Fields)]
pub struct Redis {
    /// Host name or address.
    #[field(host())]
    pub host: Option<String>,
    /// The port at the host.
    #[field(port().default(6379))]
    pub port: Option<u16>,
    /// Milliseconds to wait for the server.
    #[field(timeout().default(2000))]
    pub timeout: Option<u64>,
    /// The user to log in as.
    #[field(string().referenceable())]
    pub username: Option<String>,
    /// The password to log in with.
    #[field(string().referenceable().encrypted().len_min(0))]
    pub password: Option<String>,
    /// The number of the database.
    #[field(integer().default(0))]
    pub database: Option<i64>,
    /// Whether the connection is TLS.
    #[field(boolean().default(false).shown("required", false))]
    pub ssl: Option<bool>,
    /// Whether the server's certificate is checked.
    #[field(boolean().default(false).shown("required", false))]
    pub ssl_verify: Option<bool>,
    /// The server name of the TLS handshake.
    #[field(sni().shown("required", false))]
    pub server_name: Option<String>,
}

/// With the policy `redis` a plugin has to know where Redis is.
pub fn checks() -> Vec<Check> {
    let needs = |then_field| Check::Conditional {
        if_field: "config.policy",
        if_match: vec![Rule::Eq("redis".into())],
        then_field,
        then_match: Vec::new(),
        then_required: true,
        then_error: None,
    };
    vec![needs("config.redis.host"), needs("config.redis.port"), needs("config.redis.timeout")]
}

/// The flat spellings of Redis settings from before there was a record of them, as shorthands of this plugin's `config`.
macro_rules! flat_spellings {
    ($plugin:literal) => {{
        use portcullis_schema::build::{boolean, integer, string};
        macro_rules! moved {
            ($name:literal, $new:literal, $field:expr) => {
                portcullis_schema::Shorthand::moved(
                    $name,
                    $field,
                    &["redis", $new],
                    concat!($plugin, ": config.", $name, " is deprecated, please use config.redis.", $new, " instead"),
                )
            };
        }
        vec![
            moved!("redis_host", "host", string()),
            moved!("redis_port", "port", integer()),
            moved!("redis_password", "password", string().len_min(0)),
            moved!("redis_username", "username", string()),
            moved!("redis_ssl", "ssl", boolean()),
            moved!("redis_ssl_verify", "ssl_verify", boolean()),
            moved!("redis_server_name", "server_name", string()),
            moved!("redis_timeout", "timeout", integer()),
            moved!("redis_database", "database", integer()),
        ]
    }};
}

pub(crate) use flat_spellings;
