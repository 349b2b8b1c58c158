//! The key under which a response is kept: SHA-256 over everything that tells requests apart (behaviour checklist 9.3).

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use portcullis_plugin::Request;

use super::config::Config;
use crate::arguments::decode;

/// A SHA-256.
pub type Key = [u8; 32];

/// Arguments of a query that count; nginx reads no more.
const MOST_ARGUMENTS: usize = 100;

/// The key of this request.
pub fn of(config: &Config, request: &Request) -> Key {
    let mut text = Vec::with_capacity(256);
    let route = request.route.as_ref().map(|route| route.id);
    match (&request.consumer, route) {
        (Some(consumer), Some(route)) => text.extend_from_slice(format!("{}:{route}", consumer.id).as_bytes()),
        (None, Some(route)) => text.extend_from_slice(route.to_string().as_bytes()),
        (_, None) => text.extend_from_slice(b"default"),
    }
    text.push(b'|');
    text.extend_from_slice(request.head.method_text());
    text.push(b'|');
    push_request_line(&mut text, request, config.ignore_uri_case == Some(true));
    text.push(b'|');
    push_arguments(&mut text, config, request.upstream.query.as_deref().unwrap_or_default());
    text.push(b'|');
    push_headers(&mut text, config, request);
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, &text).as_ref());
    key
}

/// The request line with everything from `?` on cut off: without a query it still has the HTTP version.
fn push_request_line(text: &mut Vec<u8>, request: &Request, lower: bool) {
    let from = text.len();
    let target = request.head.target();
    text.extend_from_slice(request.head.method_text());
    text.push(b' ');
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => text.extend_from_slice(&target[..at]),
        None => {
            text.extend_from_slice(target);
            let version = request.head.version.text();
            text.extend_from_slice(b" HTTP/");
            text.extend_from_slice(version.as_bytes());
            if !version.contains('.') {
                text.extend_from_slice(b".0");
            }
        }
    }
    if lower {
        text[from..].make_ascii_lowercase();
    }
}

/// The values of one name; none stands for an argument without `=`.
type Values<'a> = Vec<Option<Cow<'a, [u8]>>>;

fn push_arguments(text: &mut Vec<u8>, config: &Config, query: &[u8]) {
    let mut arguments: BTreeMap<Cow<'_, [u8]>, Values<'_>> = BTreeMap::new();
    for pair in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).take(MOST_ARGUMENTS) {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            // A value without a name is not an argument.
            Some(0) => continue,
            Some(at) => (&pair[..at], Some(decode(&pair[at + 1..]))),
            None => (pair, None),
        };
        arguments.entry(decode(name)).or_default().push(value);
    }
    let mut join = Joined { text, first: true };
    match config.vary_query_params.as_deref().filter(|names| !names.is_empty()) {
        None => arguments.into_iter().for_each(|(name, values)| join.push(&name, values)),
        Some(names) => {
            for name in names {
                if let Some(values) = arguments.get(name.as_bytes()) {
                    join.push(name.as_bytes(), values.clone());
                }
            }
        }
    }
}

fn push_headers(text: &mut Vec<u8>, config: &Config, request: &Request) {
    let mut join = Joined { text, first: true };
    for name in config.vary_headers.iter().flatten() {
        let values: Values<'_> = request.head.headers.get_all(name).map(|value| Some(Cow::Borrowed(value))).collect();
        if !values.is_empty() {
            join.push(name.as_bytes(), values);
        }
    }
}

/// `a=1:b=2,3:c`
struct Joined<'t> {
    text: &'t mut Vec<u8>,
    first: bool,
}

impl Joined<'_> {
    fn push(&mut self, name: &[u8], mut values: Values<'_>) {
        if !std::mem::take(&mut self.first) {
            self.text.push(b':');
        }
        self.text.extend_from_slice(name);
        if let [None] = values.as_slice() {
            return;
        }
        values.sort_unstable();
        self.text.push(b'=');
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.text.push(b',');
            }
            self.text.extend_from_slice(value.as_deref().unwrap_or_default());
        }
    }
}

/// A key as 64 hex digits.
pub fn text(key: &Key) -> String {
    crate::secret::hex(key)
}

/// A key from its 64 hex digits.
pub fn parse(text: &str) -> Option<Key> {
    let bytes = text.as_bytes();
    let mut key = [0; 32];
    if bytes.len() != 64 {
        return None;
    }
    for (to, pair) in key.iter_mut().zip(bytes.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *to = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(key)
}
