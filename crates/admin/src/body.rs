//! Reads the body of a POST, PUT or PATCH: JSON, a form, or (for `/config`) YAML text.

use axum::extract::{FromRequest, Multipart};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Number, Value};

use crate::answer::{Answer, Refusal};
use crate::call::{Body, Query};
use crate::form;

/// No request has more arguments than this, in the query or in a form.
pub const MAX_ARGUMENTS: usize = 1000;

/// The types whose bodies are read. Kong takes every type that begins like one of them.
const READ: [&str; 5] = ["application/json", "multipart/form-data", "application/x-www-form-urlencoded", "application/yaml", "text/yaml"];

/// The media type of a request without its parameters: one of those that are read, or what was sent.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let known = READ.iter().find(|known| value.starts_with(*known)).map(|known| (*known).to_owned());
    Some(known.unwrap_or_else(|| value.split(';').next().unwrap_or_default().trim().to_owned()))
}

pub fn is_yaml(media_type: &str) -> bool {
    matches!(media_type, "application/yaml" | "text/yaml")
}

/// Whether a body of this type can be read; YAML only where `yaml` says so.
pub fn supported(media_type: &str, yaml: bool) -> bool {
    matches!(media_type, "application/json" | "multipart/form-data" | "application/x-www-form-urlencoded") || (yaml && is_yaml(media_type))
}

pub fn unsupported() -> Answer {
    Answer::page(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

pub fn too_many_arguments() -> Refusal {
    Refusal::message(StatusCode::BAD_REQUEST, "Too many arguments")
}

/// Takes a body apart. The type has been found to be [`supported`].
pub async fn read(headers: &HeaderMap, media_type: Option<String>, raw: Bytes) -> Result<Body, Refusal> {
    let body = Body { media_type, raw, ..Body::default() };
    match body.media_type.as_deref() {
        Some("application/json") => Ok(Body { fields: json_fields(&body.raw)?, ..body }),
        Some("application/x-www-form-urlencoded") => {
            let arguments = Query::parse(&String::from_utf8_lossy(&body.raw));
            if arguments.len() > MAX_ARGUMENTS {
                return Err(too_many_arguments());
            }
            // A name without a value is a switch that is on.
            let typed = |(name, value): (String, Option<String>)| (name, value.map_or(Value::Bool(true), Value::String));
            let fields = form::record(arguments.into_arguments().into_iter().map(typed));
            Ok(Body { fields, form: true, ..body })
        }
        Some("multipart/form-data") => Ok(Body { fields: form::record(parts(headers, body.raw.clone()).await?), form: true, ..body }),
        _ => Ok(body),
    }
}

/// The fields of a JSON body.
pub fn json_fields(raw: &[u8]) -> Result<portcullis_schema::Record, Refusal> {
    let cannot = || Refusal::message(StatusCode::BAD_REQUEST, "Cannot parse JSON body");
    match serde_json::from_slice::<Value>(raw).map(plain_numbers) {
        Ok(Value::Object(fields)) => Ok(fields),
        // To Kong a list is a table with numbers for names.
        Ok(Value::Array(list)) => Ok(list.into_iter().enumerate().map(|(at, value)| ((at + 1).to_string(), value)).collect()),
        _ => Err(cannot()),
    }
}

/// `8.0e1` is the integer 80: JSON has one kind of number, and so has Kong.
pub fn plain_numbers(mut value: Value) -> Value {
    make_plain(&mut value);
    value
}

fn make_plain(value: &mut Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT) {
                *number = Number::from(float as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(make_plain),
        Value::Object(fields) => fields.values_mut().for_each(make_plain),
        _ => {}
    }
}

async fn parts(headers: &HeaderMap, raw: Bytes) -> Result<Vec<(String, Value)>, Refusal> {
    let cannot = || Refusal::message(StatusCode::BAD_REQUEST, "Cannot parse multipart body");
    let mut request = axum::extract::Request::new(axum::body::Body::from(raw));
    if let Some(content_type) = headers.get(header::CONTENT_TYPE) {
        request.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    }
    // The body was limited when it was read.
    axum::extract::DefaultBodyLimit::disable().apply(&mut request);
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|_| cannot())?;
    let mut parts = Vec::new();
    while let Some(part) = multipart.next_field().await.map_err(|_| cannot())? {
        let name = part.name().unwrap_or_default().to_owned();
        let json = part.content_type().is_some_and(|kind| kind.starts_with("application/json"));
        let text = part.bytes().await.map_err(|_| cannot())?;
        let value = match serde_json::from_slice::<Value>(&text) {
            Ok(value) if json => plain_numbers(value),
            _ => Value::String(String::from_utf8_lossy(&text).into_owned()),
        };
        parts.push((name, value));
        if parts.len() > MAX_ARGUMENTS {
            return Err(too_many_arguments());
        }
    }
    Ok(parts)
}
