//! Completes a record: defaults, generated values, and the one form each kind is kept in.
//!
//! After this every field of the schema is present (null where nothing is set), nested required records too; only what is
//! required and was not given stays away, which checks tell from what was given as null.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Number, Value};
use uuid::Uuid;

use crate::validate::is_uuid;
use crate::{Field, Kind, Op, Record, Rule};

/// When a record is completed: what is done with it, and the time in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub op: Op,
    pub now: f64,
}

pub(crate) fn fill_record(fields: &[(Cow<'static, str>, Field)], record: &mut Record, moment: Moment) {
    for (name, field) in fields {
        match record.get_mut(name.as_ref()) {
            Some(value) => {
                let given = value.take();
                *value = fill_field(name, field, Some(given), moment);
            }
            None => match fill_field(name, field, None, moment) {
                Value::Null if field.required => {}
                value => _ = record.insert(name.to_string(), value),
            },
        }
    }
}

fn fill_field(name: &str, field: &Field, given: Option<Value>, moment: Moment) -> Value {
    let new = moment.op != Op::Update;
    // To Kong `false` is no record at all.
    let given = given.filter(|value| *value != Value::Bool(false) || !matches!(field.kind, Kind::Record(_)));
    if field.auto && field.rules.iter().any(|rule| matches!(rule, Rule::Timestamp)) {
        // What a client says about the last change is never kept; what it says about the first is.
        let kept = name == "created_at" && given.as_ref().is_some_and(|given| !new || !given.is_null());
        if !kept {
            return timestamp(&field.kind, moment.now);
        }
    }
    if field.auto && new && given.as_ref().is_none_or(Value::is_null) {
        let is_id = field.rules.iter().any(|rule| matches!(rule, Rule::Uuid));
        match given {
            _ if is_id => return Uuid::new_v4().to_string().into(),
            None => return random_text().into(),
            // Who gives null wants none.
            Some(_) => {}
        }
    }
    let required_record = field.required && matches!(field.kind, Kind::Record(_));
    let mut value = match given {
        Some(value) => value,
        None => match &field.default {
            Some(default) => default.clone(),
            None if required_record => Value::Object(Map::new()),
            None => Value::Null,
        },
    };
    fill_value(field, &mut value, moment);
    value
}

/// Completes what is inside a value and brings it into its kept form. Values of the wrong kind stay for the checks.
fn fill_value(field: &Field, value: &mut Value, moment: Moment) {
    match (&field.kind, &mut *value) {
        (Kind::Integer | Kind::Number, Value::Number(number)) => {
            if let Some(whole) = whole(number) {
                *number = whole;
            }
        }
        // An empty Lua table is both an empty list and an empty map.
        (Kind::Array(_) | Kind::Set(_), Value::Object(fields)) if fields.is_empty() => *value = Value::Array(Vec::new()),
        (Kind::Map { .. } | Kind::Record(_), Value::Array(list)) if list.is_empty() => {
            *value = Value::Object(Map::new());
            fill_value(field, value, moment);
        }
        (Kind::Array(element), Value::Array(list)) => list.iter_mut().for_each(|value| fill_value(element, value, moment)),
        (Kind::Set(element), Value::Array(list)) => {
            list.iter_mut().for_each(|value| fill_value(element, value, moment));
            if list.len() < 2 {
                return;
            }
            let mut seen = HashSet::with_capacity(list.len());
            // Kong tells records by their identity: two alike stay two.
            list.retain(|value| value.is_object() || value.is_array() || seen.insert(value.to_string()));
        }
        (Kind::Map { values, .. }, Value::Object(entries)) => {
            entries.values_mut().for_each(|value| fill_value(values, value, moment));
        }
        (Kind::Record(record), Value::Object(fields)) => fill_record(&record.fields, fields, moment),
        (Kind::Foreign { .. }, Value::Object(reference)) if reference.get("id").and_then(Value::as_str).is_some_and(is_uuid) => {
            reference.retain(|key, _| key == "id");
        }
        _ => {}
    }
}

/// A float without a fraction as the integer it is.
fn whole(number: &Number) -> Option<Number> {
    let float = number.as_f64().filter(|_| number.is_f64())?;
    (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then(|| Number::from(float as i64))
}

fn timestamp(kind: &Kind, now: f64) -> Value {
    match kind {
        Kind::Number => {
            let float = Number::from_f64((now * 1000.0).round() / 1000.0);
            float.map_or(Value::Null, |float| Value::Number(whole(&float).unwrap_or(float)))
        }
        _ => Value::from(now.floor() as i64),
    }
}

/// 32 random letters and digits: generated keys and secrets.
pub fn random_text() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(32);
    while text.len() < 32 {
        // Two bytes of a random UUID are partly fixed; of the others, what lies past a multiple of 62 would be biased.
        let bytes = Uuid::new_v4().into_bytes();
        let random = bytes.iter().enumerate().filter(|(at, byte)| *at != 6 && *at != 8 && **byte < 248);
        text.extend(random.map(|(_, byte)| char::from(ALPHABET[usize::from(byte % 62)])).take(32 - text.len()));
    }
    text
}
