//! Formats of providers, whole and piece by piece.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{TestRequest, answer, env, plugin};
use portcullis_plugin::{Body, Handler, Response, ResponseHead};
use serde_json::{Value, json};

use super::provider::{Dialect, from_provider, to_provider};
use super::stream::Stream;
use super::{CHAT, Model};
use crate::ai_proxy::AiProxy;

fn model(provider: &str, options: Value) -> Model {
    serde_json::from_value(json!({ "provider": provider, "name": "m", "options": options })).unwrap()
}

fn chat(messages: Value) -> serde_json::Map<String, Value> {
    json!({ "messages": messages, "model": "m", "stream": false, "max_tokens": 5 }).as_object().unwrap().clone()
}

#[test]
fn each_provider_gets_a_conversation_in_its_own_format() {
    let fields = chat(json!([
        { "role": "system", "content": "S" }, { "role": "user", "content": "U" },
        { "role": "assistant", "content": "A" }, { "role": "user", "content": "V" },
    ]));
    let sent = |provider: &str, options: Value| to_provider(&model(provider, options), CHAT, &fields).unwrap();
    assert_eq!(sent("openai", json!({}))["messages"].as_array().unwrap().len(), 4);
    let anthropic = sent("anthropic", json!({}));
    assert_eq!((&anthropic["system"], anthropic["messages"].as_array().unwrap().len()), (&json!("S"), 3));
    let cohere = sent("cohere", json!({}));
    assert_eq!((&cohere["message"], &cohere["chat_history"][2]), (&json!("V"), &json!({ "role": "CHATBOT", "message": "A" })));
    assert_eq!(
        sent("llama2", json!({ "llama2_format": "raw" }))["inputs"],
        "<s>[INST] <<SYS>> S <</SYS>> U [/INST] A </s><s>[INST] V [/INST]"
    );
    assert_eq!(sent("llama2", json!({ "llama2_format": "ollama" }))["options"], json!({ "num_predict": 5 }));
    let gemini = sent("gemini", json!({}));
    assert_eq!((&gemini["systemInstruction"], &gemini["contents"][1]["role"]), (&json!({ "parts": [{ "text": "S" }] }), &json!("model")));
    let bedrock = sent("bedrock", json!({}));
    assert_eq!((&bedrock["system"], &bedrock["inferenceConfig"]), (&json!([{ "text": "S" }]), &json!({ "maxTokens": 5 })));
}

#[test]
fn tools_are_translated_for_anthropic_and_back() {
    let mut fields = chat(json!([{ "role": "user", "content": "U" }]));
    fields.insert("tools".to_owned(), json!([{ "type": "function", "function": { "name": "f", "description": "d", "parameters": {} } }]));
    let sent = to_provider(&model("anthropic", json!({})), CHAT, &fields).unwrap();
    assert_eq!(sent["tools"], json!([{ "name": "f", "description": "d", "input_schema": {} }]));
    let given = json!({ "content": [{ "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } }], "stop_reason": "tool_use" });
    let answer = from_provider(&model("anthropic", json!({})), CHAT, "m", given.to_string().as_bytes()).unwrap().unwrap();
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((&call["function"]["name"], &call["function"]["arguments"]), (&json!("f"), &json!("{\"a\":1}")));
}

/// Feeds a provider's stream byte by byte; the text and the end the client sees, and the tokens counted.
fn streamed(dialect: Dialect, given: &[u8]) -> (String, bool, u64, u64) {
    let mut stream = Stream::new(dialect, "m".to_owned());
    let mut out = Vec::new();
    given.iter().for_each(|byte| out.extend(stream.feed(&[*byte], false)));
    out.extend(stream.feed(b"", true));
    let out = String::from_utf8(out).unwrap();
    let mut text = String::new();
    for line in out.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| *line != "[DONE]") {
        let chunk: Value = serde_json::from_str(line).unwrap();
        text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    (text, out.ends_with("data: [DONE]\n\n"), stream.prompt_tokens, stream.completion_tokens)
}

#[test]
fn streams_of_every_provider_become_openais() {
    let openai = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"Aye\"}}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n"
    );
    assert_eq!(streamed(Dialect::OpenAi, openai.as_bytes()), ("Aye".to_owned(), true, 7, 2));
    let anthropic = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7}}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Aye\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    );
    assert_eq!(streamed(Dialect::Anthropic, anthropic.as_bytes()), ("Aye".to_owned(), true, 7, 2));
    let ollama = "{\"message\":{\"content\":\"Aye\"},\"done\":false}\n{\"done\":true,\"prompt_eval_count\":7,\"eval_count\":2}\n";
    assert_eq!(streamed(Dialect::Ollama, ollama.as_bytes()), ("Aye".to_owned(), true, 7, 2));
    let gemini = concat!(
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Aye\"}]},\"finishReason\":\"STOP\"}],",
        "\"usageMetadata\":{\"promptTokenCount\":7,\"candidatesTokenCount\":2}}\r\n\r\n"
    );
    assert_eq!(streamed(Dialect::Gemini, gemini.as_bytes()), ("Aye".to_owned(), true, 7, 2));
    let cohere = concat!(
        "{\"event_type\":\"text-generation\",\"text\":\"Aye\",\"is_finished\":false}\n",
        "{\"event_type\":\"stream-end\",\"is_finished\":true,\"response\":{\"token_count\":{\"prompt_tokens\":7,\"response_tokens\":2}}}\n"
    );
    assert_eq!(streamed(Dialect::Cohere, cohere.as_bytes()), ("Aye".to_owned(), true, 7, 2));
    let frame = |payload: &str| {
        let mut frame = Vec::new();
        frame.extend(u32::try_from(payload.len() + 16).unwrap().to_be_bytes());
        frame.extend([0; 8]);
        frame.extend(payload.as_bytes());
        frame.extend([0; 4]);
        frame
    };
    let bedrock = [
        frame("{\"delta\":{\"text\":\"Aye\"}}"),
        frame("{\"stopReason\":\"end_turn\"}"),
        frame("{\"usage\":{\"inputTokens\":7,\"outputTokens\":2}}"),
    ];
    assert_eq!(streamed(Dialect::Bedrock, &bedrock.concat()), ("Aye".to_owned(), true, 7, 2));
}

