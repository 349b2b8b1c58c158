//! OpenAI's format to each provider's and back.
//!
//! Clients speak OpenAI's; [`to_provider`] makes a provider's request of theirs, [`from_provider`] an answer in OpenAI's format
//! of the provider's. [`super::stream`] does the latter piece by piece.

use serde_json::{Map, Value, json};

use super::request::{COMPLETIONS, messages, text_of};
use super::{Model, Options};

type Fields = Map<String, Value>;

/// The dialects there are: several providers share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    Cohere,
    Ollama,
    /// Llama 2 and Hugging Face's plain text generation.
    Raw,
    Gemini,
    Bedrock,
    HuggingFace,
}

impl Dialect {
    pub fn of(model: &Model) -> Self {
        let format = |pick: fn(&Options) -> &Option<String>| model.options.as_ref().and_then(|options| pick(options).as_deref());
        match model.provider.as_str() {
            "anthropic" => Dialect::Anthropic,
            "cohere" => Dialect::Cohere,
            "gemini" => Dialect::Gemini,
            "bedrock" => Dialect::Bedrock,
            "huggingface" => Dialect::HuggingFace,
            "llama2" => match format(|options| &options.llama2_format) {
                Some("ollama") => Dialect::Ollama,
                Some("raw") => Dialect::Raw,
                _ => Dialect::OpenAi,
            },
            "mistral" if format(|options| &options.mistral_format) == Some("ollama") => Dialect::Ollama,
            _ => Dialect::OpenAi,
        }
    }
}

/// Settings of the model stand before those of the client.
pub fn merge_options(fields: &mut Fields, options: Option<&Options>) {
    let Some(options) = options else { return };
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    let number = |number: Option<f64>| number.map(crate::number::json);
    put("max_tokens", options.max_tokens.map(Value::from));
    put("temperature", number(options.temperature));
    put("top_p", number(options.top_p));
    put("top_k", options.top_k.map(Value::from));
}

/// The provider's request for a client's, whose `model` and `stream` are settled. Errors with what the client is told.
pub fn to_provider(model: &Model, route_type: &str, fields: &Fields) -> Result<Value, String> {
    let completions = route_type == COMPLETIONS;
    Ok(match Dialect::of(model) {
        Dialect::OpenAi => {
            let mut out = fields.clone();
            // OpenAI knows no such option.
            out.remove("top_k");
            Value::Object(out)
        }
        Dialect::Anthropic if completions => {
            let prompt = fields.get("prompt").and_then(Value::as_str).unwrap_or_default();
            let mut out = picked(fields, &[("model", "model"), ("stream", "stream"), ("temperature", "temperature")]);
            out.insert("prompt".to_owned(), format!("Human: {prompt}\n\nAssistant:").into());
            copy(fields, &mut out, &[("max_tokens", "max_tokens_to_sample"), ("top_p", "top_p"), ("top_k", "top_k")]);
            Value::Object(out)
        }
        Dialect::Anthropic => anthropic(fields),
        Dialect::Cohere if completions => {
            let same = [("prompt", "prompt"), ("model", "model"), ("stream", "stream"), ("max_tokens", "max_tokens")];
            let mut out = picked(fields, &same);
            copy(fields, &mut out, &[("temperature", "temperature"), ("top_p", "p"), ("top_k", "k")]);
            Value::Object(out)
        }
        Dialect::Cohere => cohere(fields),
        Dialect::Ollama => {
            let from = if completions { "prompt" } else { "messages" };
            let mut out = picked(fields, &[(from, from), ("model", "model"), ("stream", "stream")]);
            let wanted = [("max_tokens", "num_predict"), ("temperature", "temperature"), ("top_p", "top_p"), ("top_k", "top_k")];
            let options = picked(fields, &wanted);
            if !options.is_empty() {
                out.insert("options".to_owned(), options.into());
            }
            Value::Object(out)
        }
        Dialect::Raw => raw(fields, completions),
        Dialect::Gemini => gemini(fields)?,
        Dialect::Bedrock => bedrock(fields)?,
        Dialect::HuggingFace => {
            let options = model.options.as_ref().and_then(|options| options.huggingface.as_ref());
            let mut waits = Map::new();
            if let Some(use_cache) = options.and_then(|options| options.use_cache) {
                waits.insert("use_cache".to_owned(), use_cache.into());
            }
            if let Some(wait) = options.and_then(|options| options.wait_for_model) {
                waits.insert("wait_for_model".to_owned(), wait.into());
            }
            let mut out = if completions { as_object(raw(fields, true)) } else { fields.clone() };
            if !waits.is_empty() {
                out.insert("options".to_owned(), waits.into());
            }
            Value::Object(out)
        }
    })
}

