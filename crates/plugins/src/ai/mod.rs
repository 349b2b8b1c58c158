//! What the plugins around language models share: which model is asked, how it is reached, and what the settings must keep.
//!
//! - this file: the settings
//! - [`request`]: requests as clients send them
//! - [`provider`], [`stream`]: OpenAI's format to each provider's and back, whole and piece by piece
//! - [`endpoint`]: where models are, and how we make ourselves known there
//! - [`ask`]: a model asked by the gateway itself

pub mod ask;
pub mod endpoint;
#[cfg(test)]
mod format_tests;
pub mod provider;
pub mod request;
pub mod stream;
#[cfg(test)]
mod tests;

use portcullis_schema::{Check, Field, Fields, Record, Rule, build};
use serde::Deserialize;
use serde_json::Value;

pub const CHAT: &str = "llm/v1/chat";
pub const ROUTE_TYPES: [&str; 3] = [CHAT, "llm/v1/completions", "preserve"];

/// A model and how it is asked: the record `llm` of the transformers. ai-proxy has the same fields beside its own.
#[derive(Debug, Deserialize, Fields)]
pub struct Llm {
    /// The kind of operation the model is asked for.
    #[field(route_type())]
    pub route_type: String,
    /// How we make ourselves known to the provider.
    #[field(record::<Auth>().shown("required", false))]
    pub auth: Option<Auth>,
    /// The model and its provider.
    #[field(record::<Model>().required())]
    pub model: Model,
    /// What is told to log plugins.
    #[field(record::<Logging>().required())]
    pub logging: Logging,
}

pub fn route_type() -> Field {
    build::string().required().one_of(ROUTE_TYPES)
}

/// The format of the requests that clients send.
pub fn llm_format() -> Field {
    build::string().one_of(["openai", "bedrock", "gemini"]).default("openai").shown("required", false)
}

/// Bytes of a request body that are looked at.
pub fn max_request_body_size() -> Field {
    build::integer().gt(0.0).default(8192)
}

#[derive(Debug, Deserialize, Fields)]
pub struct Auth {
    /// The header that carries the key.
    #[field(string().referenceable().shown("required", false))]
    pub header_name: Option<String>,
    /// The value of that header.
    #[field(string().referenceable().encrypted().shown("required", false))]
    pub header_value: Option<String>,
    /// The query argument or form field that carries the key.
    #[field(string().referenceable().shown("required", false))]
    pub param_name: Option<String>,
    /// The value of that argument or field.
    #[field(string().referenceable().encrypted().shown("required", false))]
    pub param_value: Option<String>,
    /// Where that argument or field goes.
    #[field(string().one_of(["query", "body"]).shown("required", false))]
    pub param_location: Option<String>,
    /// Whether a Google service account is used for Gemini.
    #[field(boolean().default(false).shown("required", false))]
    pub gcp_use_service_account: Option<bool>,
    /// The whole JSON of that account; without it the environment is asked.
    #[field(string().referenceable().shown("required", false))]
    pub gcp_service_account_json: Option<String>,
    /// The AWS access key for Bedrock; without it the environment is asked.
    #[field(string().referenceable().encrypted().shown("required", false))]
    pub aws_access_key_id: Option<String>,
    /// The secret that belongs to that key.
    #[field(string().referenceable().encrypted().shown("required", false))]
    pub aws_secret_access_key: Option<String>,
    /// Whether a client's own credentials go before these.
    #[field(boolean().default(false).shown("required", false))]
    pub allow_override: Option<bool>,
}

#[derive(Debug, Deserialize, Fields)]
pub struct Model {
    /// Who runs the model.
    #[field(string().required().one_of(["openai", "azure", "anthropic", "cohere", "mistral", "llama2", "gemini", "bedrock", "huggingface"]))]
    pub provider: String,
    /// The model's name; without it the client names one.
    #[field(string().shown("required", false))]
    pub name: Option<String>,
    /// How the model is to answer, and where it is.
    #[field(record::<Options>().shown("required", false))]
    pub options: Option<Options>,
}

#[derive(Debug, Default, Deserialize, Fields)]
pub struct Options {
    /// Tokens of an answer at most.
    #[field(integer().shown("required", false))]
    pub max_tokens: Option<i64>,
    /// What a million tokens of questions cost.
    #[field(number().gt(0.0).shown("required", false))]
    pub input_cost: Option<f64>,
    /// What a million tokens of answers cost.
    #[field(number().gt(0.0).shown("required", false))]
    pub output_cost: Option<f64>,
    /// How freely the model picks its words.
    #[field(number().between(0, 5).shown("required", false))]
    pub temperature: Option<f64>,
    /// The share of likely words it picks from.
    #[field(number().between(0, 1).shown("required", false))]
    pub top_p: Option<f64>,
    /// The number of likely words it picks from.
    #[field(integer().between(0, 500).shown("required", false))]
    pub top_k: Option<i64>,
    /// The version of Anthropic's interface.
    #[field(string().shown("required", false))]
    pub anthropic_version: Option<String>,
    /// The name of the Azure OpenAI instance.
    #[field(string().shown("required", false))]
    pub azure_instance: Option<String>,
    /// The version of Azure's interface.
    #[field(string().default("2023-05-15").shown("required", false))]
    pub azure_api_version: Option<String>,
    /// The id of the Azure deployment.
    #[field(string().shown("required", false))]
    pub azure_deployment_id: Option<String>,
    /// How a Llama 2 server is spoken to.
    #[field(string().one_of(["raw", "openai", "ollama"]).shown("required", false))]
    pub llama2_format: Option<String>,
    /// How a Mistral server is spoken to.
    #[field(string().one_of(["openai", "ollama"]).shown("required", false))]
    pub mistral_format: Option<String>,
    /// The address of the model, in place of the provider's own.
    #[field(url().shown("required", false))]
    pub upstream_url: Option<String>,
    /// The path of the operation, in place of the provider's own.
    #[field(string().shown("required", false))]
    pub upstream_path: Option<String>,
    /// What Gemini needs beside.
    #[field(record::<Gemini>().checks(Gemini::checks()).shown("required", false))]
    pub gemini: Option<Gemini>,
    /// What Bedrock needs beside.
    #[field(record::<Bedrock>().shown("required", false))]
    pub bedrock: Option<Bedrock>,
    /// What Hugging Face needs beside.
    #[field(record::<HuggingFace>().shown("required", false))]
    pub huggingface: Option<HuggingFace>,
}

