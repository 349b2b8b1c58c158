//! What the plugins that write log records have in common.

use std::collections::BTreeMap;

use portcullis_plugin::Result;
use portcullis_schema::{Field, build};

/// Lua code by the name of the field of the record that its result becomes.
pub type LuaFields = Option<BTreeMap<String, String>>;

pub fn custom_fields_by_lua() -> Field {
    build::map(build::string().len_min(1), build::string().len_min(1))
}

/// Errors when there are such fields: nothing runs them yet.
pub fn refuse_lua(fields: &LuaFields) -> Result<()> {
    if fields.as_ref().is_some_and(|fields| !fields.is_empty()) {
        return Err("`custom_fields_by_lua` is not supported yet".into());
    }
    Ok(())
}
