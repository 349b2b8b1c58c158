//! What the plugins that write log records have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_plugin::script::{self, Field as Script};
use portcullis_plugin::{Exchange, Result};
use portcullis_schema::{Field, build};
use serde_json::Value;

use crate::serialize;

/// Lua code by the name of the field of the record that its result becomes.
pub type LuaFields = Option<BTreeMap<String, String>>;

pub fn custom_fields_by_lua() -> Field {
    build::map(build::string().len_min(1), build::string().len_min(1).custom(check_code))
}

fn check_code(code: &Value) -> std::result::Result<(), String> {
    match (script::engine(), code.as_str()) {
        (Some(engine), Some(code)) => engine.check(code),
        _ => Ok(()),
    }
}

/// The fields that an instance adds to its records: dotted paths, and what computes their values.
pub struct CustomFields(Vec<(String, Arc<dyn Script>)>);

impl CustomFields {
    /// Errors when there are such fields and the node runs no code.
    pub fn new(fields: &LuaFields) -> Result<Self> {
        let fields = fields.iter().flatten().map(|(path, code)| {
            let engine = script::engine().ok_or("`custom_fields_by_lua` is set, but this node runs no Lua")?;
            Ok((path.clone(), engine.field(code)?))
        });
        fields.collect::<Result<_>>().map(Self)
    }

    /// An exchange's record as JSON; none (and a line in the log) when it cannot be written.
    pub fn entry(&self, exchange: &Exchange<'_>) -> Option<Vec<u8>> {
        let mut record = serialize::record(exchange);
        for (path, field) in &self.0 {
            match field.value(exchange) {
                Ok(value) => serialize::set(&mut record, path, value.unwrap_or_default()),
                Err(error) => tracing::error!(%error, field = path, "a field of a log record could not be computed"),
            }
        }
        match serde_json::to_vec(&record) {
            Ok(entry) => Some(entry),
            Err(error) => {
                tracing::error!(%error, "a log record could not be written");
                None
            }
        }
    }
}
