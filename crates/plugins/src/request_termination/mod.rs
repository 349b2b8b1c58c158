//! request-termination: answers requests itself, always or when a header or query argument asks for it.
//!
//! With `echo` the answer tells what the gateway made of the request: useful to find out how routing works.

use std::sync::Arc;

use portcullis_plugin::{Answer, Env, Handler, Instance, Node, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Fields, Record};
use portcullis_wire::Framing;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::arguments;
use crate::body::{self, Body};
use crate::serialize::entity;

/// How much of a body an echo repeats, in bytes.
const MAX_BODY: u64 = 1 << 20;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The status of the answer.
    #[field(integer().required().between(100, 599).default(503))]
    pub status_code: u16,
    /// The message of a JSON answer.
    #[field(string())]
    pub message: Option<String>,
    /// The type of `body`.
    #[field(string())]
    pub content_type: Option<String>,
    /// The answer's body, sent as it is.
    #[field(string())]
    pub body: Option<String>,
    /// Whether the answer tells what the gateway knows of the request.
    #[field(boolean().required().default(false))]
    pub echo: bool,
    /// Only requests with a header or query argument of this name are answered; the others pass.
    #[field(header_name())]
    pub trigger: Option<String>,
}

/// See the module's description.
pub struct RequestTermination {
    config: Config,
    message: Option<String>,
    node: Arc<dyn Node>,
}

impl Plugin for RequestTermination {
    const NAME: &'static str = "request-termination";
    const PRIORITY: i32 = 2;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let message = config.message.clone().or_else(|| default_message(config.status_code).map(str::to_owned));
        Ok(Self { config, message, node: env.node.clone() })
    }

    fn checks() -> Vec<Check> {
        vec![Check::Hidden { fields: vec!["config"], check: check_combination }]
    }
}

/// What goes together with what.
fn check_combination(record: &Record) -> std::result::Result<(), Vec<(String, Value)>> {
    let Some(config) = record.get("config").and_then(Value::as_object) else { return Ok(()) };
    let given = |name: &str| config.get(name).is_some_and(|value| !value.is_null());
    let complaint = if given("message") && (given("content_type") || given("body")) {
        "message cannot be used with content_type or body"
    } else if given("content_type") && !given("body") {
        "content_type requires a body"
    } else if config.get("echo") == Some(&Value::Bool(true)) && (given("content_type") || given("body")) {
        "echo cannot be used with content_type and body"
    } else {
        return Ok(());
    };
    Err(vec![("config".to_owned(), complaint.into())])
}

fn default_message(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => "Unauthorized",
        404 => "Not found",
        405 => "Method not allowed",
        500 => "An unexpected error occurred",
        502 => "Bad Gateway",
        503 => "Service unavailable",
        _ => return None,
    })
}

impl Handler for RequestTermination {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        (self.config.echo && request.head.framing != Framing::None && self.is_triggered(request)).then_some(MAX_BODY)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if !self.is_triggered(request) {
            return Step::Next;
        }
        let status = self.config.status_code;
        Step::answer(match (&self.config.body, &self.message) {
            _ if self.config.echo => Answer::json(status, self.echo(request)),
            (Some(body), _) => Answer::bytes(status, self.config.content_type.clone().map(Into::into), body.as_bytes().to_vec()),
            (None, Some(message)) => Answer::json(status, json!({ "message": message })),
            (None, None) => Answer::status(status),
        })
    }
}

impl RequestTermination {
    fn is_triggered(&self, request: &Request) -> bool {
        let Some(trigger) = &self.config.trigger else { return true };
        let query = request.upstream.query.as_deref().unwrap_or_default();
        request.head.headers.contains(trigger) || !arguments::find(query, trigger).is_absent()
    }

    fn echo(&self, request: &Request) -> Value {
        let mut echo = json!({
            "kong": { "node_id": self.node.id(), "worker_pid": std::process::id(), "hostname": self.node.hostname() },
            "request": describe(request),
        });
        let workspace = request.directory.workspace();
        let route = request.route.as_deref().and_then(|route| entity(route, Some(workspace)));
        let service = request.service.as_deref().and_then(|service| entity(service, Some(workspace)));
        for (name, value) in [("message", self.message.clone().map(Value::String)), ("matched_route", route), ("matched_service", service)]
        {
            if let Some(value) = value {
                echo[name] = value;
            }
        }
        echo
    }
}

fn describe(request: &Request) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let head = &request.head;
    let mut headers = Map::new();
    for (name, value) in head.headers.iter() {
        body::collect(&mut headers, text(name).to_ascii_lowercase(), text(value).into());
    }
    let authority = head.headers.get("host").map(text).unwrap_or_default();
    let captures = request.captures.as_deref();
    let unnamed: Vec<_> = captures.iter().flat_map(|captures| captures.numbered.iter().skip(1)).collect();
    let named: Map<String, Value> =
        captures.iter().flat_map(|captures| &captures.named).map(|(name, value)| (name.to_string(), (&**value).into())).collect();
    let mut out = json!({
        "scheme": if request.client.https { "https" } else { "http" },
        "host": host_of(&authority),
        "port": request.client.listen_port,
        "headers": headers,
        "query": body::arguments_value(head.query().unwrap_or_default()),
        "raw_body": text(request.body.as_deref().unwrap_or_default()),
        "method": text(head.method_text()),
        "path": text(&portcullis_schema::address::normalize_path(&text(head.path()))),
        "uri_captures": { "named": named, "unnamed": unnamed },
    });
    if let Some(body) = Body::of(request) {
        out["body"] = body.to_value();
    }
    out
}

/// The host of a Host header, without the port.
fn host_of(authority: &str) -> String {
    let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    authority[..port.unwrap_or(authority.len())].to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
