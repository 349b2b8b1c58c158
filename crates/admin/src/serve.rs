//! What every request goes through: the path, the body, the verb, and the headers that all answers share.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode;

use crate::answer::{Answer, Outcome, Refusal};
use crate::call::{Body, Call, Query};
use crate::rows::Admin;
use crate::table::{Endpoint, Handle, Table};
use crate::{Settings, body, config, etag};

/// Which of the two APIs is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    Admin,
    Status,
}

/// Serves a table: one handler for every path and verb.
pub fn router(admin: Admin, table: Table, surface: Surface) -> Router {
    let shared = Arc::new((admin.with_patterns(&table), table));
    Router::new().fallback(move |request: Request| {
        let shared = shared.clone();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let answering = async move {
            let (admin, table) = &*shared;
            respond(admin, table, surface, request).await
        };
        async move {
            if reads {
                return answering.await;
            }
            // A client that goes away must not stop a write between the store and the workers.
            tokio::spawn(answering).await.unwrap_or_else(|cause| {
                let answer = Refusal::internal(cause).into_answer();
                let mut response = Response::new(HttpBody::from(answer.body));
                *response.status_mut() = answer.status;
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(crate::answer::JSON));
                response
            })
        }
    })
}

async fn respond(admin: &Admin, table: &Table, surface: Surface, request: Request) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let asked = request.headers().clone();
    let answer = answer(admin, table, request).await.unwrap_or_else(Refusal::into_answer);
    let settings = &admin.settings;

    let mut response = Response::new(HttpBody::empty());
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    if let Some(server) = &settings.server {
        put(headers, header::SERVER, server);
    }
    if surface == Surface::Admin && !answer.bare {
        cross_origin(headers, &asked, settings);
        if settings.latency {
            put(headers, HeaderName::from_static("x-kong-admin-latency"), &started.elapsed().as_millis().to_string());
        }
    }
    if surface == Surface::Status && !answer.bare {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    if let Some(content_type) = answer.content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in answer.headers {
        put(headers, HeaderName::from_static(name), &value);
    }
    if method == Method::HEAD {
        put(headers, header::CONTENT_LENGTH, &answer.body.len().to_string());
    } else {
        *response.body_mut() = HttpBody::from(answer.body);
    }
    response
}

async fn answer(admin: &Admin, table: &Table, request: Request) -> Outcome {
    let (head, http_body) = request.into_parts();
    let path = head.uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let with_body = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    let media_type = body::media_type(&head.headers);
    if with_body && media_type.as_deref().is_some_and(|kind| !body::supported(kind, path == config::PATH)) {
        return Ok(body::unsupported());
    }
    let segments = segments(path)?;
    let Some((endpoint, params)) = table.find(&segments) else { return Ok(Answer::not_found()) };
    let query = Query::parse(head.uri.query().unwrap_or_default());
    if query.len() > body::MAX_ARGUMENTS {
        return Err(body::too_many_arguments());
    }
    let mut call = Call { method: head.method, path: path.to_owned(), params, query, headers: head.headers, body: Body::default() };
    let handle = endpoint.verb(&call.method);
    if handle.is_none() && call.method != Method::OPTIONS {
        return Ok(Answer::message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"));
    }
    if let Some(before) = endpoint.before {
        before(admin, &call).await?;
    }
    let Some(handle) = handle else { return Ok(options(endpoint, &call.headers)) };
    if with_body {
        let raw = axum::body::to_bytes(http_body, admin.settings.body_limit).await;
        let raw = raw.map_err(|_| Refusal::Answer(Answer::page(StatusCode::PAYLOAD_TOO_LARGE).bare()))?;
        if media_type.is_none() && !raw.is_empty() {
            return Ok(body::unsupported());
        }
        call.body = match media_type.as_deref() {
            // A whole configuration may be large: its endpoint reads it, on a thread of its own.
            Some("application/json") if path == config::PATH => Body { media_type, raw, ..Body::default() },
            _ => body::read(&call.headers, media_type, raw).await?,
        };
    }
    etag::answer(admin, table, endpoint, handle, call).await
}

/// Runs one verb of an endpoint.
pub async fn run(admin: &Admin, table: &Table, endpoint: &Endpoint, handle: &Handle, call: Call) -> Outcome {
    match handle {
        Handle::Plain(handler) => handler(admin, &call).await,
        Handle::Whole(handler) => handler(admin, table, &call).await,
        Handle::Scoped(handler) => match &endpoint.scope {
            Some(scope) => handler(admin, &call, scope).await,
            None => Ok(Answer::not_found()),
        },
        Handle::Extension(handler) => Ok(handler(call).await),
    }
}

/// Splits a path and decodes its segments once. An empty segment in the middle matches nothing.
pub fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    path.split('/').skip(1).map(decode_segment).collect()
}

fn decode_segment(segment: &str) -> Result<String, Refusal> {
    let bad = || Refusal::Answer(Answer::page(StatusCode::BAD_REQUEST).bare());
    // As in a query, a plus is a space.
    let segment = segment.replace('+', " ");
    let bytes = segment.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let whole = bytes.iter().enumerate().all(|(at, byte)| *byte != b'%' || (hex(at + 1) && hex(at + 2)));
    if !whole {
        return Err(bad());
    }
    percent_decode(bytes).decode_utf8().map(|text| text.into_owned()).map_err(|_| bad())
}

fn options(endpoint: &Endpoint, asked: &HeaderMap) -> Answer {
    let allow = endpoint.allow();
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok());
    Answer::no_content()
        .header("access-control-allow-methods", allow.clone())
        .header("access-control-allow-headers", wanted.unwrap_or("Content-Type"))
        .header("allow", allow)
}

/// Lets the manager's pages read answers: its own origin, or any if none is configured.
fn cross_origin(headers: &mut HeaderMap, asked: &HeaderMap, settings: &Settings) {
    let origin = asked.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let allowed = match (origin, settings.origins.first()) {
        (Some(origin), None) => origin,
        (None, None) => "*",
        (Some(origin), Some(_)) if settings.origins.iter().any(|known| known == origin) => origin,
        (_, Some(first)) => first,
    };
    put(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
