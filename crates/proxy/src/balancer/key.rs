//! What a request is hashed by: the upstream's `hash_on`, its `hash_fallback`, or nothing.

use std::fmt::Write;

use portcullis_entities::upstreams::{HashOn, Upstream};
use portcullis_wire::Headers;
use uuid::Uuid;

use crate::router::Captures;

/// The parts of a request that an upstream may hash on.
#[derive(Clone, Copy, Debug)]
pub struct HashInput<'a> {
    /// The consumer's id, or the credential's if there is no consumer.
    pub consumer: Option<Uuid>,
    /// The client's address, from behind trusted proxies.
    pub client_address: &'a str,
    pub headers: &'a Headers,
    /// The request's path in normal form.
    pub path: &'a [u8],
    /// The query as sent.
    pub query: Option<&'a [u8]>,
    pub captures: Option<&'a Captures>,
}

/// What a request hashes to on one upstream; made once, used for every try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashKey {
    pub(super) hash: u32,
    /// The Set-Cookie value that gives the client the cookie it lacked.
    pub set_cookie: Option<String>,
}

impl HashKey {
    /// `fresh` makes the value of a cookie that the client does not have yet.
    pub(super) fn of(upstream: &Upstream, input: &HashInput<'_>, fresh: impl FnOnce() -> Uuid) -> Self {
        let first = Source {
            on: upstream.hash_on.unwrap_or_default(),
            header: upstream.hash_on_header.as_deref(),
            query_arg: upstream.hash_on_query_arg.as_deref(),
            uri_capture: upstream.hash_on_uri_capture.as_deref(),
        };
        let fallback = Source {
            on: upstream.hash_fallback.unwrap_or_default(),
            header: upstream.hash_fallback_header.as_deref(),
            query_arg: upstream.hash_fallback_query_arg.as_deref(),
            uri_capture: upstream.hash_fallback_uri_capture.as_deref(),
        };
        let cookie = upstream.hash_on_cookie.as_deref();
        for source in [first, fallback] {
            if let Some(value) = source.value(cookie, input) {
                return Self { hash: super::xxhash::xxhash32(&value), set_cookie: None };
            }
            if let (HashOn::Cookie, Some(name)) = (source.on, cookie) {
                let value = fresh().to_string();
                let path = upstream.hash_on_cookie_path.as_deref().unwrap_or("/");
                let mut set_cookie = String::with_capacity(96);
                // The attribute's name is misspelt in Kong too.
                let _ = write!(set_cookie, "{name}={value}; Path={path}; Same-Site=Lax; HttpOnly");
                return Self { hash: super::xxhash::xxhash32(value.as_bytes()), set_cookie: Some(set_cookie) };
            }
        }
        Self { hash: super::xxhash::xxhash32(b""), set_cookie: None }
    }
}

struct Source<'a> {
    on: HashOn,
    header: Option<&'a str>,
    query_arg: Option<&'a str>,
    uri_capture: Option<&'a str>,
}

impl Source<'_> {
    fn value(&self, cookie: Option<&str>, input: &HashInput<'_>) -> Option<Vec<u8>> {
        match self.on {
            HashOn::None => None,
            HashOn::Consumer => input.consumer.map(|id| id.to_string().into_bytes()),
            HashOn::Ip => Some(input.client_address.as_bytes().to_vec()),
            HashOn::Header => {
                let lines: Vec<&[u8]> = input.headers.get_all(self.header?).collect();
                // The lines of a name are one value, as nginx joins them.
                (!lines.is_empty()).then(|| lines.join(&b", "[..]))
            }
            HashOn::Cookie => cookie_value(input.headers, cookie?).map(<[u8]>::to_vec),
            HashOn::Path => Some(input.path.to_vec()),
            HashOn::QueryArg => sorted_and_joined(query_values(input.query?, self.query_arg?)),
            HashOn::UriCapture => input.captures?.get(self.uri_capture?).map(|value| value.as_bytes().to_vec()),
        }
    }
}

fn sorted_and_joined(mut values: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    if values.is_empty() {
        return None;
    }
    values.sort();
    Some(values.join(&b','))
}

fn query_values(query: &[u8], name: &str) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for pair in query.split(|byte| *byte == b'&') {
        let split = memchr::memchr(b'=', pair);
        let (key, value) = split.map_or((pair, None), |at| (&pair[..at], Some(&pair[at + 1..])));
        if decoded(key) == name.as_bytes() {
            // An argument without a value reads as true in Kong.
            values.push(value.map_or_else(|| b"true".to_vec(), decoded));
        }
    }
    values
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_encoding::percent_decode(&spaced).collect()
}

fn cookie_value<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    let mut pairs = headers.get_all("cookie").flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        // nginx takes a cookie's name in any case.
        pair[..at].trim_ascii().eq_ignore_ascii_case(name.as_bytes()).then(|| pair[at + 1..].trim_ascii_start())
    })
}