#[test]
fn a_question_goes_to_the_provider_with_its_key_and_the_answer_comes_back_in_openais_format() {
    let plugin: AiProxy = plugin(json!({
        "route_type": CHAT,
        "auth": { "header_name": "x-api-key", "header_value": "k" },
        "logging": { "log_statistics": true },
        "model": { "provider": "anthropic", "name": "cl", "options": { "anthropic_version": "2023-06-01", "input_cost": 1000.0 } },
    }));
    let body = json!({ "messages": [{ "role": "user", "content": "Ahoy" }] }).to_string();
    let mut request = TestRequest::new("POST", "/chat").body("application/json", &body).build();
    assert_eq!(answer(plugin.access(&mut request)), None);
    assert_eq!((request.upstream.https, &*request.upstream.host, request.upstream.port), (true, "api.anthropic.com", 443));
    assert_eq!(request.upstream.path, b"/v1/messages");
    assert_eq!(request.head.headers.get("anthropic-version"), Some(&b"2023-06-01"[..]));
    assert_eq!(request.head.headers.get("x-api-key"), Some(&b"k"[..]));
    assert!(plugin.buffers(&request));
    let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
    let given = json!({ "content": [{ "type": "text", "text": "Aye" }], "usage": { "input_tokens": 9, "output_tokens": 4 } });
    let mut body = given.to_string().into_bytes();
    plugin.response(&mut request, Response { head: &mut head, body: &mut body }).unwrap();
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["choices"][0]["message"]["content"], "Aye");
    assert_eq!(head.headers.get("x-kong-llm-model"), Some(&b"anthropic/cl"[..]));
    let usage = &request.log_fields["ai.proxy.usage"];
    assert_eq!((&usage["total_tokens"], &usage["cost"]), (&json!(13), &json!(0.009)));
}

#[test]
fn the_model_may_be_taken_from_the_request() {
    let plugin: AiProxy = plugin(json!({
        "route_type": CHAT,
        "model": { "provider": "openai", "name": "$(headers.x_model)", "options": { "upstream_url": "http://model.test:81/v1" } },
    }));
    let body = json!({ "messages": [{ "role": "user", "content": "Ahoy" }] }).to_string();
    let ask = || TestRequest::new("POST", "/chat").body("application/json", &body);
    let refused = answer(plugin.access(&mut ask().build())).unwrap();
    assert_eq!(refused.body, Body::Json(json!({ "error": { "message": "headers key x_model was not provided" } })));
    let mut request = ask().header("X-Model", "small").build();
    assert_eq!(answer(plugin.access(&mut request)), None);
    let sent: Value = serde_json::from_slice(request.body.as_deref().unwrap()).unwrap();
    assert_eq!((&sent["model"], request.upstream.port), (&json!("small"), 81));
}

#[test]
fn a_model_that_cannot_be_reached_is_told_of() {
    let plugin: crate::ai_request_transformer::AiRequestTransformer = portcullis_plugin::testing::plugin_in(
        json!({
            "prompt": "p",
            "llm": { "route_type": CHAT, "model": { "provider": "openai", "name": "m", "options": { "upstream_url": "http://127.0.0.1:1/" } } },
        }),
        &Default::default(),
        &env(),
    );
    let mut request = TestRequest::new("POST", "/").body("text/plain", "words").build();
    let refused = answer(plugin.access(&mut request)).unwrap();
    let Body::Json(told) = refused.body else { panic!("not JSON") };
    assert!(told["error"]["message"].as_str().unwrap().starts_with("failed to introspect request with AI service: "), "{told}");
}

#[test]
fn hugging_faces_answers_are_a_chats() {
    let told = |body: Value| from_provider(&model("huggingface", json!({})), CHAT, "m", body.to_string().as_bytes());
    let whole = json!({
        "model": "m", "object": CHAT, "usage": {},
        "choices": [{ "index": 0, "finish_reason": "complete", "message": { "content": "hey" } }],
    });
    assert_eq!(told(json!([{ "generated_text": "hey" }])), Ok(Some(whole)));
    assert_eq!(told(json!({ "error": "busy" })), Err("API error: busy".to_owned()));
    assert_eq!(told(json!({})), Err("Invalid response format".to_owned()));
}

#[test]
fn a_client_cannot_choose_another_model_than_the_configured_one() {
    for route_type in ["llm/v1/chat", "preserve"] {
        let config = json!({ "route_type": route_type, "model": { "provider": "openai", "name": "m" } });
        let body = r#"{"model":"other","messages":[{"role":"user","content":"x"}]}"#;
        let mut request = TestRequest::new("POST", "/").body("application/json", body).build();
        let refused = answer(plugin::<AiProxy>(config).access(&mut request)).unwrap();
        assert_eq!(refused.status, 400);
        assert_eq!(refused.body, Body::Json(json!({ "error": { "message": "cannot use own model - must be: m" } })));
    }
}
