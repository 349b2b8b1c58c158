//! Requests to models as clients send them: read, told apart, replaced.

use portcullis_plugin::{Answer, Request};
use serde_json::{Map, Value, json};

pub const COMPLETIONS: &str = "llm/v1/completions";
pub const PRESERVE: &str = "preserve";

/// Bytes of a request that are held in memory anyway: a smaller limit does not shut them out, as in Kong.
const HELD_ANYWAY: u64 = 8 << 10;

/// How much of a body is read, in bytes.
pub fn body_limit(configured: Option<u64>) -> Option<u64> {
    Some(configured.unwrap_or(HELD_ANYWAY).max(HELD_ANYWAY))
}

/// The body as plugins before have left it.
pub fn body(request: &Request) -> Option<&[u8]> {
    request.upstream.body.as_deref().or(request.body.as_deref())
}

/// The body if it is a JSON object, and says so.
pub fn json_body(request: &Request) -> Option<Map<String, Value>> {
    let content_type = request.head.headers.get("content-type")?;
    if !content_type.to_ascii_lowercase().starts_with(b"application/json") {
        return None;
    }
    match serde_json::from_slice(body(request)?) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

/// What goes on in place of the body, seen by plugins behind this one, too.
pub fn replace_body(request: &mut Request, body: Vec<u8>) {
    request.upstream.body = None;
    request.body = Some(body);
}

/// An answer in the form that OpenAI's errors have.
pub fn refusal(status: u16, message: impl Into<String>) -> Answer {
    Answer::json(status, json!({ "error": { "message": message.into() } }))
}

/// The route type a request is of. Errors with what the client is told.
pub fn route_type_of(fields: &Map<String, Value>) -> Result<&'static str, &'static str> {
    let chat = fields.get("messages").and_then(Value::as_array).is_some_and(|messages| !messages.is_empty());
    let completions = fields.get("prompt").is_some_and(Value::is_string);
    match (chat, completions) {
        (true, true) => Err("request matches multiple LLM request formats"),
        (true, false) => Ok(super::CHAT),
        (false, true) => Ok(COMPLETIONS),
        (false, false) => Err("request body doesn't contain valid prompts"),
    }
}

/// Role and text of each message.
pub fn messages(fields: &Map<String, Value>) -> impl DoubleEndedIterator<Item = (&str, String)> {
    let list = fields.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|message| (message.get("role").and_then(Value::as_str).unwrap_or("user"), text_of(message.get("content"))))
}

/// The text of a message's content: itself, or that of its parts.
pub fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}
