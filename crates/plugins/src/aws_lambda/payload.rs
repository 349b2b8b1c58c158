//! The event a function gets of a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_plugin::{Captures, Request};
use serde_json::{Map, Value, json};

use super::Config;
use crate::body::{self, Body, Type};
use crate::sigv4;

/// The event, as JSON.
pub fn event(config: &Config, request: &Request) -> Vec<u8> {
    let on = |setting: Option<bool>| setting == Some(true);
    let event = if on(config.awsgateway_compatible) {
        gateway(config, request)
    } else if [config.forward_request_body, config.forward_request_headers, config.forward_request_method, config.forward_request_uri]
        .into_iter()
        .any(on)
    {
        forwarded(config, request)
    } else {
        let mut merged = as_fields(arguments(request));
        merged.extend(as_fields(body_arguments(request)));
        Value::Object(merged)
    };
    event.to_string().into_bytes()
}

fn as_fields(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

fn given_body(request: &Request) -> &[u8] {
    request.upstream.body.as_deref().or(request.body.as_deref()).unwrap_or_default()
}

/// The query's arguments: an argument without `=` is `true`, several of a name are a list.
fn arguments(request: &Request) -> Value {
    body::arguments_value(request.upstream.query.as_deref().unwrap_or_default())
}

/// The body's fields where it has a type that carries some.
fn body_arguments(request: &Request) -> Value {
    let fields = request.head.headers.get("content-type").and_then(|content_type| {
        let kind = body::type_of(content_type)?;
        match (kind, Body::parse(content_type, given_body(request))?) {
            (Type::Json, Body::Json(value @ Value::Object(_))) => Some(value),
            (_, parsed) => Some(parsed.to_value()),
        }
    });
    fields.filter(Value::is_object).unwrap_or_else(|| json!({}))
}

fn forwarded(config: &Config, request: &Request) -> Value {
    let mut event = Map::new();
    if config.forward_request_method == Some(true) {
        event.insert("request_method".to_owned(), text(request.head.method_text()).into());
    }
    if config.forward_request_headers == Some(true) {
        event.insert("request_headers".to_owned(), headers(request));
    }
    if config.forward_request_uri == Some(true) {
        event.insert("request_uri".to_owned(), text(request.head.target()).into());
        event.insert("request_uri_args".to_owned(), arguments(request));
    }
    if config.forward_request_body == Some(true) {
        let bytes = given_body(request);
        let content_type = request.head.headers.get("content-type").and_then(body::type_of);
        let is_text = content_type.is_some() || request.head.headers.get("content-type").is_some_and(|of| of.starts_with(b"text/"));
        let encodes = !is_text && config.base64_encode_body != Some(false);
        let told = if encodes { STANDARD.encode(bytes) } else { text(bytes) };
        event.insert("request_body".to_owned(), told.into());
        event.insert("request_body_args".to_owned(), body_arguments(request));
        if encodes {
            event.insert("request_body_base64".to_owned(), true.into());
        }
    }
    Value::Object(event)
}

/// Names in lower case; several values of a name are a list.
fn headers(request: &Request) -> Value {
    let mut all = Map::new();
    for (name, value) in request.head.headers.iter() {
        body::collect(&mut all, text(name).to_ascii_lowercase(), text(value).into());
    }
    Value::Object(all)
}

/// The event that Amazon's API Gateway would send, version 1.0.
fn gateway(config: &Config, request: &Request) -> Value {
    let many = |value: Value| -> Map<String, Value> {
        let list = |value: Value| if value.is_array() { value } else { json!([value]) };
        as_fields(value).into_iter().map(|(name, value)| (name, list(value))).collect()
    };
    // Of several values the first.
    let single = |many: &Map<String, Value>| -> Map<String, Value> {
        many.iter().map(|(name, values)| (name.clone(), values.get(0).cloned().unwrap_or_default())).collect()
    };
    let (many_headers, many_arguments) = (many(headers(request)), many(arguments(request)));
    let bytes = given_body(request);
    let encodes = !bytes.is_empty() && config.base64_encode_body != Some(false);
    let body = if encodes { STANDARD.encode(bytes) } else { text(bytes) };
    let host = request.head.headers.get("host").map(text).unwrap_or_default();
    let host =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host.as_str(), |(name, _)| name);
    let path = text(&request.upstream.path);
    let named = request.captures.as_deref().map(parameters).unwrap_or_default();
    let mut identity = Map::new();
    let address = request.client.forwarded_ip.map_or_else(String::new, |ip| ip.to_string());
    identity.insert("sourceIp".to_owned(), address.into());
    if let Some(agent) = request.head.headers.get("user-agent") {
        identity.insert("userAgent".to_owned(), text(agent).into());
    }
    let seconds = request.started_at_ms / 1000;
    json!({
        "path": path,
        "httpMethod": text(request.head.method_text()),
        "headers": single(&many_headers),
        "multiValueHeaders": many_headers,
        "pathParameters": named,
        "queryStringParameters": single(&many_arguments),
        "multiValueQueryStringParameters": many_arguments,
        "requestContext": {
            "path": path,
            "protocol": format!("HTTP/{}", request.head.version.text()),
            "httpMethod": text(request.head.method_text()),
            "domainName": host,
            "domainPrefix": host.split('.').next().unwrap_or_default(),
            "identity": identity,
            "requestId": request.id.as_str(),
            "requestTime": sigv4::common_log_time(seconds),
            "requestTimeEpoch": request.started_at_ms,
            "resourcePath": path,
        },
        "body": body,
        "isBase64Encoded": encodes,
        "version": "1.0",
    })
}

fn parameters(captures: &Captures) -> Map<String, Value> {
    captures.named.iter().map(|(name, value)| (name.to_string(), Value::String(value.to_string()))).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
