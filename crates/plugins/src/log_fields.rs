//! What the plugins that write log records have in common.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use portcullis_plugin::script::{self, Field as Code};
use portcullis_plugin::{Exchange, Result};
use portcullis_schema::{Field, build};
use serde_json::Value;

use crate::serialize;

/// Lua code by the name of the field of the record that its result becomes.
pub type LuaFields = Option<BTreeMap<String, String>>;

pub fn custom_fields_by_lua() -> Field {
    build::map(build::string().len_min(1), build::string().len_min(1).custom(parsed))
}

/// Complains about code that cannot be parsed. A program without an engine takes any.
fn parsed(code: &Value) -> std::result::Result<(), String> {
    let (Some(engine), Some(code)) = (script::engine(), code.as_str()) else { return Ok(()) };
    engine.check(code).map_err(|problem| format!("Error parsing function: {problem}"))
}

/// The fields that an instance adds to its records, by dotted path.
#[derive(Default)]
pub struct CustomFields(Vec<(String, Arc<dyn Code>)>);

impl fmt::Debug for CustomFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(path, _)| path)).finish()
    }
}

impl CustomFields {
    /// Errors when there are such fields and nothing to run them, or when the code cannot be parsed.
    pub fn new(fields: &LuaFields) -> Result<Self> {
        let Some(fields) = fields.as_ref().filter(|fields| !fields.is_empty()) else { return Ok(Self::default()) };
        let Some(engine) = script::engine() else { return Err("there is no Lua in this program".into()) };
        let made = fields.iter().map(|(path, code)| Ok((path.clone(), engine.field(code)?)));
        Ok(Self(made.collect::<Result<_>>()?))
    }

    /// An exchange's record as JSON.
    pub fn entry(&self, exchange: &Exchange<'_>) -> Vec<u8> {
        if self.0.is_empty() {
            return serialize::text(exchange);
        }
        let computed = self.0.iter().filter_map(|(path, code)| match code.value(exchange) {
            Ok(value) => Some((path.as_str(), value.unwrap_or_default())),
            Err(cause) => {
                tracing::error!(field = path, %cause, "a field of a log record could not be computed");
                None
            }
        });
        let computed: Vec<_> = computed.collect();
        serialize::text_with(exchange, &computed)
    }
}
