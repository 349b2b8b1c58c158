//! acme: gets certificates from an authority that speaks ACME, such as Let's Encrypt, and renews them.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Check, Fields, Rule, Schema};
use serde_json::json;

use config::Config;

/// A certificate, a key or a challenge kept in the database.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows")]
struct Stored {
    /// The row's id.
    #[field(id())]
    id: uuid::Uuid,
    /// What it is found by.
    #[field(string().required().unique().auto())]
    key: String,
    /// What is kept.
    #[field(string().required().auto())]
    value: String,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
}

/// See the module's description.
pub struct Acme;

impl Plugin for Acme {
    const NAME: &'static str = "acme";
    const PRIORITY: i32 = 1705;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes { consumer: false, route: false, service: false, ..Scopes::HTTP };
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn checks() -> Vec<Check> {
        let needs = |then_field| Check::Conditional {
            if_field: "config.storage",
            if_match: vec![Rule::Eq("redis".into())],
            then_field,
            then_match: Vec::new(),
            then_required: true,
            then_error: None,
        };
        vec![
            Check::Conditional {
                if_field: "config.api_uri",
                if_match: vec![Rule::OneOf(vec![
                    "https://acme-v02.api.letsencrypt.org".into(),
                    "https://acme-staging-v02.api.letsencrypt.org".into(),
                ])],
                then_field: "config.tos_accepted",
                then_match: vec![Rule::Eq(true.into())],
                then_required: false,
                then_error: Some("terms of service must be accepted, see https://letsencrypt.org/repository/"),
            },
            needs("config.storage_config.redis.host"),
            needs("config.storage_config.redis.port"),
            // Whether a store fits how the node is run is not known to a schema.
            Check::Shown(json!({ "custom_entity_check": { "field_sources": ["config.storage"] } })),
        ]
    }

    fn entities() -> Vec<Schema> {
        vec![Schema { ttl: true, ..Schema::new("acme_storage", Stored::fields()) }]
    }
}

impl Handler for Acme {}

#[cfg(test)]
mod tests;
