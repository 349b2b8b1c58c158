//! A finished exchange as the JSON record that log plugins send (behaviour checklist 12.2).
//!
//! The record is written as text, in one pass ([`json`]). Where plugins add fields or take some away, only what they touch is made
//! a tree: their own fields, and those fields of the record whose parts they change.

mod entities;
mod json;

use std::borrow::Cow;

use portcullis_plugin::{Exchange, Headers, LateLogFields, Request, Session, Source, Try, TryState};
use portcullis_schema::Record;
use portcullis_wire::Framing;
use serde_json::{Map, Value, json};

use crate::body;
pub use entities::entity;
use json::Object;

/// The workspace every entity belongs to.
const WORKSPACE_NAME: &str = "default";

/// A record's usual size, so that its buffer grows once at most.
const USUAL_SIZE: usize = 4096;

/// A field of records: its name, and what writes it, if there is something to write.
type Section = (&'static str, fn(&mut Object<'_>, &Exchange<'_>));

/// The record of a request.
const REQUEST: &[Section] = &[
    ("request", |record, exchange| record.object("request", |object| write_request(object, exchange))),
    ("upstream_uri", |record, exchange| record.text("upstream_uri", &upstream_uri(exchange))),
    ("upstream_status", |record, exchange| record.text("upstream_status", exchange.upstream_status.as_bytes())),
    ("response", |record, exchange| record.object("response", |object| write_response(object, exchange))),
    ("latencies", |record, exchange| {
        let latencies = &exchange.latencies;
        record.object("latencies", |object| {
            object.number("kong", latencies.kong);
            object.number("proxy", latencies.proxy);
            object.number("request", latencies.request);
            object.number("receive", latencies.receive);
        });
    }),
    CLIENT_IP,
    STARTED_AT,
    ("source", |record, exchange| record.text("source", exchange.source.log_text().as_bytes())),
    WORKSPACE,
    WORKSPACE_NAMED,
    ("tries", |record, exchange| {
        if exchange.request.route.is_some() {
            record.objects("tries", exchange.tries, write_try);
        }
    }),
    ("authenticated_entity", |record, exchange| {
        if let Some(credential) = &exchange.request.credential {
            record.object("authenticated_entity", |object| object.json("id", json!(credential.id).to_string().as_bytes()));
        }
    }),
    ROUTE,
    SERVICE,
    ("consumer", |record, exchange| {
        if let Some(text) = exchange.request.consumer.as_ref().and_then(entities::consumer) {
            record.json("consumer", &text);
        }
    }),
];

/// The record of a connection without HTTP.
const SESSION: &[Section] = &[
    ("session", |record, exchange| {
        let Some(session) = exchange.request.context.get::<Session>() else { return };
        record.object("session", |object| {
            object.number("received", session.received);
            object.number("sent", session.sent);
            object.number("status", session.status);
            object.number("server_port", exchange.request.client.listen_port);
            write_tls(object, exchange.request);
        });
    }),
    ("upstream", |record, exchange| {
        let Some(session) = exchange.request.context.get::<Session>() else { return };
        record.object("upstream", |object| {
            // Where no upstream was reached there is nothing to count.
            if exchange.source == Source::Service {
                object.number("received", session.sent);
                object.number("sent", session.received);
            }
        });
    }),
    ("latencies", |record, exchange| {
        record.object("latencies", |object| {
            object.number("kong", exchange.latencies.kong);
            object.number("session", exchange.latencies.request);
        });
    }),
    CLIENT_IP,
    STARTED_AT,
    WORKSPACE,
    WORKSPACE_NAMED,
    ("tries", |record, exchange| record.objects("tries", exchange.tries, write_try)),
    ROUTE,
    SERVICE,
];

const CLIENT_IP: Section = ("client_ip", |record, exchange| {
    record.text("client_ip", exchange.request.client.forwarded_ip.map(|ip| ip.to_string()).unwrap_or_default().as_bytes());
});
const STARTED_AT: Section = ("started_at", |record, exchange| record.number("started_at", exchange.request.started_at_ms));
const WORKSPACE: Section = ("workspace", |record, exchange| {
    let workspace = exchange.request.directory.workspace();
    record.text("workspace", workspace.hyphenated().encode_lower(&mut [0; 36]).as_bytes());
});
const WORKSPACE_NAMED: Section = ("workspace_name", |record, _| record.text("workspace_name", WORKSPACE_NAME.as_bytes()));
const ROUTE: Section = ("route", |record, exchange| {
    let request = exchange.request;
    if let Some(text) = request.route.as_ref().and_then(|route| entities::route(route, request.directory.workspace())) {
        record.json("route", &text);
    }
});
const SERVICE: Section = ("service", |record, exchange| {
    let request = exchange.request;
    if let Some(text) = request.service.as_ref().and_then(|service| entities::service(service, request.directory.workspace())) {
        record.json("service", &text);
    }
});

/// Everything there is to tell, with the fields that plugins added or took away, as JSON text.
pub fn text(exchange: &Exchange<'_>) -> Vec<u8> {
    text_with(exchange, &[])
}

/// The same with further fields, by dotted path; null takes one away.
pub fn text_with(exchange: &Exchange<'_>, fields: &[(&str, Value)]) -> Vec<u8> {
    let request = exchange.request;
    let sections = if request.context.get::<Session>().is_some() { SESSION } else { REQUEST };
    let late = request.context.get::<LateLogFields>().map(|late| late.0.borrow());
    let late = late.iter().flat_map(|late| late.iter());
    let asked = request.log_fields.iter().chain(late).map(|(path, value)| (path.as_str(), value));
    let mut changes = asked.chain(fields.iter().map(|(path, value)| (*path, value))).peekable();
    let mut out = Vec::with_capacity(USUAL_SIZE);
    if changes.peek().is_none() {
        Object::write(&mut out, |record| sections.iter().for_each(|(_, write)| write(record, exchange)));
        return out;
    }
    let mut changed = Record::new();
    let mut touched = 0_u32;
    for (path, value) in changes {
        let first = bare(path).split('.').next().unwrap_or_default();
        if let Some(at) = sections.iter().position(|(name, _)| *name == first).filter(|at| touched & (1 << at) == 0) {
            touched |= 1 << at;
            out.clear();
            Object::write(&mut out, |record| sections[at].1(record, exchange));
            // What we wrote ourselves is JSON.
            changed.append(&mut serde_json::from_slice(&out).unwrap_or_default());
        }
        add(&mut changed, path, value);
    }
    out.clear();
    Object::write(&mut out, |record| {
        let untouched = sections.iter().enumerate().filter(|(at, _)| touched & (1 << at) == 0);
        untouched.for_each(|(_, (_, write))| write(record, exchange));
        changed.iter().for_each(|(name, value)| record.tree(name, value));
    });
    out
}

/// Everything there is to tell, as a tree.
pub fn record(exchange: &Exchange<'_>) -> Record {
    // What we wrote ourselves is JSON.
    serde_json::from_slice(&text(exchange)).unwrap_or_default()
}

/// A path without the word before it that says under which condition it counts.
fn bare(path: &str) -> &str {
    path.strip_prefix("add:").or_else(|| path.strip_prefix("replace:")).unwrap_or(path)
}

/// Adds a field as a plugin asked for it: see [`Request::log_fields`].
fn add(record: &mut Record, path: &str, value: &Value) {
    match path.split_once(':') {
        Some(("add", path)) if at(record, path).is_some() => {}
        Some(("replace", path)) if at(record, path).is_none() => {}
        Some(("add" | "replace", path)) => set(record, path, value.clone()),
        _ => set(record, path, value.clone()),
    }
}

/// The field at a dotted path.
fn at<'a>(record: &'a Record, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    match (record.get(first)?, rest) {
        (value, None) => Some(value),
        (Value::Object(inner), Some(rest)) => at(inner, rest),
        _ => None,
    }
}

