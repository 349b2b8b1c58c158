//! References to other rows by another unique field than their id: `{"name": "x"}` becomes `{"id": …}`.

use std::sync::Arc;

use portcullis_schema::{ApiError, Record, Schema, Violations};
use portcullis_store::Key;
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::rows::{Admin, record, uuid};

/// Resolves every reference of `input`. An id wins over other fields beside it, if it is one. Errors with code 13, all complaints at once;
/// what cannot be a reference at all is left to the schema's checks.
pub async fn resolve(admin: &Admin, schema: &Schema, input: &mut Record) -> Result<(), Refusal> {
    let mut unresolved = Violations::default();
    for (field_name, entity, _) in schema.foreigns() {
        let (Some(Value::Object(reference)), Some(parent)) = (input.get_mut(field_name), admin.catalog.entity(entity)) else { continue };
        if reference.get("id").and_then(Value::as_str).and_then(uuid).is_some() {
            continue;
        }
        let unique = parent.fields.iter().filter(|(_, field)| field.unique || field.unique_across_ws);
        for (name, field) in unique {
            let Some(value) = reference.get(name.as_ref()).filter(|value| !value.is_null() && field.check(value).is_ok()) else { continue };
            match found(admin, parent, name, value).await? {
                Some(id) => {
                    *reference = Record::from_iter([("id".to_owned(), id)]);
                    break;
                }
                None => {
                    let complaint = ApiError::unresolved(&record(json!({ name.as_ref(): value })), entity);
                    unresolved.add(&format!("{field_name}.{name}"), complaint.into());
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
