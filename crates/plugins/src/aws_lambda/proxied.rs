//! The answer that a function describes: status, headers, body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_plugin::Answer;
use serde_json::{Map, Value};

/// Errors with what is wrong with the description.
pub fn answer(body: &[u8]) -> Result<Answer, String> {
    let fields: Map<String, Value> = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err("statusCode validation failed".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let status = match given("statusCode") {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    let status = status.filter(|status| (100.0..1000.0).contains(status)).ok_or("statusCode validation failed")? as u16;
    let headers = match given("headers") {
        None => None,
        Some(Value::Object(headers)) => Some(headers),
        // An empty list is an empty table in Lua.
        Some(Value::Array(list)) if list.is_empty() => None,
        Some(_) => return Err("headers must be a table".to_owned()),
    };
    let many = match given("multiValueHeaders") {
        None => None,
        Some(Value::Object(headers)) => Some(headers),
        Some(Value::Array(list)) if list.is_empty() => None,
        Some(_) => return Err("multiValueHeaders must be a table".to_owned()),
    };
    let encoded = match given("isBase64Encoded") {
        None => false,
        Some(Value::Bool(encoded)) => *encoded,
        Some(_) => return Err("isBase64Encoded must be a boolean".to_owned()),
    };
    let body = match given("body") {
        None => Vec::new(),
        Some(Value::String(text)) if encoded => STANDARD.decode(text).unwrap_or_else(|_| text.clone().into_bytes()),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(_) => return Err("body must be a string".to_owned()),
    };
    let mut answer = Answer::bytes(status, None, body);
    for (name, value) in headers.into_iter().flatten() {
        if many.is_none_or(|many| !many.keys().any(|known| known.eq_ignore_ascii_case(name))) {
            answer = put(answer, name, value);
        }
    }
    for (name, values) in many.into_iter().flatten() {
        match values {
            Value::Array(values) => {
                for value in values {
                    answer = put(answer, name, value);
                }
            }
            value => answer = put(answer, name, value),
        }
    }
    Ok(answer)
}

fn put(answer: Answer, name: &str, value: &Value) -> Answer {
    let text = match value {
        Value::Null => return answer,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let unsendable = http::HeaderName::try_from(name).is_err() || http::HeaderValue::try_from(&text).is_err();
    // The length is that of the body we send.
    if unsendable || name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding") {
        return answer;
    }
    answer.header(name.to_owned(), text)
}
