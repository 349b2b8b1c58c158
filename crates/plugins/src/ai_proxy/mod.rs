//! ai-proxy: takes requests in one format to the language models of many providers.

use std::io::Read as _;
use std::time::Instant;

use portcullis_plugin::{Answer, Env, Handler, Head, Instance, Phases, Plugin, Request, Response, Result, Scopes, Step, query_pairs};
use portcullis_schema::{Check, Fields, Rule};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::ai;
use crate::ai::endpoint;
use crate::ai::provider::{self, Dialect, merge_options};
use crate::ai::request::{self, PRESERVE, refusal};
use crate::ai::stream::Stream;
use crate::number;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The kind of operation the model is asked for.
    #[field(ai::route_type())]
    pub route_type: String,
    /// How we make ourselves known to the provider.
    #[field(record::<ai::Auth>().shown("required", false))]
    pub auth: Option<ai::Auth>,
    /// The model and its provider.
    #[field(record::<ai::Model>().required())]
    pub model: ai::Model,
    /// What is told to log plugins.
    #[field(record::<ai::Logging>().required())]
    pub logging: ai::Logging,
    /// Whether answers may, must not or always do come piece by piece.
    #[field(string().one_of(["allow", "deny", "always"]).default("allow").shown("required", false))]
    pub response_streaming: Option<String>,
    /// Bytes of a request body that are looked at.
    #[field(ai::max_request_body_size())]
    pub max_request_body_size: Option<u64>,
    /// Whether clients are told the model in `X-Kong-LLM-Model`.
    #[field(boolean().default(true))]
    pub model_name_header: Option<bool>,
    /// The format of the requests that clients send.
    #[field(ai::llm_format())]
    pub llm_format: Option<String>,
}

/// Bytes of an answer once it is no longer compressed.
const LARGEST_ANSWER: u64 = 64 << 20;

/// See the module's description.
pub struct AiProxy {
    config: Config,
    instance: Uuid,
}

/// What a request asks of which model.
struct Asked {
    model: String,
    stream: bool,
    /// When it went on its way.
    sent: Instant,
    first_piece: Option<Instant>,
    question: Option<String>,
}

impl Plugin for AiProxy {
    const NAME: &'static str = "ai-proxy";
    const PRIORITY: i32 = 770;
    const PHASES: Phases = Phases::ACCESS.and(Phases::RESPONSE).and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER);
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, instance: &Instance, _: &Env) -> Result<Self> {
        Ok(Self { config, instance: instance.id })
    }

    fn checks() -> Vec<Check> {
        let native = |formats: &[&str], then_field, wanted: &str, error| Check::Conditional {
            if_field: "config.llm_format",
            if_match: vec![match formats {
                [format] => Rule::Eq((*format).into()),
                formats => Rule::OneOf(formats.iter().map(|format| (*format).into()).collect()),
            }],
            then_field,
            then_match: vec![Rule::Eq(wanted.into())],
            then_required: false,
            then_error: Some(error),
        };
        vec![
            native(
                &["bedrock", "gemini"],
                "config.route_type",
                ai::CHAT,
                "native provider options in llm_format can only be used with the 'llm/v1/chat' route_type",
            ),
            native(
                &["bedrock"],
                "config.model.provider",
                "bedrock",
                "native llm_format 'bedrock' can only be used with the 'bedrock' model.provider",
            ),
            native(
                &["gemini"],
                "config.model.provider",
                "gemini",
                "native llm_format 'gemini' can only be used with the 'gemini' model.provider",
            ),
        ]
    }

    fn config_checks() -> Vec<Check> {
        ai::llm_checks()
    }
}

impl Handler for AiProxy {
    fn body_limit(&self, _: &Request) -> Option<u64> {
        request::body_limit(self.config.max_request_body_size)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        match self.send_on(request) {
            Ok(()) => Step::Next,
            Err(answer) => Step::Answer(answer),
        }
    }

    fn buffers(&self, request: &Request) -> bool {
        let native = self.config.llm_format.as_deref().is_some_and(|format| format != "openai");
        let asked = request.context.get::<Asked>();
        self.config.route_type != PRESERVE && !native && asked.is_some_and(|asked| !asked.stream)
    }

