//! session: keeps clients that authenticated once known by a cookie.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Protocols, Result, Scopes};
use portcullis_schema::{Fields, Record, Schema, Shorthand, build::HTTP_PROTOCOLS};
use serde_json::Value;

use config::Config;

/// A session kept in the database.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows")]
struct Row {
    /// The row's id.
    #[field(id())]
    id: uuid::Uuid,
    /// The name the cookie knows it by.
    #[field(string().unique().required())]
    session_id: String,
    /// When it ends, in seconds since the epoch.
    #[field(integer())]
    expires: Option<i64>,
    /// What is in it, encrypted.
    #[field(string())]
    data: Option<String>,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
}

fn put(config: &mut Record, name: &str, value: Value) -> std::result::Result<(), String> {
    config.insert(name.to_owned(), value);
    Ok(())
}

/// See the module's description.
pub struct Session;

impl Plugin for Session {
    const NAME: &'static str = "session";
    const PRIORITY: i32 = 1900;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER);
    const SCOPES: Scopes = Scopes { consumer: false, protocols: Protocols::AnyDefault(&HTTP_PROTOCOLS), ..Scopes::ANY };
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn shorthands() -> Vec<Shorthand> {
        use portcullis_schema::build::{boolean, number, string};
        let older = |name, field, expand| Shorthand { name, field, expand };
        vec![
            older("cookie_lifetime", number(), |value, config| put(config, "rolling_timeout", value.clone())),
            older("cookie_idletime", number(), |value, config| put(config, "idling_timeout", value.clone())),
            older("cookie_renew", number(), |_, _| Ok(())),
            older("cookie_discard", number(), |value, config| put(config, "stale_ttl", value.clone())),
            older("cookie_samesite", string(), |value, config| {
                let value = if *value == "off" { "Lax".into() } else { value.clone() };
                put(config, "cookie_same_site", value)
            }),
            older("cookie_httponly", boolean(), |value, config| put(config, "cookie_http_only", value.clone())),
            older("cookie_persistent", boolean(), |value, config| put(config, "remember", value.clone())),
        ]
    }

    fn entities() -> Vec<Schema> {
        vec![Schema { endpoint_key: Some("session_id"), cache_key: &["session_id"], ttl: true, ..Schema::new("sessions", Row::fields()) }]
    }
}

impl Handler for Session {}

#[cfg(test)]
mod tests;
