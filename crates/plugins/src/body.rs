//! Request bodies that carry named fields: forms, JSON objects, multipart forms.
//!
//! A body of another type, or one that cannot be read as what it says it is, has no fields.

use std::borrow::Cow;

use portcullis_plugin::Request;
use portcullis_wire::Framing;
use serde_json::{Map, Value};

use crate::arguments::{self, Argument};
use crate::json_text;

/// A request body taken apart as far as its type allows.
#[derive(Debug, PartialEq)]
pub enum Body<'a> {
    Form(&'a [u8]),
    /// Any JSON value; only an object has fields.
    Json(Value),
    Multipart {
        /// With the two dashes that stand before it in the body.
        delimiter: Vec<u8>,
        parts: Vec<Part<'a>>,
    },
}

/// One part of a multipart form.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<'a> {
    pub name: Option<Cow<'a, [u8]>>,
    /// Headers, blank line and value as they came, without the line end before the next delimiter.
    pub raw: &'a [u8],
    pub value: &'a [u8],
}

/// The types a body may have, by the start of its Content-Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Form,
    Json,
    Multipart,
}

/// The kind of body a Content-Type announces, where it is one with fields.
pub fn type_of(content_type: &[u8]) -> Option<Type> {
    let starts = |prefix: &str| content_type.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    let types =
        [("application/x-www-form-urlencoded", Type::Form), ("application/json", Type::Json), ("multipart/form-data", Type::Multipart)];
    types.into_iter().find(|(prefix, _)| starts(prefix)).map(|(_, kind)| kind)
}

/// How much of a body a plugin waits for, in bytes: `limit`, or nothing where the body is known to be too large for the memory
/// that nginx would keep it in. Kong's plugins see no body there.
pub fn in_memory(request: &Request, buffer_bytes: u64, limit: u64) -> Option<u64> {
    match request.head.framing {
        Framing::None => None,
        // nginx stretches its buffer by a quarter for bodies that just miss it.
        Framing::Length(length) if length >= buffer_bytes.saturating_add(buffer_bytes / 4) => None,
        _ => Some(limit.max(buffer_bytes)),
    }
}

/// Whether the request's body is of a type that can have fields.
pub fn may_have_fields(request: &Request) -> bool {
    request.head.headers.get("content-type").is_some_and(|value| type_of(value).is_some())
}

impl<'a> Body<'a> {
    /// The body of a request as later plugins would read it: an earlier plugin's replacement goes before the client's.
    pub fn of(request: &'a Request) -> Option<Self> {
        let bytes = request.upstream.body.as_deref().or(request.body.as_deref())?;
        Self::parse(request.head.headers.get("content-type")?, bytes)
    }

    pub fn parse(content_type: &[u8], bytes: &'a [u8]) -> Option<Self> {
        match type_of(content_type)? {
            Type::Form => Some(Body::Form(bytes)),
            Type::Json => serde_json::from_slice(bytes).ok().map(Body::Json),
            Type::Multipart => {
                let delimiter = delimiter(content_type)?;
                let parts = parts(bytes, &delimiter)?;
                Some(Body::Multipart { delimiter, parts })
            }
        }
    }