fn as_object(value: Value) -> Fields {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

fn picked(fields: &Fields, names: &[(&str, &str)]) -> Fields {
    let mut out = Map::new();
    copy(fields, &mut out, names);
    out
}

fn copy(fields: &Fields, out: &mut Fields, names: &[(&str, &str)]) {
    for (name, other) in names {
        if let Some(value) = fields.get(*name) {
            out.insert((*other).to_owned(), value.clone());
        }
    }
}

fn anthropic(fields: &Fields) -> Value {
    let same = [("model", "model"), ("stream", "stream"), ("max_tokens", "max_tokens"), ("temperature", "temperature")];
    let mut out = picked(fields, &same);
    copy(fields, &mut out, &[("top_p", "top_p"), ("top_k", "top_k")]);
    let all = fields.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_system = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("system");
    let system: Vec<String> = all.iter().filter(is_system).map(|message| text_of(message.get("content"))).collect();
    if !system.is_empty() {
        out.insert("system".to_owned(), system.join("\n").into());
    }
    let spoken = all.iter().filter(|message| !is_system(message)).map(anthropic_message);
    out.insert("messages".to_owned(), spoken.collect::<Vec<_>>().into());
    if let Some(tools) = fields.get("tools").and_then(Value::as_array) {
        let tool = |tool: &Value| {
            let function = tool.get("function")?;
            Some(json!({
                "name": function.get("name")?,
                "description": function.get("description"),
                "input_schema": function.get("parameters"),
            }))
        };
        out.insert("tools".to_owned(), tools.iter().filter_map(tool).collect::<Vec<_>>().into());
    }
    Value::Object(out)
}

fn anthropic_message(message: &Value) -> Value {
    if message.get("role").and_then(Value::as_str) == Some("tool") {
        let result = json!({
            "type": "tool_result",
            "tool_use_id": message.get("tool_call_id"),
            "content": text_of(message.get("content")),
        });
        return json!({ "role": "user", "content": [result] });
    }
    let Some(calls) = message.get("tool_calls").and_then(Value::as_array) else {
        return json!({ "role": message.get("role"), "content": message.get("content") });
    };
    let call = |call: &Value| {
        let function = call.get("function")?;
        let input: Value = serde_json::from_str(function.get("arguments")?.as_str()?).ok()?;
        Some(json!({ "type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": input }))
    };
    let mut content: Vec<Value> = Vec::new();
    let text = text_of(message.get("content"));
    if !text.is_empty() {
        content.push(json!({ "type": "text", "text": text }));
    }
    content.extend(calls.iter().filter_map(call));
    json!({ "role": "assistant", "content": content })
}

fn cohere(fields: &Fields) -> Value {
    let same = [("model", "model"), ("stream", "stream"), ("max_tokens", "max_tokens"), ("temperature", "temperature")];
    let mut out = picked(fields, &same);
    copy(fields, &mut out, &[("top_p", "p"), ("top_k", "k")]);
    let mut all: Vec<(&str, String)> = messages(fields).collect();
    let (_, last) = all.pop().unwrap_or_default();
    out.insert("message".to_owned(), last.into());
    if !all.is_empty() {
        let role = |role: &str| if matches!(role, "assistant" | "CHATBOT") { "CHATBOT" } else { "USER" };
        let history = all.into_iter().map(|(from, text)| json!({ "role": role(from), "message": text }));
        out.insert("chat_history".to_owned(), history.collect::<Vec<_>>().into());
    }
    Value::Object(out)
}

/// Llama 2's own way to write a conversation down.
fn raw(fields: &Fields, completions: bool) -> Value {
    let mut inputs = String::new();
    if completions {
        inputs = fields.get("prompt").and_then(Value::as_str).unwrap_or_default().to_owned();
    } else {
        let mut open = false;
        for (role, text) in messages(fields) {
            match role {
                "system" => {
                    inputs.push_str(&format!("<s>[INST] <<SYS>> {text} <</SYS>> "));
                    open = true;
                }
                "assistant" => inputs.push_str(&format!(" {text} </s>")),
                _ => {
                    if !std::mem::take(&mut open) {
                        inputs.push_str("<s>[INST] ");
                    }
                    inputs.push_str(&format!("{text} [/INST]"));
                }
            }
        }
    }
    let wanted =
        [("max_tokens", "max_new_tokens"), ("temperature", "temperature"), ("top_p", "top_p"), ("top_k", "top_k"), ("stream", "stream")];
    json!({ "inputs": inputs, "parameters": picked(fields, &wanted) })
}

fn gemini(fields: &Fields) -> Result<Value, String> {
    let mut out = Map::new();
    let mut contents: Vec<Value> = Vec::new();
    for (role, text) in conversation(fields) {
        let part = json!({ "text": text });
        match role {
            "system" => _ = out.insert("systemInstruction".to_owned(), json!({ "parts": [part] })),
            "assistant" | "model" => contents.push(json!({ "role": "model", "parts": [part] })),
            _ => contents.push(json!({ "role": "user", "parts": [part] })),
        }
    }
    out.insert("contents".to_owned(), contents.into());
    let wanted = [
        ("max_tokens", "maxOutputTokens"),
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("top_k", "topK"),
        ("stop", "stopSequences"),
    ];
    let settings = picked(fields, &wanted);
    if !settings.is_empty() {
        out.insert("generationConfig".to_owned(), settings.into());
    }
    Ok(Value::Object(out))
}

fn bedrock(fields: &Fields) -> Result<Value, String> {
    let mut out = Map::new();
    let (mut spoken, mut system) = (Vec::new(), Vec::new());
    for (role, text) in conversation(fields) {
        match role {
            "system" => system.push(json!({ "text": text })),
            role => spoken.push(json!({ "role": role, "content": [{ "text": text }] })),
        }
    }
    out.insert("messages".to_owned(), spoken.into());
    if !system.is_empty() {
        out.insert("system".to_owned(), system.into());
    }
    let wanted = [("max_tokens", "maxTokens"), ("temperature", "temperature"), ("top_p", "topP"), ("stop", "stopSequences")];
    let settings = picked(fields, &wanted);
    if !settings.is_empty() {
        out.insert("inferenceConfig".to_owned(), settings.into());
    }
    Ok(Value::Object(out))
}

/// The messages, or a prompt as one of the user's.
fn conversation(fields: &Fields) -> Vec<(&str, String)> {
    let spoken: Vec<(&str, String)> = messages(fields).collect();
    if !spoken.is_empty() {
        return spoken;
    }
    vec![("user", fields.get("prompt").and_then(Value::as_str).unwrap_or_default().to_owned())]
}

/// An answer in OpenAI's format of a provider's; none where it is in that format already. `asked` is the model's name.
/// Errors with what is wrong with it.
pub fn from_provider(model: &Model, route_type: &str, asked: &str, body: &[u8]) -> Result<Option<Value>, String> {
    let chat = route_type != COMPLETIONS;
    let dialect = Dialect::of(model);
    let decoded: Option<Value> = serde_json::from_slice(body).ok();
    let answer = match dialect {
        Dialect::OpenAi => {
            let decoded = decoded.ok_or_else(|| format!("failed to decode {route_type} response"))?;
            return if decoded.get("choices").is_some() { Ok(None) } else { Err(format!("'choices' not in {route_type} response")) };
        }
        Dialect::Anthropic => from_anthropic(&decoded.ok_or("failed to decode anthropic response")?, route_type)?,
        Dialect::Cohere => from_cohere(&decoded.ok_or("failed to decode cohere response")?, asked, chat)?,
        Dialect::Ollama => from_ollama(&decoded.ok_or("failed to decode ollama response")?)?,
        Dialect::HuggingFace => from_huggingface(&decoded.ok_or("Failed to decode response")?, asked, route_type)?,
        Dialect::Raw => from_raw(decoded.as_ref(), &model.provider, asked, chat)?,
        Dialect::Gemini => from_gemini(&decoded.ok_or("failed to decode gemini response")?, asked)?,
        Dialect::Bedrock => from_bedrock(&decoded.ok_or("failed to decode bedrock response")?, asked)?,
    };
    Ok(Some(answer))
}

/// Tokens as OpenAI tells them.
pub fn usage(prompt: u64, completion: u64) -> Value {
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
}

fn count(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_f64).map_or(0, |number| number as u64)
}

fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path).and_then(Value::as_str)
}

fn spoken(content: &str, finish_reason: &str) -> Value {
    json!([{ "index": 0, "finish_reason": finish_reason, "message": { "role": "assistant", "content": content } }])
}

fn from_anthropic(given: &Value, route_type: &str) -> Result<Value, String> {
    if let Some(completion) = text(given, "/completion") {
        let choice = json!([{ "index": 0, "finish_reason": given.get("stop_reason"), "text": completion }]);
        return Ok(json!({ "choices": choice, "model": given.get("model"), "object": "text_completion" }));
    }
    let Some(parts) = given.get("content").and_then(Value::as_array) else {
        // Kong names the chat's route for both.
        let field = if route_type == COMPLETIONS { "completion" } else { "content" };
        return Err(format!("'{field}' not in anthropic://llm/v1/chat response"));
    };
    let words: String = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
    let mut message = json!({ "role": "assistant", "content": words });
    let calls: Vec<Value> = parts
        .iter()
        .filter(|part| text(part, "/type") == Some("tool_use"))
        .map(|part| {
            let arguments = part.get("input").map_or_else(String::new, Value::to_string);
            json!({ "id": part.get("id"), "type": "function", "function": { "name": part.get("name"), "arguments": arguments } })
        })
        .collect();
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    Ok(json!({
        "choices": [{ "index": 0, "finish_reason": given.get("stop_reason"), "message": message }],
        "model": given.get("model"),
        "object": "chat.completion",
        "usage": usage(count(given, "/usage/input_tokens"), count(given, "/usage/output_tokens")),
    }))
}

