//! Gives values of form bodies the types their fields ask for. JSON bodies need none of this.

use serde_json::{Map, Number, Value};

use crate::{Catalog, Field, Kind, Record, Schema, Shorthand};

impl Catalog {
    /// Types a form-encoded body by schema: numbers, booleans, single values that become lists, empty values that become
    /// null. `existing` picks the plugin of a PATCH that doesn't name it. What doesn't fit stays text for the checks.
    pub fn infer(&self, schema: &Schema, input: Record, existing: Option<&Record>) -> Record {
        let fields = self.fields_for(schema, &input, existing);
        let find = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, field)| field);
        infer_record(find, &schema.shorthands, input)
    }
}

fn infer_record<'a>(find: impl Fn(&str) -> Option<&'a Field>, shorthands: &[Shorthand], input: Record) -> Record {
    let typed = input.into_iter().map(|(name, value)| {
        let field = find(&name).or_else(|| shorthands.iter().find(|s| s.name == name).map(|s| &s.field));
        let value = field.map_or(value.clone(), |field| infer(field, value));
        (name, value)
    });
    typed.collect::<Map<String, Value>>()
}

/// Types one value by its field.
pub fn infer(field: &Field, value: Value) -> Value {
    if value.as_str() == Some("") {
        return Value::Null;
    }
    match (&field.kind, value) {
        (Kind::Integer | Kind::Number, Value::String(text)) => number(&text).map_or(Value::String(text), Value::Number),
        (Kind::Boolean, Value::String(text)) => match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::String(text),
        },
        (Kind::Array(element) | Kind::Set(element), Value::Array(list)) => {
            Value::Array(list.into_iter().map(|value| infer(element, value)).collect())
        }
        (Kind::Array(element) | Kind::Set(element), value) if !value.is_object() && !value.is_null() => {
            Value::Array(vec![infer(element, value)])
        }
        (Kind::Map { values, .. }, Value::Object(entries)) => {
            Value::Object(entries.into_iter().map(|(key, value)| (key, infer(values, value))).collect())
        }
        (Kind::Record(record), Value::Object(fields)) => {
            let find = |name: &str| record.fields.iter().find(|(known, _)| known == name).map(|(_, field)| field);
            Value::Object(infer_record(find, &record.shorthands, fields))
        }
        (_, value) => value,
    }
}

/// A number as Lua reads one: spaces around it don't matter, and it may be hexadecimal.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    if let Some(whole) = hexadecimal.and_then(|digits| i64::from_str_radix(digits, 16).ok()) {
        return Some(whole.into());
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse::<f64>().ok().filter(|_| plain).and_then(Number::from_f64)
}
