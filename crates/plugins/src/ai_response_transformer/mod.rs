//! ai-response-transformer: has a language model rewrite what the upstream answered.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis_plugin::{Answer, Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Fields};
use serde::Deserialize;
use serde_json::Value;

use crate::ai;
use crate::ai::ask::{Assistant, Settings};
use crate::ai::request::{self, refusal};
use crate::client::{Client, Clients, Connections, Incoming, Outgoing};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// What the model is told to do.
    #[field(string().required())]
    pub prompt: String,
    /// A regular expression for the part of the model's answer that is used.
    #[field(string().shown("required", false))]
    pub transformation_extract_pattern: Option<String>,
    /// Whether the model answers with JSON that tells headers, status and body.
    #[field(switch(false))]
    pub parse_llm_response_json_instructions: bool,
    /// Milliseconds the model may take.
    #[field(integer().required().default(60000))]
    pub http_timeout: i64,
    /// Whether the model's certificate is checked.
    #[field(switch(true))]
    pub https_verify: bool,
    /// Bytes of a body that are looked at.
    #[field(ai::max_request_body_size())]
    pub max_request_body_size: Option<u64>,
    /// The proxy for plain requests to the model.
    #[field(host())]
    pub http_proxy_host: Option<String>,
    /// Its port.
    #[field(port())]
    pub http_proxy_port: Option<u16>,
    /// The proxy for encrypted requests to the model.
    #[field(host())]
    pub https_proxy_host: Option<String>,
    /// Its port.
    #[field(port())]
    pub https_proxy_port: Option<u16>,
    /// The model and how it is asked.
    #[field(record::<ai::Llm>().required().checks(ai::llm_checks()))]
    pub llm: ai::Llm,
}

/// See the module's description.
pub struct AiResponseTransformer {
    assistant: Assistant,
    client: Client,
    timeout: Duration,
    follows_instructions: bool,
    max_body: Option<u64>,
}

impl Plugin for AiResponseTransformer {
    const NAME: &'static str = "ai-response-transformer";
    const PRIORITY: i32 = 768;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let settings = Settings {
            llm: config.llm,
            prompt: config.prompt,
            pattern: config.transformation_extract_pattern,
            timeout_ms: config.http_timeout,
            verify: config.https_verify,
            http_proxy: config.http_proxy_host.zip(config.http_proxy_port),
            https_proxy: config.https_proxy_host.zip(config.https_proxy_port),
        };
        let connections = Connections { verify: false, keepalive: Duration::from_secs(60) };
        Ok(Self {
            assistant: Assistant::new(settings, env)?,
            client: env.state.get::<Clients>().with(connections, env),
            timeout: Duration::from_millis(u64::try_from(config.http_timeout).unwrap_or(0).max(1)),
            follows_instructions: config.parse_llm_response_json_instructions,
            max_body: config.max_request_body_size,
        })
    }

    fn checks() -> Vec<Check> {
        ai::transformer_checks()
    }
}

impl Handler for AiResponseTransformer {
    fn body_limit(&self, _: &Request) -> Option<u64> {
        request::body_limit(self.max_body)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        Step::later(async move {
            let answer = match self.transformed(request).await {
                Ok(answer) => answer,
                Err((status, message)) => refusal(status, message),
            };
            Ok(Some(Box::new(answer)))
        })
    }
}

impl AiResponseTransformer {
    /// The upstream's answer as the model makes it. Errors with status and message for the client.
    async fn transformed(&self, request: &mut Request) -> std::result::Result<Answer, (u16, String)> {
        let outgoing = self.forwarded(request).map_err(|error| (500, error))?;
        let answered = self.client.send(outgoing).await.map_err(|error| (500, format!("failed to proxy request to upstream: {error}")))?;
        let given = String::from_utf8_lossy(&answered.body).into_owned();
        let rewritten = self.assistant.rewrite(&given, "response", request.started_at_ms / 1000).await.map_err(|error| (500, error))?;
        if !self.follows_instructions {
            return Ok(answer_like(&answered, answered.status, rewritten.into_bytes()));
        }
        let wrong = |error: String| (500, format!("failed to parse JSON response instructions from AI backend: {error}"));
        let instructions: Instructions = serde_json::from_str(&rewritten).map_err(|error| wrong(error.to_string()))?;
        let status = instructions.status.unwrap_or(answered.status);
        if !(200..=599).contains(&status) {
            return Err(wrong(format!("status {status}")));
        }
        let mut answer = answer_like(&answered, status, instructions.body.map_or_else(|| answered.body.to_vec(), String::into_bytes));
        for (name, value) in instructions.headers.into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            answer.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            answer = answer.header(name, value);
        }
        Ok(answer)
    }

    /// The client's request as it would have gone upstream.
    fn forwarded(&self, request: &Request) -> std::result::Result<Outgoing, String> {
        let upstream = &request.upstream;
        let scheme = if upstream.https { "https" } else { "http" };
        let host = if upstream.host.contains(':') { format!("[{}]", upstream.host) } else { upstream.host.to_string() };
        let mut uri = format!("{scheme}://{host}:{}{}", upstream.port, String::from_utf8_lossy(&upstream.path));
        if let Some(query) = &upstream.query {
            uri = format!("{uri}?{}", String::from_utf8_lossy(query));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in request.head.headers.iter() {
            if OF_THE_CONNECTION.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                continue;
            }
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        let method = upstream.method.as_deref().map_or(request.head.method_text(), str::as_bytes);
        Ok(Outgoing {
            method: Method::from_bytes(method).map_err(|error| error.to_string())?,
            uri: uri.parse().map_err(|error| format!("{error}"))?,
            headers,
            body: request::body(request).unwrap_or_default().to_vec().into(),
            timeout: self.timeout,
            proxy: None,
        })
    }
}

/// What the model may say about the answer.
#[derive(Deserialize)]
struct Instructions {
    headers: Option<std::collections::BTreeMap<String, Value>>,
    status: Option<u16>,
    body: Option<String>,
}

/// Headers that belong to one connection, or that the client of ours sets itself.
const OF_THE_CONNECTION: [&[u8]; 10] = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"content-length",
    b"accept-encoding",
];

fn answer_like(answered: &Incoming, status: u16, body: Vec<u8>) -> Answer {
    let mut answer = Answer::bytes(status, None, body);
    for (name, value) in &answered.headers {
        if !OF_THE_CONNECTION.contains(&name.as_str().as_bytes()) {
            answer = answer.header(name.as_str().to_owned(), value.as_bytes());
        }
    }
    answer
}
