//! oauth2: gives out OAuth 2.0 tokens and lets in requests that carry one.

mod config;
mod entities;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Check, Record, Rule, Schema};
use serde_json::Value;

use config::Config;

const GRANTS: [&str; 4] = ["enable_authorization_code", "enable_implicit_grant", "enable_client_credentials", "enable_password_grant"];

/// An instance that gives out no tokens lets nobody in.
fn check_grants(record: &Record) -> std::result::Result<(), Vec<(String, Value)>> {
    let Some(config) = record.get("config") else { return Ok(()) };
    if GRANTS.iter().any(|grant| config.get(grant) == Some(&Value::Bool(true))) {
        return Ok(());
    }
    let complaint = format!("at least one of these fields must be true: {}", GRANTS.join(", "));
    Err(vec![("config".to_owned(), complaint.into())])
}

/// See the module's description.
pub struct Oauth2;

impl Plugin for Oauth2 {
    const NAME: &'static str = "oauth2";
    const PRIORITY: i32 = 1400;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn config_checks() -> Vec<Check> {
        vec![Check::Conditional {
            if_field: "mandatory_scope",
            if_match: vec![Rule::Eq(true.into())],
            then_field: "scopes",
            then_match: Vec::new(),
            then_required: true,
            then_error: None,
        }]
    }

    fn checks() -> Vec<Check> {
        vec![Check::Hidden { fields: vec!["config"], check: check_grants }]
    }

    fn entities() -> Vec<Schema> {
        entities::all()
    }
}

impl Handler for Oauth2 {}

#[cfg(test)]
mod tests;
