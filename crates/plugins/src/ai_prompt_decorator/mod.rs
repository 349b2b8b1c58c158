//! ai-prompt-decorator: puts messages before and after those of a chat request.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Field, Fields, build};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ai;
use crate::ai::request::{self, refusal};

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
pub struct AiPromptDecorator {
    prepend: Vec<Value>,
    append: Vec<Value>,
    max_body: Option<u64>,
}

impl Plugin for AiPromptDecorator {
    const NAME: &'static str = "ai-prompt-decorator";
    const PRIORITY: i32 = 772;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let values = |messages: Option<Vec<Message>>| {
            let value = |message: Message| json!({ "role": message.role, "content": message.content });
            messages.unwrap_or_default().into_iter().map(value).collect()
        };
        let (prepend, append) = config.prompts.map_or((None, None), |prompts| (prompts.prepend, prompts.append));
        Ok(Self { prepend: values(prepend), append: values(append), max_body: config.max_request_body_size })
    }

    fn checks() -> Vec<Check> {
        vec![Check::AtLeastOneOf(vec!["config.prompts.prepend", "config.prompts.append"])]
    }
}

impl Handler for AiPromptDecorator {
    fn body_limit(&self, _: &Request) -> Option<u64> {
        request::body_limit(self.max_body)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let not_chat = || Step::answer(refusal(400, "this LLM route only supports llm/chat type requests"));
        let Some(mut fields) = request::json_body(request) else { return not_chat() };
        let Some(Value::Array(spoken)) =
            fields.get_mut("messages").filter(|messages| messages.as_array().is_some_and(|all| !all.is_empty()))
        else {
            return not_chat();
        };
        let mut messages = self.prepend.clone();
        messages.append(spoken);
        messages.extend(self.append.iter().cloned());
        fields.insert("messages".to_owned(), messages.into());
        // As in Kong the model a client asked for is not passed on: the route decides.
        fields.remove("model");
        request::replace_body(request, Value::Object(fields).to_string().into_bytes());
        Step::Next
    }
}
