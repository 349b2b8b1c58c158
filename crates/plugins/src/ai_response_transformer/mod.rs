//! ai-response-transformer: has a language model rewrite what the upstream answered.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Check, Fields};
use serde::Deserialize;

use crate::ai;

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
pub struct AiResponseTransformer;

impl Plugin for AiResponseTransformer {
    const NAME: &'static str = "ai-response-transformer";
    const PRIORITY: i32 = 768;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn checks() -> Vec<Check> {
        ai::transformer_checks()
    }
}

impl Handler for AiResponseTransformer {}
