//! A token as requests carry it and as it is kept.

use std::borrow::Cow;

use portcullis_plugin::Request;
use portcullis_schema::Record;
use serde_json::Value;
use uuid::Uuid;

use super::parameters::has_body_parameters;
use crate::arguments::{self, Argument};
use crate::body::{self, Body};

/// A row of a token, as far as requests ask for it.
pub struct Token<'a> {
    pub id: Uuid,
    pub credential: Uuid,
    /// The service it is good for; none for all.
    pub service: Option<Uuid>,
    pub scope: Option<&'a str>,
    pub user: Option<&'a str>,
    /// Seconds; 0 for ever.
    expires_in: f64,
    /// Seconds since the epoch.
    created_at: f64,
}

impl<'a> Token<'a> {
    pub fn of(row: &'a Record) -> Option<Self> {
        let id = |value: &Value| value.as_str().and_then(|text| Uuid::try_parse(text).ok());
        let referenced = |field: &str| row.get(field)?.get("id").and_then(id);
        let text = |field: &str| row.get(field).and_then(Value::as_str);
        Some(Self {
            id: id(row.get("id")?)?,
            credential: referenced("credential")?,
            service: referenced("service"),
            scope: text("scope"),
            user: text("authenticated_userid"),
            expires_in: row.get("expires_in").and_then(Value::as_f64).unwrap_or_default(),
            created_at: row.get("created_at").and_then(Value::as_f64).unwrap_or_default(),
        })
    }

    /// Whether it has run out at this time, in milliseconds since the epoch.
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_in > 0.0 && now_ms as f64 / 1000.0 - self.created_at > self.expires_in
    }
}

/// Whether the body has to be read to find the token.
pub fn may_be_in_body(request: &Request, header: &str) -> bool {
    has_body_parameters(request) && !request.head.headers.contains(header) && body::may_have_fields(request)
}

/// The token a request carries: in the header, else as a query argument or field of the body. Taken out where it is to be
/// hidden.
pub fn take(request: &mut Request, header: &str, hide: bool) -> Option<String> {
    if let Some(value) = request.head.headers.get(header) {
        let text = String::from_utf8_lossy(value).into_owned();
        let mut words = text.split_ascii_whitespace();
        let is_scheme = |word: &str| word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("token");
        if let (Some(scheme), Some(token), None) = (words.next(), words.next(), words.next())
            && is_scheme(scheme)
        {
            if hide {
                request.head.headers.remove(header);
            }
            return Some(token.to_owned());
        }
        if hide {
            hide_parameter(request);
        }
        // A header of another shape is a token that nobody has, unless it is the bare token.
        return Some(text.trim().to_owned());
    }
    let in_body = if has_body_parameters(request) { Body::of(request) } else { None };
    let of_body = in_body.as_ref().map_or(Argument::Absent, |body| body.find(ARGUMENT));
    let found = match of_body {
        Argument::Absent => arguments::find(request.upstream.query.as_deref().unwrap_or_default(), ARGUMENT),
        found => found,
    };
    let Argument::One(token) = found else { return None };
    let token = Cow::into_owned(token);
    drop(in_body);
    if hide {
        hide_parameter(request);
    }
    String::from_utf8(token).ok()
}

const ARGUMENT: &str = "access_token";

fn hide_parameter(request: &mut Request) {
    if let Some(query) = &request.upstream.query {
        let left = arguments::anew_without(query, ARGUMENT);
        request.upstream.query = (!left.is_empty()).then_some(left);
    }
    if let Some(body @ Body::Form(_)) = Body::of(request)
        && let Some(left) = body.anew_without(ARGUMENT)
    {
        request.upstream.body = Some(left);
    }
}
