//! The fields of a JSON object, as both transformers change them.

use serde_json::{Map, Value};

/// To Kong false is as good as not there.
pub fn is_missing(fields: &Map<String, Value>, name: &str) -> bool {
    matches!(fields.get(name), None | Some(Value::Bool(false)))
}

/// Text becomes a list with the value behind it, a list gets longer, anything else makes way for a list of its own.
pub fn append(fields: &mut Map<String, Value>, name: &str, value: Value) {
    match fields.get_mut(name) {
        Some(Value::Array(list)) => list.push(value),
        Some(text @ Value::String(_)) => *text = Value::Array(vec![text.take(), value]),
        Some(Value::Object(inner)) => _ = inner.insert("1".to_owned(), value),
        _ => _ = fields.insert(name.to_owned(), Value::Array(vec![value])),
    }
}