    fn response(&self, request: &mut Request, response: Response<'_>) -> Result<()> {
        let Some(asked) = request.context.get::<Asked>() else { return Ok(()) };
        if response.head.status != 200 {
            return Ok(());
        }
        self.name_model(&mut response.head.headers, asked);
        if response.head.headers.get("content-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip")) {
            let mut plain = Vec::new();
            if flate2::read::GzDecoder::new(response.body.as_slice()).take(LARGEST_ANSWER).read_to_end(&mut plain).is_ok() {
                *response.body = plain;
                response.head.headers.remove("Content-Encoding");
            }
        }
        match provider::from_provider(&self.config.model, &self.config.route_type, &asked.model, response.body) {
            Ok(None) => {}
            Ok(Some(answer)) => *response.body = answer.to_string().into_bytes(),
            Err(error) => {
                let from = &self.config.model.provider;
                let message = format!("transformation failed from type {from}://{}: {error}", self.config.route_type);
                response.head.status = 500;
                *response.body = json!({ "error": { "message": message } }).to_string().into_bytes();
                return Ok(());
            }
        }
        if self.config.logging.log_statistics || self.config.logging.log_payloads {
            let answer: Value = serde_json::from_slice(response.body).unwrap_or_default();
            let count = |name: &str| answer.pointer(&format!("/usage/{name}")).and_then(Value::as_u64).unwrap_or(0);
            let facts = Facts {
                prompt: count("prompt_tokens"),
                completion: count("completion_tokens"),
                model: answer.get("model").and_then(Value::as_str).map(str::to_owned),
                said: String::from_utf8_lossy(response.body).into_owned(),
            };
            self.log_facts(request, facts);
        }
        Ok(())
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        let Some(asked) = head.context.get::<Asked>() else { return Ok(()) };
        if head.response.status != 200 || self.buffers_for(asked) {
            return Ok(());
        }
        self.name_model(&mut head.response.headers, asked);
        if self.config.route_type == PRESERVE || !asked.stream {
            return Ok(());
        }
        head.response.headers.set("Content-Type", b"text/event-stream");
        head.response.headers.remove("Content-Length");
        let stream = Stream::new(Dialect::of(&self.config.model), asked.model.clone());
        head.context.set(stream);
        Ok(())
    }

    fn body_filter(&self, request: &mut Request, chunk: &mut Vec<u8>, last: bool) -> Result<()> {
        let Some(stream) = request.context.get_mut::<Stream>() else { return Ok(()) };
        *chunk = stream.feed(chunk, last);
        let facts = last.then(|| Facts {
            prompt: stream.prompt_tokens,
            completion: stream.completion_tokens,
            model: None,
            said: std::mem::take(&mut stream.said),
        });
        if let Some(asked) = request.context.get_mut::<Asked>() {
            asked.first_piece.get_or_insert_with(Instant::now);
        }
        if let Some(facts) = facts {
            self.log_facts(request, facts);
        }
        Ok(())
    }
}

/// What is known of an answer once it is whole.
struct Facts {
    prompt: u64,
    completion: u64,
    model: Option<String>,
    said: String,
}

type Refused = Box<Answer>;

/// The model the client names; it has to be the configured one, where one is configured.
fn own_model(fields: &Map<String, Value>, configured: Option<&str>) -> std::result::Result<Option<String>, String> {
    let own = fields.get("model").and_then(Value::as_str).filter(|own| !own.is_empty());
    match (configured, own) {
        (Some(configured), Some(own)) if configured != own => Err(format!("cannot use own model - must be: {configured}")),
        (_, own) => Ok(own.map(str::to_owned)),
    }
}

impl AiProxy {
    fn buffers_for(&self, asked: &Asked) -> bool {
        let native = self.config.llm_format.as_deref().is_some_and(|format| format != "openai");
        self.config.route_type != PRESERVE && !native && !asked.stream
    }

    fn name_model(&self, headers: &mut portcullis_plugin::Headers, asked: &Asked) {
        if self.config.model_name_header != Some(false) && !asked.model.is_empty() {
            headers.set("X-Kong-LLM-Model", format!("{}/{}", self.config.model.provider, asked.model).as_bytes());
        }
    }

