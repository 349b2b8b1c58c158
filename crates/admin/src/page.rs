//! Where a page of a list starts and how long it is, and which tags its rows carry.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis_schema::{ApiError, Violations};
use portcullis_store::Tags;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::answer::{Answer, Outcome};
use crate::call::Query;

const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: usize = 1000;
const MAX_TAGS: usize = 5;
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `size`: 100 unless given, 1000 at most. Errors with code 9.
pub fn size(query: &Query) -> Result<usize, ApiError> {
    match number(query)? {
        None => Ok(DEFAULT_SIZE),
        Some(size) if size.fract() == 0.0 && (1.0..=MAX_SIZE as f64).contains(&size) => Ok(size as usize),
        Some(_) => Err(ApiError::invalid_size(format!("size must be an integer between 1 and {MAX_SIZE}"))),
    }
}

/// `size` of a target list, which may be nothing at all and is cut rather than refused.
pub fn loose_size(query: &Query) -> Result<usize, ApiError> {
    Ok(number(query)?.map_or(DEFAULT_SIZE, |size| size.clamp(0.0, MAX_SIZE as f64) as usize))
}

fn number(query: &Query) -> Result<Option<f64>, ApiError> {
    let mut given = query.all("size");
    let (first, second) = (given.next(), given.next());
    let Some(first) = first else { return Ok(None) };
    let number = first.filter(|_| second.is_none()).and_then(|text| text.trim().parse::<f64>().ok()).filter(|size| size.is_finite());
    number.map(Some).ok_or_else(|| ApiError::invalid_size("size must be a number"))
}

/// The id after which the page starts. Errors with code 7.
pub fn offset(query: &Query) -> Result<Option<Uuid>, ApiError> {
    let Some((text, value)) = offset_value(query)? else { return Ok(None) };
    let id = value.get(0).and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
    id.map(Some).ok_or_else(|| ApiError::invalid_offset(&text, "bad json encoding"))
}

/// A tag of a row after which a page of tags starts. Two entities may share an id and a tag, so the entity belongs to it;
/// offsets from before it did name none.
pub fn tag_offset(query: &Query) -> Result<Option<(Uuid, String, Option<String>)>, ApiError> {
    let Some((text, value)) = offset_value(query)? else { return Ok(None) };
    let id = value.get(0).and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
    let tag = value.get(1).and_then(Value::as_str);
    let entity = value.get(2).and_then(Value::as_str).map(str::to_owned);
    id.zip(tag).map(|(id, tag)| Some((id, tag.to_owned(), entity))).ok_or_else(|| ApiError::invalid_offset(&text, "bad json encoding"))
}

fn offset_value(query: &Query) -> Result<Option<(String, Value)>, ApiError> {
    let Some(text) = query.all("offset").next() else { return Ok(None) };
    let text = text.unwrap_or_default();
    let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
    let bytes = bytes.map_err(|_| ApiError::invalid_offset(text, "bad base64 encoding"))?;
    let value = serde_json::from_slice(&bytes).map_err(|_| ApiError::invalid_offset(text, "bad json encoding"))?;
    Ok(Some((text.to_owned(), value)))
}

/// The numeric offset of a target list.
pub fn place(query: &Query) -> Result<usize, ApiError> {
    let Some(text) = query.all("offset").next() else { return Ok(0) };
    let text = text.unwrap_or_default();
    text.parse().map_err(|_| ApiError::invalid_offset(text, "expected a number"))
}

/// `tags=a,b` (all of them) or `tags=a/b` (any of them). Errors with code 11.
pub fn tags(query: &Query) -> Result<Option<Tags>, ApiError> {
    let Some(text) = query.all("tags").next() else { return Ok(None) };
    let wrong = |complaint: &str| Err(ApiError::invalid_options(Violations::of("tags", complaint)));
    let text = text.unwrap_or_default();
    if text.is_empty() {
        return wrong("cannot be null");
    }
    let separator = if text.contains('/') { '/' } else { ',' };
    let tags: Vec<String> = text.split(separator).map(str::to_owned).collect();
    // A separator at the end is taken: the empty tag behind it belongs to no row.
    let empty = tags.iter().rev().skip(1).any(String::is_empty);
    if empty || tags.iter().any(|tag| tag.contains(',') || !printable(tag)) {
        return wrong("invalid filter syntax");
    }
    if tags.len() > MAX_TAGS {
        return wrong(&format!("cannot query more than {MAX_TAGS} tags"));
    }
    Ok(Some(if separator == '/' { Tags::Any(tags) } else { Tags::All(tags) }))
}

fn printable(tag: &str) -> bool {
    tag.bytes().all(|byte| byte >= 0x20 && byte != 0x7f)
}

/// A list that goes on: `path?offset=…` and the arguments that must come along.
pub struct Next {
    pub offset: String,
    pub path: String,
    pub keep: Vec<(&'static str, String)>,
}

/// What an id or an id and a tag look like as an offset.
pub fn encode(after: &Value) -> String {
    STANDARD.encode(after.to_string())
}

/// The body of a list.
pub fn answer(rows: Vec<Value>, next: Option<Next>) -> Outcome {
    Ok(Answer::json(StatusCode::OK, &body(rows, next)))
}

pub fn body(rows: Vec<Value>, next: Option<Next>) -> Value {
    let Some(next) = next else { return json!({ "data": rows, "next": null }) };
    let mut link = format!("{}?offset={}", next.path, utf8_percent_encode(&next.offset, IN_QUERY));
    for (name, value) in next.keep {
        link.push_str(&format!("&{name}={}", utf8_percent_encode(&value, IN_QUERY)));
    }
    json!({ "data": rows, "next": link, "offset": next.offset })
}

/// The arguments that the next page of a collection is asked with.
pub fn kept(query: &Query) -> Vec<(&'static str, String)> {
    ["tags", "size"].into_iter().filter_map(|name| Some((name, query.first(name)?.to_owned()))).collect()
}
