//! Changes to the fields of request bodies: JSON objects, forms, multipart forms.

use portcullis_plugin::Request;
use serde_json::{Map, Value};

use super::query::Arguments;
use super::{Operations, Values};
use crate::body::{self, Body, Part, Type};
use crate::json_fields::{append, as_lua_has_them, is_missing};

/// How much of a body is read for changes, in bytes. One that says it is larger goes upstream as it is.
pub const MAX_BODY: u64 = 16 << 20;

/// The body as the upstream gets it; none where it stays as it is.
pub fn changed(operations: &Operations, values: &Values, request: &Request) -> Option<Vec<u8>> {
    let content_type = request.head.headers.get("content-type")?;
    let given = request.upstream.body.as_deref().or(request.body.as_deref())?;
    match (body::type_of(content_type)?, Body::parse(content_type, given)) {
        (Type::Json, None) if given.is_empty() => json(operations, values, Map::new(), true),
        (Type::Json, Some(Body::Json(Value::Object(fields)))) => json(operations, values, fields, false),
        (Type::Form, Some(Body::Form(form))) => arguments(operations, values, form),
        (Type::Multipart, Some(Body::Multipart { delimiter, parts })) => multipart(operations, values, &delimiter, parts),
        (Type::Multipart, None) if given.is_empty() => multipart(operations, values, &body::delimiter(content_type)?, Vec::new()),
        _ => None,
    }
}

fn json(operations: &Operations, values: &Values, mut fields: Map<String, Value>, empty: bool) -> Option<Vec<u8>> {
    let mut changed = false;
    if !empty {
        for name in &operations.remove {
            fields.remove(name);
            changed = true;
        }
        for (old, new) in &values.rename {
            if old != new
                && !is_missing(&fields, old)
                && let Some(value) = fields.remove(old)
            {
                fields.insert(new.clone(), value);
                changed = true;
            }
        }
        for (name, value) in &values.replace {
            if !is_missing(&fields, name) {
                fields.insert(name.clone(), value.as_str().into());
                changed = true;
            }
        }
    }
    for (name, value) in &values.add {
        if is_missing(&fields, name) {
            fields.insert(name.clone(), value.as_str().into());
            changed = true;
        }
    }
    for (name, value) in &values.append {
        append(&mut fields, name, value.as_str().into());
        changed = true;
    }
    // A body nothing was done to keeps its spelling.
    if changed { serde_json::to_vec(&as_lua_has_them(fields)).ok() } else { None }
}

fn arguments(operations: &Operations, values: &Values, form: &[u8]) -> Option<Vec<u8>> {
    let mut arguments = Arguments::read(form);
    let changed = arguments.change(operations, values);
    changed.then(|| arguments.write().unwrap_or_default())
}

/// Parts that get another name or value lose what else their heads said, and come last. Here, as in Kong, renaming is done before
/// anything is removed.
fn multipart(operations: &Operations, values: &Values, delimiter: &[u8], parts: Vec<Part<'_>>) -> Option<Vec<u8>> {
    let mut parts: Vec<(Option<Vec<u8>>, Vec<u8>)> =
        parts.iter().map(|part| (part.name.as_deref().map(<[u8]>::to_vec), part.raw.to_vec())).collect();
    let place =
        |parts: &[(Option<Vec<u8>>, Vec<u8>)], name: &str| parts.iter().position(|(known, _)| known.as_deref() == Some(name.as_bytes()));
    let simple = |name: &str, value: &[u8]| {
        let head = format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        (Some(name.as_bytes().to_vec()), [head.as_bytes(), value].concat())
    };
    let mut changed = false;
    for (old, new) in values.rename.iter().filter(|(old, new)| old != new) {
        if let Some(at) = place(&parts, old) {
            let (_, raw) = parts.remove(at);
            parts.retain(|(known, _)| known.as_deref() != Some(new.as_bytes()));
            parts.push(simple(new, body::part(&raw).value));
            changed = true;
        }
    }
    for name in &operations.remove {
        while let Some(at) = place(&parts, name) {
            parts.remove(at);
            changed = true;
        }
    }
    for (name, value) in &values.replace {
        if place(&parts, name).is_some() {
            parts.retain(|(known, _)| known.as_deref() != Some(name.as_bytes()));
            parts.push(simple(name, value.as_bytes()));
            changed = true;
        }
    }
    for (name, value) in &values.add {
        if place(&parts, name).is_none() {
            parts.push(simple(name, value.as_bytes()));
            changed = true;
        }
    }
    changed.then(|| body::write_parts(delimiter, parts.iter().map(|(_, raw)| raw.as_slice())))
}