    /// Turns the request into one to the provider.
    fn send_on(&self, request: &mut Request) -> std::result::Result<(), Refused> {
        let refused = |message: String| Box::new(refusal(400, message));
        let failed = |error: String| {
            tracing::error!(error, "no request to the model could be made");
            Box::new(refusal(500, "LLM request failed before proxying"))
        };
        let model = &self.config.model;
        let configured = model.name.as_deref().map(|name| filled(name, request)).transpose().map_err(refused)?;
        let question = self.config.logging.log_payloads.then(|| request::body(request).unwrap_or_default().to_vec());
        let question = question.map(|body| String::from_utf8_lossy(&body).into_owned());
        let native = self.config.llm_format.as_deref().is_some_and(|format| format != "openai");
        let (mut body, name, stream) = if self.config.route_type == PRESERVE || native {
            // A body that cannot be read is none of ours to judge here.
            if !native && let Some(fields) = request::json_body(request) {
                own_model(&fields, configured.as_deref()).map_err(refused)?;
            }
            (None, configured.unwrap_or_default(), false)
        } else {
            let (body, name, stream) = self.provider_request(request, configured)?;
            (Some(body), name, stream)
        };
        let place = endpoint::endpoint(model, &name, &self.config.route_type, stream).map_err(failed)?;
        let mut arguments = endpoint::arguments(model, stream);
        let auth = self.config.auth.as_ref();
        let param = auth.and_then(|auth| Some((auth.param_name.as_deref()?, auth.param_value.clone()?, auth.param_location.as_deref()?)));
        match (param, &mut body) {
            (Some((name, value, "body")), Some(body)) => body[name] = value.into(),
            (Some((name, value, "query")), _) => arguments.push((name, value)),
            _ => {}
        }
        if let Some(body) = &body {
            request::replace_body(request, body.to_string().into_bytes());
            request.head.headers.set("Content-Type", b"application/json");
            request.upstream.method = Some("POST".into());
        }
        if !arguments.is_empty() {
            request.upstream.query = Some(with_arguments(request.upstream.query.as_deref().unwrap_or_default(), arguments));
        }
        let path = match place.path {
            Some(path) => path.into_bytes(),
            None => request.head.path().to_vec(),
        };
        let upstream = &mut request.upstream;
        upstream.https = place.https;
        upstream.host_header = Some(place.host.clone().into_bytes());
        upstream.host = place.host.as_str().into();
        upstream.port = place.port;
        upstream.path = path;
        let headers = &mut request.head.headers;
        headers.set("Accept-Encoding", if stream { b"identity" } else { b"gzip, identity" });
        for (name, value) in endpoint::headers(model) {
            headers.set(name, value.as_bytes());
        }
        if let Some((name, value)) = auth.and_then(|auth| Some((auth.header_name.as_deref()?, auth.header_value.as_deref()?))) {
            let keeps_own = auth.is_some_and(|auth| auth.allow_override == Some(true)) && headers.contains(name);
            if !keeps_own {
                headers.set(name, value.as_bytes());
            }
        }
        if model.provider == "bedrock" {
            self.sign(request).map_err(failed)?;
        }
        let asked = Asked { model: name, stream, sent: Instant::now(), first_piece: None, question };
        request.context.set(asked);
        Ok(())
    }

    /// The provider's request, the model's name, and whether the answer comes piece by piece.
    fn provider_request(&self, request: &Request, configured: Option<String>) -> std::result::Result<(Value, String, bool), Refused> {
        let refused = |message: String| Box::new(refusal(400, message));
        let mut fields: Map<String, Value> =
            request::json_body(request).ok_or_else(|| refused("request body doesn't contain valid prompts".to_owned()))?;
        let found = request::route_type_of(&fields).map_err(|message| refused(message.to_owned()))?;
        let own = own_model(&fields, configured.as_deref()).map_err(refused)?;
        let Some(name) = configured.or(own) else {
            return Err(refused("model parameter not found in request, nor in gateway configuration".to_owned()));
        };
        let wanted = self.config.route_type.as_str();
        if found != wanted {
            return Err(refused(format!("[{found}] message format is not compatible with [{wanted}] route type")));
        }
        let streaming = self.config.response_streaming.as_deref().unwrap_or("allow");
        let stream = streaming == "always" || fields.get("stream").and_then(Value::as_bool) == Some(true);
        if stream && streaming == "deny" {
            return Err(refused("response streaming is not enabled for this LLM".to_owned()));
        }
        fields.insert("model".to_owned(), name.clone().into());
        fields.insert("stream".to_owned(), stream.into());
        merge_options(&mut fields, self.config.model.options.as_ref());
        if stream && self.config.logging.log_statistics && matches!(self.config.model.provider.as_str(), "openai" | "azure") {
            fields.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        }
        let body = provider::to_provider(&self.config.model, wanted, &fields).map_err(refused)?;
        Ok((body, name, stream))
    }

