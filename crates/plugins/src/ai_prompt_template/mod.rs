//! ai-prompt-template: fills named prompts with what a request gives for their gaps.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::ai;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The prompts.
    #[field(array(record::<Template>().required()).required())]
    pub templates: Vec<Template>,
    /// Whether requests that name no prompt pass.
    #[field(switch(true))]
    pub allow_untemplated_requests: bool,
    /// Whether the request as it came is told to log plugins.
    #[field(switch(false))]
    pub log_original_request: bool,
    /// Bytes of a request body that are looked at.
    #[field(ai::max_request_body_size())]
    pub max_request_body_size: Option<u64>,
}

#[derive(Debug, Deserialize, Fields)]
pub struct Template {
    /// The name that requests call it by.
    #[field(string().required())]
    pub name: String,
    /// The text, with gaps as `{{name}}`.
    #[field(string().required())]
    pub template: String,
}

/// See the module's description.
pub struct AiPromptTemplate;

impl Plugin for AiPromptTemplate {
    const NAME: &'static str = "ai-prompt-template";
    const PRIORITY: i32 = 773;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for AiPromptTemplate {}
