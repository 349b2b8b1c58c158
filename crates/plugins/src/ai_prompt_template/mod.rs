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
        let properties = match fields.get("properties") {
            None | Some(Value::Bool(false)) => &none,
            Some(Value::Object(properties)) => properties,
            Some(Value::Array(list)) if list.is_empty() => &none,
            Some(_) => return Err(refused("properties must be an object".to_owned())),
        };
        render(&template.template, properties).map(Some).map_err(refused)
    }
}

/// Fills the gaps of a template: `{{name}}`, without blanks. A text goes in as JSON writes it, without its quotes, so that it cannot end
/// the text it is in. Errors with what is wrong, in Kong's words; a gap that a value brings along has no value either.
fn render(template: &str, properties: &Map<String, Value>) -> std::result::Result<String, String> {
    let wrong = properties.values().find_map(|value| match value {
        Value::String(_) => None,
        Value::Null => Some("userdata"),
        Value::Bool(_) => Some("boolean"),
        Value::Number(_) => Some("number"),
        Value::Array(_) | Value::Object(_) => Some("table"),
    });
    if let Some(kind) = wrong {
        return Err(format!("property values must be a string, got {kind}"));
    }
    let (mut out, mut rest) = (String::new(), template);
    while let Some((before, name, after)) = next_gap(rest) {
        out.push_str(before);
        match properties.get(name) {
            Some(text) => {
                let quoted = text.to_string();
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
            None => {
                out.push_str("{{");
                out.push_str(name);
                out.push_str("}}");
            }
        }
        rest = after;
    }
    out.push_str(rest);
    let (mut missing, mut rest) = (Vec::new(), out.as_str());
    while let Some((_, name, after)) = next_gap(rest) {
        let name = format!("[{name}]");
        if !missing.contains(&name) {
            missing.push(name);
        }
        rest = after;
    }
    if missing.is_empty() { Ok(out) } else { Err(format!("missing template parameters: {}", missing.join(", "))) }
}

/// What stands before the next gap, its name, and what stands behind it.
fn next_gap(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("{{") {
        let start = from + at + 2;
        let length = text[start..].bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        if length > 0 && text[start + length..].starts_with("}}") {
            return Some((&text[..start - 2], &text[start..start + length], &text[start + length + 2..]));
        }
        from = start - 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::render;

    fn rendered(template: &str, properties: Value) -> Result<String, String> {
        render(template, properties.as_object().unwrap_or(&serde_json::Map::new()))
    }

    #[test]
    fn gaps_are_filled_with_texts_only() {
        assert_eq!(rendered("{{a}}-{{ b }}-{{{c}}}", json!({ "a": "x\"y", "c": "z" })), Ok(r#"x\"y-{{ b }}-{z}"#.to_owned()));
        for (value, kind) in [(json!(1), "number"), (json!({}), "table"), (json!(null), "userdata"), (json!(true), "boolean")] {
            assert_eq!(rendered("{{a}}", json!({ "a": value })), Err(format!("property values must be a string, got {kind}")));
        }
    }

    #[test]
    fn every_gap_without_a_value_is_named_once() {
        assert_eq!(rendered("{{x}}{{y}}{{x}}", json!({})), Err("missing template parameters: [x], [y]".to_owned()));
        assert_eq!(rendered("{{x}}", json!({ "x": "{{z}}" })), Err("missing template parameters: [z]".to_owned()));
    }
}