#[derive(Debug, Deserialize, Fields)]
pub struct Gemini {
    /// The host of the region's interface.
    #[field(string().shown("required", false))]
    pub api_endpoint: Option<String>,
    /// The project the model belongs to.
    #[field(string().shown("required", false))]
    pub project_id: Option<String>,
    /// The region.
    #[field(string().shown("required", false))]
    pub location_id: Option<String>,
}

impl Gemini {
    fn checks() -> Vec<Check> {
        vec![Check::MutuallyRequired(vec!["api_endpoint", "project_id", "location_id"])]
    }
}

#[derive(Debug, Deserialize, Fields)]
pub struct Bedrock {
    /// The region, where the environment's is not meant.
    #[field(string().shown("required", false))]
    pub aws_region: Option<String>,
}

#[derive(Debug, Deserialize, Fields)]
pub struct HuggingFace {
    /// Whether an answer may come from the provider's cache.
    #[field(boolean().shown("required", false))]
    pub use_cache: Option<bool>,
    /// Whether to wait for a model that is not ready.
    #[field(boolean().shown("required", false))]
    pub wait_for_model: Option<bool>,
}

#[derive(Debug, Deserialize, Fields)]
pub struct Logging {
    /// Whether tokens, latencies and cost are told.
    #[field(switch(false))]
    pub log_statistics: bool,
    /// Whether questions and answers are told in full.
    #[field(switch(false))]
    pub log_payloads: bool,
}

/// What the settings of a model must keep; paths start inside the record that holds them.
pub fn llm_checks() -> Vec<Check> {
    let needs = |provider: &str, option: &'static str, error: &'static str| Check::ConditionalAtLeastOneOf {
        if_field: "model.provider",
        if_match: vec![Rule::OneOf(vec![provider.into()])],
        then_at_least_one_of: vec![option],
        then_error: Some(error),
    };
    vec![
        Check::Conditional {
            if_field: "model.provider",
            if_match: vec![Rule::OneOf(vec!["bedrock".into(), "gemini".into()])],
            then_field: "auth.allow_override",
            then_match: vec![Rule::Eq(false.into())],
            then_required: false,
            then_error: Some("bedrock and gemini only support auth.allow_override = false"),
        },
        Check::MutuallyRequired(vec!["auth.header_name", "auth.header_value"]),
        Check::MutuallyRequired(vec!["auth.param_name", "auth.param_value", "auth.param_location"]),
        needs("llama2", "model.options.llama2_format", "must set %s for llama2 provider"),
        needs("mistral", "model.options.mistral_format", "must set %s for mistral provider"),
        needs("anthropic", "model.options.anthropic_version", "must set %s for anthropic provider"),
        needs("azure", "model.options.azure_instance", "must set %s for azure provider"),
        needs("azure", "model.options.azure_api_version", "must set %s for azure provider"),
        needs("azure", "model.options.azure_deployment_id", "must set %s for azure provider"),
        needs("llama2", "model.options.upstream_url", "must set %s for self-hosted providers/models"),
        Check::Custom { fields: vec!["route_type", "model", "logging"], check: check_statistics },
    ]
}

/// Anthropic's completions tell no figures.
fn check_statistics(record: &Record) -> Result<(), Vec<(String, Value)>> {
    let at = |path: [&str; 2]| record.get(path[0]).and_then(|inner| inner.get(path[1]));
    let provider = at(["model", "provider"]).and_then(Value::as_str);
    let route_type = record.get("route_type").and_then(Value::as_str).unwrap_or_default();
    let wanted = at(["logging", "log_statistics"]).and_then(Value::as_bool) == Some(true);
    if provider == Some("anthropic") && route_type == "llm/v1/completions" && wanted {
        let complaint = format!("anthropic does not support statistics when route_type is {route_type}");
        return Err(vec![("@entity".to_owned(), complaint.into())]);
    }
    Ok(())
}

/// What the two transformers must keep; paths start at the plugin.
pub fn transformer_checks() -> Vec<Check> {
    vec![
        Check::Conditional {
            if_field: "config.llm.route_type",
            if_match: vec![Rule::NotOneOf(vec![CHAT.into()])],
            then_field: "config.llm.route_type",
            then_match: vec![Rule::Eq(CHAT.into())],
            then_required: false,
            then_error: Some("'config.llm.route_type' must be 'llm/v1/chat' for AI transformer plugins"),
        },
        Check::MutuallyRequired(vec!["config.http_proxy_host", "config.http_proxy_port"]),
        Check::MutuallyRequired(vec!["config.https_proxy_host", "config.https_proxy_port"]),
    ]
}
