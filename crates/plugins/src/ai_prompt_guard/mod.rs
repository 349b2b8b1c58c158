//! ai-prompt-guard: lets prompts pass, or not, by what they say.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Field, Fields, Rule, build};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ai;
use crate::ai::request::{self, messages, refusal};
use crate::pattern::Pattern;

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
pub struct AiPromptGuard {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
    newest_only: bool,
    all_roles: bool,
    max_body: Option<u64>,
}

impl Plugin for AiPromptGuard {
    const NAME: &'static str = "ai-prompt-guard";
    const PRIORITY: i32 = 771;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let compiled =
            |patterns: Option<Vec<String>>| -> Result<Vec<Pattern>> { patterns.iter().flatten().map(|text| Pattern::new(text)).collect() };
        Ok(Self {
            allow: compiled(config.allow_patterns)?,
            deny: compiled(config.deny_patterns)?,
            newest_only: config.allow_all_conversation_history,
            all_roles: config.match_all_roles,
            max_body: config.max_request_body_size,
        })
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

impl Handler for AiPromptGuard {
    fn body_limit(&self, _: &Request) -> Option<u64> {
        request::body_limit(self.max_body)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let text = request::json_body(request).and_then(|fields| self.text(&fields));
        match text.map_or(Ok(false), |text| self.passes(&text)) {
            Ok(true) => Step::Next,
            Ok(false) => Step::answer(refusal(400, "bad request")),
            Err(error) => Step::Fail(error),
        }
    }
}

impl AiPromptGuard {
    /// What is looked at; none when the request is for no model.
    fn text(&self, fields: &Map<String, Value>) -> Option<String> {
        if request::route_type_of(fields).ok()? == request::COMPLETIONS {
            return fields.get("prompt").and_then(Value::as_str).map(str::to_owned);
        }
        let counts = |role: &str| self.all_roles || role == "user";
        let mut newest_first = messages(fields).rev().filter(|(role, _)| counts(role)).map(|(_, text)| text);
        if self.newest_only {
            return Some(newest_first.next().unwrap_or_default());
        }
        Some(newest_first.collect::<Vec<_>>().join(" "))
    }

    fn passes(&self, text: &str) -> Result<bool> {
        let any = |patterns: &[Pattern]| -> Result<bool> {
            for pattern in patterns {
                if pattern.matches(text)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        Ok(!any(&self.deny)? && (self.allow.is_empty() || any(&self.allow)?))
    }
}