/// Sets the field at a dotted path, making the objects on the way; null takes it away.
pub fn set(record: &mut Record, path: &str, value: Value) {
    let Some((first, rest)) = path.split_once('.') else {
        if value.is_null() {
            record.remove(path);
        } else {
            record.insert(path.to_owned(), value);
        }
        return;
    };
    if value.is_null() && !record.contains_key(first) {
        return;
    }
    let inner = record.entry(first).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        set(inner, rest, value);
    }
}

fn write_request(object: &mut Object<'_>, exchange: &Exchange<'_>) {
    let request = exchange.request;
    let head = &request.head;
    // What plugins made of the query is what is told of it; without a route it is the client's.
    let query = if request.route.is_some() { request.upstream.query.as_deref() } else { head.query() };
    let scheme = if request.client.https { "https" } else { "http" };
    let mut url = format!("{scheme}://{}:{}", host(request), request.client.listen_port).into_bytes();
    url.extend_from_slice(head.target());
    object.text("id", request.id.as_str().as_bytes());
    object.text("method", head.method_text());
    object.text("uri", head.target());
    object.text("url", &url);
    match query {
        None | Some(b"") => object.json("querystring", b"{}"),
        Some(query) => object.json("querystring", body::arguments_value(query).to_string().as_bytes()),
    }
    object.object("headers", |object| {
        write_headers(object, &head.headers, |name| matches!(name, b"authorization" | b"proxy-authorization"));
    });
    object.number("size", exchange.request_bytes);
    write_tls(object, request);
}

