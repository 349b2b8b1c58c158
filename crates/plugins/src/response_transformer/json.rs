//! Changes to the top level of a JSON object.

use serde_json::{Map, Number, Value};

use super::config::{Config, JsonType};
use super::pairs;
use crate::json_fields::{append, as_lua_has_them, is_missing};

/// What is done to a JSON body.
pub struct Changes {
    remove: Vec<String>,
    rename: Vec<(String, String)>,
    replace: Vec<(String, Option<Value>)>,
    add: Vec<(String, Option<Value>)>,
    append: Vec<(String, Option<Value>)>,
}

impl Changes {
    /// None where bodies are left alone.
    pub fn new(config: &Config) -> Option<Self> {
        let changes = Self {
            remove: config.remove.json.clone(),
            rename: pairs(&config.rename.json),
            replace: typed(&config.replace.json, &config.replace.json_types),
            add: typed(&config.add.json, &config.add.json_types),
            append: typed(&config.append.json, &config.append.json_types),
        };
        let idle = changes.remove.is_empty() && changes.rename.is_empty() && changes.replace.is_empty();
        (!idle || !changes.add.is_empty() || !changes.append.is_empty()).then_some(changes)
    }

    /// The body as it goes out; none if it is no JSON object.
    pub fn applied(&self, body: &[u8]) -> Option<Vec<u8>> {
        let Value::Object(mut fields) = serde_json::from_slice(body).ok()? else { return None };
        for name in &self.remove {
            fields.remove(name);
        }
        for (old, new) in &self.rename {
            // In this order, as in Kong: a field with the same name twice is lost.
            if let Some(value) = fields.get(old).cloned() {
                fields.insert(new.clone(), value);
                fields.remove(old);
            }
        }
        for (name, value) in &self.replace {
            if !is_missing(&fields, name) {
                put(&mut fields, name, value.clone());
            }
        }
        for (name, value) in &self.add {
            if is_missing(&fields, name) {
                put(&mut fields, name, value.clone());
            }
        }
        for (name, value) in &self.append {
            if let Some(value) = value.clone() {
                append(&mut fields, name, value);
            }
        }
        if fields.values().any(|value| *value == unwritable()) {
            return None;
        }
        serde_json::to_vec(&as_lua_has_them(fields)).ok()
    }
}

/// A value that could not be given its type changes nothing.
fn put(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value);
    }
}

/// Each `name:value` with the value in the type at the same place.
fn typed(list: &[String], types: &[JsonType]) -> Vec<(String, Option<Value>)> {
    let split = list.iter().enumerate().filter_map(|(at, item)| Some((at, item.split_once(':')?)));
    // Nothing behind the colon stands for the text `null`, as in Kong.
    let text = |value: &str| if value.is_empty() { "null".to_owned() } else { value.to_owned() };
    split.map(|(at, (name, value))| (name.to_owned(), cast(&text(value), types.get(at).copied()))).collect()
}

/// Stands for a number that JSON cannot write: Kong leaves the body as it came then.
fn unwritable() -> Value {
    Value::String("\0not a finite number".to_owned())
}

fn cast(text: &str, kind: Option<JsonType>) -> Option<Value> {
    match kind {
        None | Some(JsonType::String) => Some(text.into()),
        Some(JsonType::Boolean) => Some((text == "true").into()),
        Some(JsonType::Number) => {
            let whole = text.trim().parse::<i64>().ok().map(Number::from);
            if let Some(whole) = whole {
                return Some(Value::Number(whole));
            }
            let number: f64 = text.trim().parse().ok()?;
            Some(Number::from_f64(number).map_or_else(unwritable, Value::Number))
        }
    }
}
