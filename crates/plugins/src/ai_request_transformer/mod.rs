//! ai-request-transformer: has a language model rewrite requests before they go to the upstream.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Fields};
use serde::Deserialize;

use crate::ai;
use crate::ai::ask::{Assistant, Settings};
use crate::ai::request::{self, refusal};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// What the model is told to do.
    #[field(string().required())]
    pub prompt: String,
    /// A regular expression for the part of the model's answer that is used.
    #[field(string().shown("required", false))]
    pub transformation_extract_pattern: Option<String>,
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
pub struct AiRequestTransformer {
    assistant: Assistant,
    max_body: Option<u64>,
}

impl Plugin for AiRequestTransformer {
    const NAME: &'static str = "ai-request-transformer";
    const PRIORITY: i32 = 777;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
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
        Ok(Self { assistant: Assistant::new(settings, env)?, max_body: config.max_request_body_size })
    }

    fn checks() -> Vec<Check> {
        ai::transformer_checks()
    }
}

impl Handler for AiRequestTransformer {
    fn body_limit(&self, _: &Request) -> Option<u64> {
        request::body_limit(self.max_body)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        Step::later(async move {
            let given = request::body(request).map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
            match self.assistant.rewrite(&given, "request", request.started_at_ms / 1000).await {
                Ok(rewritten) => {
                    request::replace_body(request, rewritten.into_bytes());
                    Ok(None)
                }
                Err(message) => Ok(Some(Box::new(refusal(400, message)))),
            }
        })
    }
}