    /// What stands under a name at the top level.
    pub fn find(&self, name: &str) -> Argument<'_> {
        match self {
            Body::Form(bytes) => arguments::find(bytes, name),
            Body::Json(value) => match value.get(name) {
                None | Some(Value::Bool(false)) => Argument::Absent,
                Some(Value::String(text)) => Argument::One(Cow::Borrowed(text.as_bytes())),
                Some(Value::Array(_) | Value::Object(_)) => Argument::Several,
                Some(_) => Argument::NoText,
            },
            // Of parts with the same name the last one counts.
            Body::Multipart { parts, .. } => match parts.iter().rfind(|part| part.name.as_deref() == Some(name.as_bytes())) {
                Some(part) => Argument::One(Cow::Borrowed(part.value)),
                None => Argument::Absent,
            },
        }
    }

    /// The body without this field, written anew as Kong writes bodies, whether or not it has the field. None for JSON that has
    /// no fields at all.
    pub fn anew_without(&self, name: &str) -> Option<Vec<u8>> {
        match self {
            Body::Form(bytes) => Some(arguments::anew_without(bytes, name)),
            Body::Json(Value::Object(fields)) => {
                let mut fields = fields.clone();
                fields.remove(name);
                json_text::write(&Value::Object(fields))
            }
            Body::Json(list @ Value::Array(_)) => json_text::write(list),
            Body::Json(_) => None,
            Body::Multipart { delimiter, parts } => {
                let kept = parts.iter().filter_map(|part| Some((part.name.as_deref()?, part.value)));
                let kept = kept.filter(|(key, _)| *key != name.as_bytes());
                // Nothing but names and values is kept of a part.
                let raw: Vec<_> =
                    kept.map(|(key, value)| [b"Content-Disposition: form-data; name=\"", key, b"\"\r\n\r\n", value].concat()).collect();
                Some(write_parts(delimiter, raw.iter().map(Vec::as_slice)))
            }
        }
    }

    /// The boundary that stands in the body, for a Content-Type that goes with it; none for other types.
    pub fn boundary(&self) -> Option<&[u8]> {
        match self {
            Body::Multipart { delimiter, .. } => delimiter.strip_prefix(b"--"),
            _ => None,
        }
    }

    /// All fields as JSON.
    pub fn to_value(&self) -> Value {
        match self {
            Body::Form(bytes) => arguments_value(bytes),
            Body::Json(value) => value.clone(),
            Body::Multipart { parts, .. } => {
                let named = parts.iter().filter_map(|part| Some((text(part.name.as_deref()?), text(part.value).into())));
                Value::Object(named.collect())
            }
        }
    }
}

/// Arguments as JSON: repeated names become lists, names without `=` true.
pub fn arguments_value(bytes: &[u8]) -> Value {
    let mut fields = Map::new();
    for (key, value) in arguments::pairs(bytes) {
        let value = value.map_or(Value::Bool(true), |value| text(&arguments::decode(value)).into());
        collect(&mut fields, text(&arguments::decode(key)), value);
    }
    Value::Object(fields)
}

/// Adds a value to what stands under a name already.
pub fn collect(fields: &mut Map<String, Value>, name: String, value: Value) {
    match fields.get_mut(&name) {
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
        None => {
            fields.insert(name, value);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A multipart body of these parts.
pub fn write_parts<'a>(delimiter: &[u8], parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for raw in parts {
        for piece in [delimiter, b"\r\n".as_slice(), raw, b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
    out.extend_from_slice(delimiter);
    out.extend_from_slice(b"--\r\n");
    out
}

/// What stands before each part of a multipart body of this type.
pub fn delimiter(content_type: &[u8]) -> Option<Vec<u8>> {
    Some([b"--", boundary(content_type)?].concat())
}

fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let parameters = content_type.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
    let value =
        parameters.filter_map(|parameter| parameter.split_at_checked(9)).find(|(name, _)| name.eq_ignore_ascii_case(b"boundary="))?.1;
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    (!value.is_empty()).then_some(value)
}

fn find_bytes(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The parts between delimiters. None without a first delimiter.
fn parts<'a>(bytes: &'a [u8], delimiter: &[u8]) -> Option<Vec<Part<'a>>> {
    let mut rest = &bytes[find_bytes(bytes, delimiter)? + delimiter.len()..];
    let mut parts = Vec::new();
    // What follows a delimiter is a line end, or two dashes after the last part.
    while let Some(after) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) {
        let end = find_bytes(after, delimiter).unwrap_or(after.len());
        parts.push(part(trim_line_end(&after[..end])));
        rest = after.get(end + delimiter.len()..).unwrap_or_default();
    }
    Some(parts)
}

fn trim_line_end(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).unwrap_or(bytes)
}

