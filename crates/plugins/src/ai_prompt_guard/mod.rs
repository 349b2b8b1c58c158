//! ai-prompt-guard: lets prompts pass, or not, by what they say.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Check, Field, Fields, Rule, build};
use serde::Deserialize;

use crate::ai;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Regular expressions of which a prompt must match one.
    #[field(patterns())]
    pub allow_patterns: Option<Vec<String>>,
    /// Regular expressions of which a prompt must match none.
    #[field(patterns())]
    pub deny_patterns: Option<Vec<String>>,
    /// Whether only the newest message is looked at.
    #[field(switch(false))]
    pub allow_all_conversation_history: bool,
    /// Bytes of a request body that are looked at.
    #[field(ai::max_request_body_size())]
    pub max_request_body_size: Option<u64>,
    /// Whether messages of every role are looked at, not only the user's.
    #[field(switch(false))]
    pub match_all_roles: bool,
    /// The format of the requests that clients send.
    #[field(ai::llm_format())]
    pub llm_format: Option<String>,
}

fn patterns() -> Field {
    build::array(build::string().len_min(1).len_max(500)).len_max(10).shown("required", false)
}

/// See the module's description.
pub struct AiPromptGuard;

impl Plugin for AiPromptGuard {
    const NAME: &'static str = "ai-prompt-guard";
    const PRIORITY: i32 = 771;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn checks() -> Vec<Check> {
        vec![
            Check::AtLeastOneOf(vec!["config.allow_patterns", "config.deny_patterns"]),
            Check::Conditional {
                if_field: "config.match_all_roles",
                if_match: vec![Rule::Eq(true.into())],
                then_field: "config.allow_all_conversation_history",
                then_match: vec![Rule::Eq(false.into())],
                then_required: false,
                then_error: None,
            },
        ]
    }
}

impl Handler for AiPromptGuard {}