    fn sign(&self, request: &mut Request) -> std::result::Result<(), String> {
        let upstream = &request.upstream;
        let host = if upstream.host.contains(':') { format!("[{}]", upstream.host) } else { upstream.host.to_string() };
        let scheme = if upstream.https { "https" } else { "http" };
        let mut uri = format!("{scheme}://{host}{}", String::from_utf8_lossy(&upstream.path));
        if let Some(query) = &upstream.query {
            uri = format!("{uri}?{}", String::from_utf8_lossy(query));
        }
        let uri = uri.parse().map_err(|error| format!("{error}"))?;
        let body = request::body(request).unwrap_or_default().to_vec();
        let now = request.started_at_ms / 1000;
        let signed = endpoint::sign(&self.config.model, self.config.auth.as_ref(), &uri, "application/json", &body, now)?;
        for (name, value) in &signed {
            if name != http::header::HOST {
                request.head.headers.set(name.as_str(), value.as_bytes());
            }
        }
        Ok(())
    }

    /// What log plugins are told of an answer (behaviour checklist 9.7).
    fn log_facts(&self, request: &mut Request, facts: Facts) {
        let (statistics, payloads) = (self.config.logging.log_statistics, self.config.logging.log_payloads);
        let Some(asked) = request.context.get::<Asked>() else { return };
        let now = Instant::now();
        let latency = now.duration_since(asked.sent).as_millis() as u64;
        let first = asked.first_piece.map_or(latency, |first| first.duration_since(asked.sent).as_millis() as u64);
        let options = self.config.model.options.as_ref();
        let cost = |tokens: u64, of: Option<f64>| of.map_or(0.0, |cost| tokens as f64 * cost / 1e6);
        let cost = cost(facts.prompt, options.and_then(|options| options.input_cost))
            + cost(facts.completion, options.and_then(|options| options.output_cost));
        let per_token = if facts.completion == 0 { 0.0 } else { latency as f64 / facts.completion as f64 };
        let meta = json!({
            "plugin_id": self.instance,
            "provider_name": self.config.model.provider,
            "request_model": asked.model,
            "response_model": facts.model.as_ref().unwrap_or(&asked.model),
            "request_mode": if asked.stream { "stream" } else { "oneshot" },
            "llm_latency": latency,
        });
        let usage = json!({
            "prompt_tokens": facts.prompt,
            "completion_tokens": facts.completion,
            "total_tokens": facts.prompt + facts.completion,
            "time_per_token": number::json(per_token),
            "time_to_first_token": first,
            "cost": number::json(cost),
        });
        let question = asked.question.clone();
        if statistics {
            request.log_fields.insert("ai.proxy.meta".to_owned(), meta);
            request.log_fields.insert("ai.proxy.usage".to_owned(), usage);
        }
        if payloads {
            request.log_fields.insert("ai.proxy.payload".to_owned(), json!({ "request": question, "response": facts.said }));
        }
    }
}

/// A setting that may be taken from the request: `$(headers.x)`, `$(query_params.x)`, `$(uri_captures.x)`. Errors with what the
/// client is told.
fn filled(setting: &str, request: &Request) -> std::result::Result<String, String> {
    let Some(expression) = setting.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')) else { return Ok(setting.to_owned()) };
    let (kind, key) = expression.split_once('.').ok_or_else(|| format!("cannot parse expression for field '{setting}'"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found = match kind {
        "headers" => {
            let headers = &request.head.headers;
            headers.get(key).or_else(|| headers.get(&key.replace('_', "-"))).map(text)
        }
        "query_params" => request.query_argument(key),
        "uri_captures" => request.captures.as_ref().and_then(|captures| {
            let named = captures.named.iter().find(|(name, _)| **name == *key).map(|(_, value)| value.to_string());
            named.or_else(|| captures.numbered.get(key.parse::<usize>().ok()?)?.as_deref().map(str::to_owned))
        }),
        _ => return Err(format!("cannot parse expression for field '{setting}'")),
    };
    found.ok_or_else(|| format!("{kind} key {key} was not provided"))
}

/// A query with arguments set, in the order of their names as Kong writes them.
fn with_arguments(query: &[u8], arguments: Vec<(&str, String)>) -> Vec<u8> {
    let mut all: Vec<(String, String)> = query_pairs(query).filter(|(name, _)| !arguments.iter().any(|(own, _)| own == name)).collect();
    all.extend(arguments.into_iter().map(|(name, value)| (name.to_owned(), value)));
    all.sort_by(|a, b| a.0.cmp(&b.0));
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish().into_bytes()
}
