//! What the plugins that write log records have in common.

use std::collections::BTreeMap;

use portcullis_plugin::{Exchange, Result};
use portcullis_schema::{Field, build};

use crate::serialize;

/// Lua code by the name of the field of the record that its result becomes.
pub type LuaFields = Option<BTreeMap<String, String>>;

pub fn custom_fields_by_lua() -> Field {
    build::map(build::string().len_min(1), build::string().len_min(1))
}

/// The fields that an instance adds to its records.
#[derive(Debug)]
pub struct CustomFields;

impl CustomFields {
    /// Errors when there are such fields: nothing runs them yet.
    pub fn new(fields: &LuaFields) -> Result<Self> {
        if fields.as_ref().is_some_and(|fields| !fields.is_empty()) {
            return Err("`custom_fields_by_lua` is not supported yet".into());
        }
        Ok(Self)
    }

    /// An exchange's record as JSON; none (and a line in the log) when it cannot be written.
    pub fn entry(&self, exchange: &Exchange<'_>) -> Option<Vec<u8>> {
        match serde_json::to_vec(&serialize::record(exchange)) {
            Ok(entry) => Some(entry),
            Err(error) => {
                tracing::error!(%error, "a log record could not be written");
                None
            }
        }
    }
}
