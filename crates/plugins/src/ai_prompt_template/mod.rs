//! ai-prompt-template: fills named prompts with what a request gives for their gaps.

use portcullis_plugin::{Answer, Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::Fields;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ai;
use crate::ai::request::{self, refusal};

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
pub struct AiPromptTemplate(Config);

impl Plugin for AiPromptTemplate {
    const NAME: &'static str = "ai-prompt-template";
    const PRIORITY: i32 = 773;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Handler for AiPromptTemplate {
    fn body_limit(&self, _: &Request) -> Option<u64> {
        request::body_limit(self.0.max_request_body_size)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if self.0.log_original_request {
            let original = request::body(request).map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
            request.log_fields.insert("ai.payload.original_request".to_owned(), original.into());
        }
        match self.rendered(request) {
            Ok(None) => Step::Next,
            Ok(Some(body)) => {
                request::replace_body(request, body.into_bytes());
                Step::Next
            }
            Err(answer) => Step::Answer(answer),
        }
    }
}

impl AiPromptTemplate {
    /// The request that a template makes; none where the client wrote its own.
    fn rendered(&self, request: &Request) -> std::result::Result<Option<String>, Box<Answer>> {
        let refused = |message: String| Box::new(refusal(400, message));
        let fields =
            request::json_body(request).ok_or_else(|| refused("this LLM route only supports application/json requests".to_owned()))?;
        let named = match (fields.get("messages"), fields.get("prompt")) {
            (Some(_), Some(_)) => return Err(refused("cannot run 'messages' and 'prompt' templates at the same time".to_owned())),
            (Some(messages), None) => messages,
            (None, Some(prompt)) => prompt,
            (None, None) => {
                let message = "only 'llm/v1/chat' and 'llm/v1/completions' formats are supported for templating";
                return Err(refused(message.to_owned()));
            }
        };
        let name = named.as_str().and_then(|text| text.strip_prefix("{template://")?.strip_suffix('}'));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            if self.0.allow_untemplated_requests {
                return Ok(None);
            }
            return Err(refused("this LLM route only supports templated requests".to_owned()));
        };
        let template = self.0.templates.iter().find(|template| template.name == name);
        let template = template.ok_or_else(|| refused(format!("could not find template name [{name}]")))?;
        let none = Map::new();
        let properties = fields.get("properties").and_then(Value::as_object).unwrap_or(&none);
        render(&template.template, properties)
            .map(Some)
            .map_err(|missing| refused(format!("missing template parameters: [{}]", missing.join(", "))))
    }
}

/// Fills the gaps of a template. A text goes in as JSON writes it, without its quotes, so that it cannot end the text it is in.
/// Errors with the names that have no value.
fn render(template: &str, properties: &Map<String, Value>) -> std::result::Result<String, Vec<String>> {
    let (mut out, mut missing, mut rest) = (String::new(), Vec::new(), template);
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start + 2..].find("}}") else { break };
        let name = rest[start + 2..start + 2 + length].trim();
        out.push_str(&rest[..start]);
        match properties.get(name) {
            Some(text @ Value::String(_)) => {
                let quoted = text.to_string();
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
            Some(value) if !value.is_null() => out.push_str(&value.to_string()),
            _ if missing.iter().any(|known| known == name) => {}
            _ => missing.push(name.to_owned()),
        }
        rest = &rest[start + 4 + length..];
    }
    out.push_str(rest);
    if missing.is_empty() { Ok(out) } else { Err(missing) }
}
