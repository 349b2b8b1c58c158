//! The fields of a JSON object, as both transformers change them.

use serde_json::{Map, Number, Value};

/// To Kong false is as good as not there.
pub fn is_missing(fields: &Map<String, Value>, name: &str) -> bool {
    matches!(fields.get(name), None | Some(Value::Bool(false)))
}

/// Numbers as Lua has and writes them: doubles, with fourteen digits.
pub fn as_lua_has_them(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.values_mut().for_each(round);
    fields
}

fn round(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let small = number.as_i64().is_some_and(|number| number.unsigned_abs() < 100_000_000_000_000);
            if !small
                && let Some(double) = number.as_f64()
                && let Some(rounded) = format!("{double:.13e}").parse().ok().and_then(Number::from_f64)
            {
                *number = rounded;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Text becomes a list with the value behind it, a list gets longer, anything else makes way for a list of its own.
pub fn append(fields: &mut Map<String, Value>, name: &str, value: Value) {
    match fields.get_mut(name) {
        Some(Value::Array(list)) => list.push(value),
        Some(text @ Value::String(_)) => *text = Value::Array(vec![text.take(), value]),
        // An empty object is an empty table to Lua, and so becomes a list.
        Some(Value::Object(inner)) if inner.is_empty() => _ = fields.insert(name.to_owned(), Value::Array(vec![value])),
        Some(Value::Object(inner)) => _ = inner.insert("1".to_owned(), value),
        _ => _ = fields.insert(name.to_owned(), Value::Array(vec![value])),
    }
}
