//! proxy-cache: answers from memory what the upstream has answered before.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Protocols, Result, Scopes};
use portcullis_schema::{Check, Record, build::HTTP_PROTOCOLS};
use serde_json::Value;

use crate::stores::STORES;
use config::Config;

fn check_store(record: &Record) -> std::result::Result<(), Vec<(String, Value)>> {
    let Some(config) = record.get("config") else { return Ok(()) };
    let name = config.pointer("/memory/dictionary_name").and_then(Value::as_str).unwrap_or_default();
    if config.get("strategy").and_then(Value::as_str) != Some("memory") || STORES.contains(&name) {
        return Ok(());
    }
    Err(vec![("@entity".to_owned(), format!("missing shared dict '{name}'").into())])
}

/// See the module's description.
pub struct ProxyCache;

impl Plugin for ProxyCache {
    const NAME: &'static str = "proxy-cache";
    const PRIORITY: i32 = 100;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes { protocols: Protocols::AnyDefault(&HTTP_PROTOCOLS), ..Scopes::ANY };
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn checks() -> Vec<Check> {
        vec![Check::Custom { fields: vec!["config"], check: check_store }]
    }
}

impl Handler for ProxyCache {}

#[cfg(test)]
mod tests;