fn from_cohere(given: &Value, asked: &str, chat: bool) -> Result<Value, String> {
    let of = |place: &str, prompt: &str, completion: &str| {
        given.get(place).map(|_| (count(given, &format!("/{place}/{prompt}")), count(given, &format!("/{place}/{completion}"))))
    };
    let counted = of("token_count", "prompt_tokens", "response_tokens");
    let billed = given.pointer("/meta/billed_units");
    let billed = billed.map(|units| (count(units, "/input_tokens"), count(units, "/output_tokens")));
    let (prompt, completion) = counted.or(billed).unwrap_or_default();
    let choices = if let Some(words) = text(given, "/text") {
        if chat { spoken(words, "stop") } else { json!([{ "index": 0, "finish_reason": "stop", "text": words }]) }
    } else if let Some(generations) = given.get("generations").and_then(Value::as_array) {
        let one = |(index, generation): (usize, &Value)| {
            let words = text(generation, "/text").unwrap_or_default();
            if chat {
                json!({ "index": index, "finish_reason": "stop", "message": { "role": "assistant", "content": words } })
            } else {
                json!({ "index": index, "finish_reason": "stop", "text": words })
            }
        };
        generations.iter().enumerate().map(one).collect::<Vec<_>>().into()
    } else {
        return Err("'text' or 'generations' missing from cohere response body".to_owned());
    };
    Ok(json!({
        "choices": choices,
        "id": given.get("generation_id").or_else(|| given.get("id")),
        "model": asked,
        "object": if chat { "chat.completion" } else { "text_completion" },
        "usage": usage(prompt, completion),
    }))
}

