//! One request, taken apart: the decoded path parameters, the query and the body.

use bytes::Bytes;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode;
use portcullis_schema::Record;

/// A request to an endpoint.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// The path as it was sent, without a trailing slash.
    pub path: String,
    /// Values of the path's parameters, percent-decoded once.
    pub params: Vec<String>,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Body,
}

impl Call {
    /// The value of a path parameter; the table guarantees that a handler's parameters are there.
    pub fn param(&self, at: usize) -> &str {
        self.params.get(at).map_or("", String::as_str)
    }
}

/// What came with a POST, PUT or PATCH.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Its fields; empty if there was no body.
    pub fields: Record,
    /// Values are text whose type the schema decides: it was a form.
    pub form: bool,
    /// The media type without parameters, in lower case.
    pub media_type: Option<String>,
    pub raw: Bytes,
}

/// The arguments of the query string, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, Option<String>)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        let arguments = text.split('&').filter(|argument| !argument.is_empty()).map(|argument| match argument.split_once('=') {
            Some((name, value)) => (decode(name), Some(decode(value))),
            None => (decode(argument), None),
        });
        Self(arguments.collect())
    }

    pub fn into_arguments(self) -> Vec<(String, Option<String>)> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every value given for `name`; none for an argument without `=`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Option<&'a str>> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_deref())
    }

    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The first value, where there is one.
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().flatten()
    }
}

/// Decodes a name or value of a query or a form: `+` is a space. Bytes that are no UTF-8 are replaced.
pub fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned()
}
