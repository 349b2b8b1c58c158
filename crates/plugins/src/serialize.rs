//! A finished exchange as the JSON record that log plugins send (behaviour checklist 12.2).

use portcullis_plugin::{Exchange, Headers, LateLogFields, Request, Session, Try, TryState};
use portcullis_schema::Record;
use portcullis_wire::Framing;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::body;

/// The workspace every entity belongs to.
const WORKSPACE_NAME: &str = "default";

/// Everything there is to tell, with the fields that plugins added or took away.
pub fn record(exchange: &Exchange<'_>) -> Record {
    let request = exchange.request;
    if let Some(session) = request.context.get::<Session>() {
        return session_record(exchange, session);
    }
    let workspace = request.directory.workspace();
    let latencies = &exchange.latencies;
    let mut out = Record::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("request", described_request(exchange));
    put("upstream_uri", text(&upstream_uri(exchange)).into());
    put("upstream_status", exchange.upstream_status.into());
    put("response", described_response(exchange));
    put(
        "latencies",
        json!({ "kong": latencies.kong, "proxy": latencies.proxy, "request": latencies.request, "receive": latencies.receive }),
    );
    put("client_ip", request.client.forwarded_ip.map(|ip| ip.to_string()).unwrap_or_default().into());
    put("started_at", request.started_at_ms.into());
    put("source", exchange.source.log_text().into());
    put("workspace", json!(workspace));
    put("workspace_name", WORKSPACE_NAME.into());
    if request.route.is_some() {
        put("tries", exchange.tries.iter().map(described_try).collect());
    }
    if let Some(credential) = &request.credential {
        put("authenticated_entity", json!({ "id": credential.id }));
    }
    for (name, value) in [
        ("route", request.route.as_deref().and_then(|route| entity(route, Some(workspace)))),
        ("service", request.service.as_deref().and_then(|service| entity(service, Some(workspace)))),
        ("consumer", request.consumer.as_deref().and_then(|consumer| entity(consumer, None))),
    ] {
        if let Some(value) = value {
            put(name, value);
        }
    }
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
    put("tries", exchange.tries.iter().map(described_try).collect());
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

/// An entity as the gateway holds it: without what is null, with its workspace if asked for.
pub fn entity(entity: &impl Serialize, workspace: Option<Uuid>) -> Option<Value> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(entity) else { return None };
    fields.retain(|_, value| !value.is_null());
    if let Some(workspace) = workspace {
        fields.insert("ws_id".to_owned(), json!(workspace));
    }
    Some(Value::Object(fields))
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

fn described_request(exchange: &Exchange<'_>) -> Value {
    let request = exchange.request;
    let head = &request.head;
    let mut headers = described_headers(&head.headers);
    for secret in ["authorization", "proxy-authorization"] {
        if let Some(value) = headers.get_mut(secret) {
            *value = "REDACTED".into();
        }
    }
    // What plugins made of the query is what is told of it; without a route it is the client's.
    let query = if request.route.is_some() { request.upstream.query.as_deref() } else { head.query() };
    let uri = text(head.target());
    let scheme = if request.client.https { "https" } else { "http" };
    let mut out = json!({
        "id": request.id.as_str(),
        "method": text(head.method_text()),
        "uri": uri,
        "url": format!("{scheme}://{}:{}{uri}", host(request), request.client.listen_port),
        "querystring": body::arguments_value(query.unwrap_or_default()),
        "headers": headers,
        "size": exchange.request_bytes,
    });
    if let Some(tls) = &request.client.peer.tls {
        out["tls"] = json!({ "version": tls.version, "cipher": tls.cipher, "client_verify": "NONE" });
    }
    out
}

fn described_response(exchange: &Exchange<'_>) -> Value {
    let response = exchange.response;
    let mut headers = described_headers(&response.headers);
    match response.framing {
        Framing::Length(length) => {
            headers.entry("content-length").or_insert_with(|| length.to_string().into());
        }
        Framing::Chunked => {
            headers.entry("transfer-encoding").or_insert_with(|| "chunked".into());
        }
        Framing::None | Framing::UntilClose => {}
    }
    let connection = if exchange.request.head.keep_alive { "keep-alive" } else { "close" };
    headers.entry("connection").or_insert_with(|| connection.into());
    json!({ "status": response.status, "headers": headers, "size": exchange.response_bytes })
}

fn described_try(attempt: &Try) -> Value {
    let mut out = json!({
        "balancer_start": attempt.balancer_start_ms,
        "balancer_start_ns": attempt.balancer_start_ns,
        "balancer_latency": attempt.balancer_latency_ns / 1_000_000,
        "balancer_latency_ns": attempt.balancer_latency_ns,
    });
    if let Some(address) = attempt.address {
        out["ip"] = address.ip().to_string().into();
        out["port"] = address.port().into();
    }
    // Kong learns how a try ended when it makes the next one, so of the last it tells nothing.
    if attempt.state == Some(TryState::Next) {
        out["state"] = "failed".into();
        out["code"] = json!(attempt.code);
    }
    out
}

/// Headers by lower-case name; repeated ones as a list.
fn described_headers(headers: &Headers) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, value) in headers.iter() {
        body::collect(&mut out, text(name).to_ascii_lowercase(), text(value).into());
    }
    out
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
    let authority = request.head.authority().or_else(|| request.head.headers.get("host")).map(text).unwrap_or_default();
    let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    authority[..port.unwrap_or(authority.len())].to_ascii_lowercase()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
