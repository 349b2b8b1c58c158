//! ai-proxy: takes requests in one format to the language models of many providers.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Check, Fields, Rule};
use serde::Deserialize;

use crate::ai;

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

/// See the module's description.
pub struct AiProxy;

impl Plugin for AiProxy {
    const NAME: &'static str = "ai-proxy";
    const PRIORITY: i32 = 770;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
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

impl Handler for AiProxy {}
