//! A finished exchange as the JSON record that log plugins send (behaviour checklist 12.2).
//!
//! The record is written as text at once ([`json`]); where plugins added fields or took some away it is read back, changed and
//! written again.

mod entities;
mod json;

use std::rc::Rc;

use portcullis_plugin::{Exchange, Headers, LateLogFields, Request, Session, Try, TryState};
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

/// Everything there is to tell, with the fields that plugins added or took away, as JSON text.
pub fn text(exchange: &Exchange<'_>) -> Vec<u8> {
    let changed = !exchange.request.log_fields.is_empty() || exchange.request.context.get::<LateLogFields>().is_some();
    if changed || exchange.request.context.get::<Session>().is_some() {
        // A record's keys are texts, so writing it cannot fail.
        return serde_json::to_vec(&record(exchange)).unwrap_or_default();
    }
    plain(exchange)
}

/// The same as a tree.
pub fn record(exchange: &Exchange<'_>) -> Record {
    let request = exchange.request;
    if let Some(session) = request.context.get::<Session>() {
        return session_record(exchange, session);
    }
    // What we wrote ourselves is JSON.
    let mut out = serde_json::from_slice(&plain(exchange)).unwrap_or_default();
    for (path, value) in &request.log_fields {
        add(&mut out, path, value);
    }
    if let Some(late) = request.context.get::<LateLogFields>() {
        for (path, value) in &*late.0.borrow() {
            add(&mut out, path, value);
        }
    }
    out
}

/// The record before plugins' changes.
fn plain(exchange: &Exchange<'_>) -> Vec<u8> {
    let request = exchange.request;
    let workspace = request.directory.workspace();
    let latencies = &exchange.latencies;
    let mut out = Vec::with_capacity(USUAL_SIZE);
    Object::write(&mut out, |record| {
        record.object("request", |object| write_request(object, exchange));
        record.text("upstream_uri", &upstream_uri(exchange));
        record.text("upstream_status", exchange.upstream_status.as_bytes());
        record.object("response", |object| write_response(object, exchange));
        record.object("latencies", |object| {
            object.number("kong", latencies.kong);
            object.number("proxy", latencies.proxy);
            object.number("request", latencies.request);
            object.number("receive", latencies.receive);
        });
        record.text("client_ip", request.client.forwarded_ip.map(|ip| ip.to_string()).unwrap_or_default().as_bytes());
        record.number("started_at", request.started_at_ms);
        record.text("source", exchange.source.log_text().as_bytes());
        record.text("workspace", workspace.hyphenated().encode_lower(&mut [0; 36]).as_bytes());
        record.text("workspace_name", WORKSPACE_NAME.as_bytes());
        if request.route.is_some() {
            record.objects("tries", exchange.tries, write_try);
        }
        if let Some(credential) = &request.credential {
            record.object("authenticated_entity", |object| object.json("id", json!(credential.id).to_string().as_bytes()));
        }
        let told: [(&str, Option<Rc<[u8]>>); 3] = [
            ("route", request.route.as_ref().and_then(|route| entities::route(route, workspace))),
            ("service", request.service.as_ref().and_then(|service| entities::service(service, workspace))),
            ("consumer", request.consumer.as_ref().and_then(entities::consumer)),
        ];
        for (name, text) in told {
            if let Some(text) = text {
                record.json(name, &text);
            }
        }
    });
    out
}

/// A connection without HTTP.
fn session_record(exchange: &Exchange<'_>, session: &Session) -> Record {
    let request = exchange.request;
    let workspace = request.directory.workspace();
    let mut facts = json!({
        "received": session.received,
        "sent": session.sent,
        "status": session.status,
        "server_port": request.client.listen_port,
    });
    if let (Some(tls), Value::Object(facts)) = (&request.client.peer.tls, &mut facts) {
        facts.insert("tls".to_owned(), json!({ "version": tls.version, "cipher": &*tls.cipher, "client_verify": "NONE" }));
    }
    let mut out = Record::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("session", facts);
    put("upstream", json!({ "received": session.sent, "sent": session.received }));
    put("latencies", json!({ "kong": exchange.latencies.kong, "session": exchange.latencies.request }));
    put("client_ip", request.client.forwarded_ip.map(|ip| ip.to_string()).unwrap_or_default().into());
    put("started_at", request.started_at_ms.into());
    put("source", exchange.source.log_text().into());
    put("tries", described_tries(exchange.tries));
    put("workspace", json!(workspace));
    put("workspace_name", WORKSPACE_NAME.into());
    for (name, value) in [
        ("route", request.route.as_deref().and_then(|route| entity(route, Some(workspace)))),
        ("service", request.service.as_deref().and_then(|service| entity(service, Some(workspace)))),
    ] {
        if let Some(value) = value {
            put(name, value);
        }
    }
    for (path, value) in &request.log_fields {
        set(&mut out, path, value.clone());
    }
    out
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
    if let Some(tls) = &request.client.peer.tls {
        object.object("tls", |object| {
            object.text("version", tls.version.as_bytes());
            object.text("cipher", tls.cipher.as_bytes());
            object.text("client_verify", b"NONE");
        });
    }
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

fn described_tries(tries: &[Try]) -> Value {
    let mut out = Vec::new();
    Object::write(&mut out, |object| object.objects("tries", tries, write_try));
    serde_json::from_slice::<Record>(&out).ok().and_then(|mut object| object.remove("tries")).unwrap_or_default()
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

/// Path and query of the upstream's request. When there was none: the path it would have had, or nothing without a route.
fn upstream_uri<'a>(exchange: &'a Exchange<'_>) -> std::borrow::Cow<'a, [u8]> {
    match exchange.upstream_uri {
        Some(uri) => uri.into(),
        None if exchange.request.route.is_some() => exchange.request.upstream.path.as_slice().into(),
        None => (&b""[..]).into(),
    }
}

/// The host the client asked for, in lower case and without the port.
fn host(request: &Request) -> String {
    let authority = request.head.authority().or_else(|| request.head.headers.get("host")).unwrap_or_default();
    let authority = String::from_utf8_lossy(authority);
    let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    authority[..port.unwrap_or(authority.len())].to_ascii_lowercase()
}