/// What the client's handshake settled, if there was one.
fn write_tls(object: &mut Object<'_>, request: &Request) {
    let Some(tls) = &request.client.peer.tls else { return };
    object.object("tls", |object| {
        object.text("version", tls.version.as_bytes());
        object.text("cipher", tls.cipher.as_bytes());
        object.text("client_verify", tls.client_verify.as_bytes());
    });
}

fn write_response(object: &mut Object<'_>, exchange: &Exchange<'_>) {
    let response = exchange.response;
    object.number("status", response.status);
    object.object("headers", |object| {
        write_headers(object, &response.headers, |_| false);
        // What the engine adds while it writes the head.
        let absent = |name| response.headers.get(name).is_none();
        match response.framing {
            Framing::Length(length) if absent("content-length") => object.text("content-length", length.to_string().as_bytes()),
            Framing::Chunked if absent("transfer-encoding") => object.text("transfer-encoding", b"chunked"),
            _ => {}
        }
        if absent("connection") {
            object.text("connection", if exchange.request.head.keep_alive { b"keep-alive" } else { b"close" });
        }
    });
    object.number("size", exchange.response_bytes);
}

fn write_try(attempt: &Try, object: &mut Object<'_>) {
    object.number("balancer_start", attempt.balancer_start_ms);
    object.number("balancer_start_ns", attempt.balancer_start_ns);
    object.number("balancer_latency", attempt.balancer_latency_ns / 1_000_000);
    object.number("balancer_latency_ns", attempt.balancer_latency_ns);
    if let Some(address) = attempt.address {
        object.text("ip", address.ip().to_string().as_bytes());
        object.number("port", address.port());
    }
    // Kong learns how a try ended when it makes the next one, so of the last it tells nothing.
    if attempt.state == Some(TryState::Next) {
        object.text("state", b"failed");
        match attempt.code {
            Some(code) => object.number("code", code),
            None => object.json("code", b"null"),
        }
    }
}

/// Headers by lower-case name; repeated ones as a list.
fn write_headers(object: &mut Object<'_>, headers: &Headers, secret: impl Fn(&[u8]) -> bool) {
    for (at, (name, value)) in headers.iter().enumerate() {
        let same = |other: &[u8]| other.eq_ignore_ascii_case(name);
        if headers.iter().take(at).any(|(earlier, _)| same(earlier)) {
            continue;
        }
        let lower = name.to_ascii_lowercase();
        if secret(&lower) {
            object.texts(&lower, std::iter::once(&b"REDACTED"[..]));
            continue;
        }
        let later = headers.iter().skip(at + 1).filter(|(other, _)| same(other)).map(|(_, value)| value);
        object.texts(&lower, std::iter::once(value).chain(later));
    }
}

/// Path and query of the upstream's request. When there was none: those it would have had, or nothing without a route.
fn upstream_uri<'a>(exchange: &'a Exchange<'_>) -> Cow<'a, [u8]> {
    let request = exchange.request;
    let path = &request.upstream.path;
    match (exchange.upstream_uri, &request.upstream.query) {
        (Some(uri), _) => uri.into(),
        (None, _) if request.route.is_none() => (&b""[..]).into(),
        (None, Some(query)) if !query.is_empty() || request.head.target().ends_with(b"?") => [path, &b"?"[..], query].concat().into(),
        (None, _) => path.into(),
    }
}

/// The host the client asked for, in lower case and without the port.
fn host(request: &Request) -> String {
    let authority = request.head.authority().or_else(|| request.head.headers.get("host")).unwrap_or_default();
    let authority = String::from_utf8_lossy(authority);
    let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    authority[..port.unwrap_or(authority.len())].to_ascii_lowercase()
}