fn from_ollama(given: &Value) -> Result<Value, String> {
    let finish = if given.get("done").and_then(Value::as_bool) == Some(true) { json!("stop") } else { Value::Null };
    let (choices, object) = if let Some(message) = given.get("message") {
        (json!([{ "index": 0, "finish_reason": finish, "message": message }]), "chat.completion")
    } else if let Some(words) = text(given, "/response") {
        (json!([{ "index": 0, "finish_reason": finish, "text": words }]), "text_completion")
    } else {
        return Err("no 'message' or 'response' in the model's answer".to_owned());
    };
    Ok(json!({
        "choices": choices,
        "created": given.get("created_at"),
        "model": given.get("model"),
        "object": object,
        "usage": usage(count(given, "/prompt_eval_count"), count(given, "/eval_count")),
    }))
}

/// Kong writes every answer of this provider as a chat's, completions too.
fn from_huggingface(given: &Value, asked: &str, route_type: &str) -> Result<Value, String> {
    let told = |name: &str| given.get(name).filter(|value| !value.is_null() && **value != Value::Bool(false));
    if let Some(problem) = told("error").or_else(|| told("message")) {
        let problem = problem.as_str().map(|problem| format!("API error: {problem}"));
        return Err(problem.unwrap_or_else(|| "unexpected_error".to_owned()));
    }
    let choice = |index: usize, words: &str| json!({ "index": index, "finish_reason": "complete", "message": { "content": words } });
    let choices: Vec<Value> = match (text(given, "/0/generated_text"), given.get("choices").and_then(Value::as_array)) {
        (Some(words), _) => vec![choice(0, words)],
        (None, Some(list)) => {
            list.iter().enumerate().map(|(index, one)| choice(index, text(one, "/message/content").unwrap_or_default())).collect()
        }
        (None, None) => return Err("Invalid response format".to_owned()),
    };
    Ok(json!({
        "model": asked,
        "object": given.get("object").cloned().unwrap_or_else(|| route_type.into()),
        "choices": choices,
        "usage": given.get("usage").cloned().unwrap_or_else(|| json!({})),
    }))
}

fn from_raw(given: Option<&Value>, provider: &str, asked: &str, chat: bool) -> Result<Value, String> {
    let first = given
        .and_then(|given| ["/0/generated_text", "/data/0/generated_text", "/generated_text"].iter().find_map(|path| text(given, path)));
    let words = first.ok_or_else(|| format!("cannot parse response from {provider} endpoint"))?;
    // The question is often repeated in front.
    let words = words.rsplit_once("[/INST]").map_or(words, |(_, words)| words);
    let choices = if chat { spoken(words, "stop") } else { json!([{ "index": 0, "finish_reason": "stop", "text": words }]) };
    Ok(json!({ "choices": choices, "model": asked, "object": if chat { "chat.completion" } else { "text_completion" } }))
}

fn from_gemini(given: &Value, asked: &str) -> Result<Value, String> {
    let Some(words) = text(given, "/candidates/0/content/parts/0/text") else {
        return Err("no generation candidates received from Gemini, or max_tokens too short".to_owned());
    };
    Ok(json!({
        "choices": spoken(words, "stop"),
        "model": asked,
        "object": "chat.completion",
        "usage": {
            "prompt_tokens": count(given, "/usageMetadata/promptTokenCount"),
            "completion_tokens": count(given, "/usageMetadata/candidatesTokenCount"),
            "total_tokens": count(given, "/usageMetadata/totalTokenCount"),
        },
    }))
}

fn from_bedrock(given: &Value, asked: &str) -> Result<Value, String> {
    let Some(words) = text(given, "/output/message/content/0/text") else {
        return Err("no generation candidates received from Bedrock, or max_tokens too short".to_owned());
    };
    Ok(json!({
        "choices": spoken(words, "stop"),
        "model": asked,
        "object": "chat.completion",
        "usage": usage(count(given, "/usage/inputTokens"), count(given, "/usage/outputTokens")),
    }))
}
