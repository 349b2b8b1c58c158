//! ai-prompt-decorator: puts messages before and after those of a chat request.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Check, Field, Fields, build};
use serde::Deserialize;

use crate::ai;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The messages to add.
    #[field(record::<Prompts>().shown("required", false))]
    pub prompts: Option<Prompts>,
    /// Bytes of a request body that are looked at.
    #[field(ai::max_request_body_size())]
    pub max_request_body_size: Option<u64>,
    /// The format of the requests that clients send.
    #[field(ai::llm_format())]
    pub llm_format: Option<String>,
}

#[derive(Debug, Deserialize, Fields)]
pub struct Prompts {
    /// Messages before the client's first.
    #[field(messages())]
    pub prepend: Option<Vec<Message>>,
    /// Messages after the client's last.
    #[field(messages())]
    pub append: Option<Vec<Message>>,
}

#[derive(Debug, Deserialize, Fields)]
pub struct Message {
    /// Who is said to speak.
    #[field(string().required().one_of(["system", "assistant", "user"]).default("system"))]
    pub role: String,
    /// What is said.
    #[field(string().required().len_min(1).len_max(500))]
    pub content: String,
}

fn messages() -> Field {
    build::array(build::record::<Message>()).len_max(15).shown("required", false)
}

/// See the module's description.
pub struct AiPromptDecorator;

impl Plugin for AiPromptDecorator {
    const NAME: &'static str = "ai-prompt-decorator";
    const PRIORITY: i32 = 772;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn checks() -> Vec<Check> {
        vec![Check::AtLeastOneOf(vec!["config.prompts.prepend", "config.prompts.append"])]
    }
}

impl Handler for AiPromptDecorator {}
