//! References to other rows by another unique field than their id: `{"name": "x"}` becomes `{"id": …}`.

use std::sync::Arc;

use portcullis_schema::{ApiError, Record, Schema, Violations};
use portcullis_store::Key;
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::rows::{Admin, record};

/// Resolves every reference of `input`. An id wins over other fields beside it. Errors with code 13, all complaints at once;
/// what cannot be a reference at all is left to the schema's checks.
pub async fn resolve(admin: &Admin, schema: &Schema, input: &mut Record) -> Result<(), Refusal> {
    let mut unresolved = Violations::default();
    for (field, entity, _) in schema.foreigns() {
        let (Some(Value::Object(reference)), Some(parent)) = (input.get_mut(field), admin.catalog.entity(entity)) else { continue };
        let names = parent.fields.iter().filter(|(_, field)| field.unique).map(|(name, _)| name.as_ref());
        let given: Vec<(String, Value)> =
            names.filter_map(|name| reference.remove_entry(name)).filter(|(_, value)| !value.is_null()).collect();
        if reference.contains_key("id") {
            continue;
        }
        for (name, value) in given {
            match found(admin, parent, &name, &value).await? {
                Some(id) => {
                    reference.insert("id".to_owned(), id);
                    break;
                }
                None => {
                    let complaint = ApiError::unresolved(&record(json!({ &name: value })), entity);
                    unresolved.add(&format!("{field}.{name}"), complaint.into());
                }
            }
        }
    }
    if unresolved.is_empty() { Ok(()) } else { Err(ApiError::foreign_keys_unresolved(unresolved).into()) }
}

async fn found(admin: &Admin, parent: &Arc<Schema>, name: &str, value: &Value) -> Result<Option<Value>, Refusal> {
    let row = admin.store.get(parent, Key::Unique(name.to_owned(), value.clone())).await?;
    Ok(row.and_then(|mut row| row.remove("id")))
}