/// Takes one part of a multipart body apart.
pub fn part(raw: &[u8]) -> Part<'_> {
    let ends = [b"\r\n\r\n".as_slice(), b"\n\n"].into_iter().filter_map(|blank| Some((find_bytes(raw, blank)?, blank.len())));
    let (head, value) = match ends.min() {
        Some((at, length)) => (&raw[..at], &raw[at + length..]),
        None => (raw, &b""[..]),
    };
    let disposition = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..20).is_some_and(|name| name.eq_ignore_ascii_case(b"content-disposition:")));
    Part { name: disposition.and_then(field_name).map(Cow::Borrowed), raw, value }
}

fn field_name(disposition: &[u8]) -> Option<&[u8]> {
    let parameters = disposition.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let quoted = parameters.filter_map(|parameter| parameter.strip_prefix(b"name=")).next()?;
    Some(quoted.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(quoted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const MULTIPART: &[u8] = b"--b1\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nk-anna\r\n--b1\r\n\
        Content-Disposition: form-data; name=\"left\"; filename=\"f.txt\"\r\nContent-Type: text/plain\r\n\r\nline\r\nline\r\n--b1--\r\n";

    fn one(text: &str) -> Argument<'_> {
        Argument::One(Cow::Borrowed(text.as_bytes()))
    }

    #[test]
    fn fields_are_found_in_each_type() {
        let form = Body::parse(b"application/x-www-form-urlencoded", b"a=1&b&c=2&c=3").unwrap();
        assert_eq!((form.find("a"), form.find("b"), form.find("c")), (one("1"), Argument::NoText, Argument::Several));
        let json = Body::parse(b"application/json; charset=utf-8", br#"{"a":"1","b":2,"c":["3"]}"#).unwrap();
        assert_eq!(
            (json.find("a"), json.find("b"), json.find("c"), json.find("d")),
            (one("1"), Argument::NoText, Argument::Several, Argument::Absent)
        );
        let multipart = Body::parse(b"multipart/form-data; boundary=b1", MULTIPART).unwrap();
        assert_eq!(
            (multipart.find("token"), multipart.find("left"), multipart.find("x")),
            (one("k-anna"), one("line\r\nline"), Argument::Absent)
        );
    }

    #[test]
    fn a_field_can_be_taken_out() {
        let form = Body::parse(b"application/x-www-form-urlencoded", b"a=1&key=k").unwrap();
        assert_eq!(form.anew_without("key").unwrap(), b"a=1");
        assert_eq!(form.anew_without("other").unwrap(), b"a=1&key=k");
        let json = Body::parse(b"application/json", br#"{"key": "k", "left": "here"}"#).unwrap();
        assert_eq!(json.anew_without("key").unwrap(), br#"{"left":"here"}"#);
        let multipart = Body::parse(b"multipart/form-data; boundary=\"b1\"", MULTIPART).unwrap();
        let left = multipart.anew_without("token").unwrap();
        let left = Body::parse(b"multipart/form-data; boundary=b1", &left).unwrap();
        assert_eq!((left.find("token"), left.find("left")), (Argument::Absent, one("line\r\nline")));
    }

    #[test]
    fn what_cannot_be_read_has_no_fields() {
        assert_eq!(Body::parse(b"text/plain", b"a=1"), None);
        assert_eq!(Body::parse(b"application/json", b"{not json"), None);
        assert_eq!(Body::parse(b"multipart/form-data", MULTIPART), None);
        assert_eq!(Body::parse(b"multipart/form-data; boundary=other", MULTIPART), None);
        assert_eq!(Body::parse(b"application/json", b"[1]").unwrap().find("a"), Argument::Absent);
    }

    #[test]
    fn fields_become_json() {
        assert_eq!(
            Body::parse(b"application/x-www-form-urlencoded", b"a=1&b&a=2").unwrap().to_value(),
            json!({ "a": ["1", "2"], "b": true })
        );
        assert_eq!(
            Body::parse(b"multipart/form-data; boundary=b1", MULTIPART).unwrap().to_value(),
            json!({ "token": "k-anna", "left": "line\r\nline" })
        );
    }
}
