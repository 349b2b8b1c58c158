//! From records to a document: flat lists, references as ids, nothing that is null.

use std::sync::Arc;

use portcullis_schema::{Kind, Record, Schema};
use serde_json::{Map, Value, json};

use super::yaml;

/// The document that `records` make. Entities that Kong leaves out of exports are left out.
pub fn document(records: &[(Arc<Schema>, Vec<Record>)]) -> Map<String, Value> {
    let mut document = Map::from_iter([("_format_version".to_owned(), json!("3.0")), ("_transform".to_owned(), json!(false))]);
    for (schema, rows) in records.iter().filter(|(schema, rows)| schema.exported && !rows.is_empty()) {
        let rows = rows.iter().map(|row| Value::Object(entry(schema, row))).collect();
        document.insert(schema.name.to_string(), Value::Array(rows));
    }
    document
}

/// The same as YAML.
pub fn text(records: &[(Arc<Schema>, Vec<Record>)]) -> String {
    yaml::write(&document(records))
}

fn entry(schema: &Schema, row: &Record) -> Record {
    let field = |(name, value): (&String, &Value)| {
        let field = schema.field(name)?;
        if field.transient {
            return None;
        }
        match &field.kind {
            Kind::Foreign { .. } => value.get("id").cloned(),
            _ => without_nulls(value),
        }
        .map(|value| (name.clone(), value))
    };
    row.iter().filter_map(field).collect()
}

/// A field that is null has its default or nothing when it is read back; elements of lists keep their place.
fn without_nulls(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(fields) => {
            Some(Value::Object(fields.iter().filter_map(|(name, value)| Some((name.clone(), without_nulls(value)?))).collect()))
        }
        other => Some(other.clone()),
    }
}
