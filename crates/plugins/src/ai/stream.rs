//! A provider's answer piece by piece, as OpenAI's server-sent events.

use serde_json::{Value, json};

use super::provider::Dialect;

/// A line or frame longer than this is no answer of a model, in bytes.
const LONGEST: usize = 1 << 20;

/// What has come of an answer, and what it tells of itself.
pub struct Stream {
    dialect: Dialect,
    model: String,
    rest: Vec<u8>,
    done: bool,
    /// Everything the model has said.
    pub said: String,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

impl Stream {
    pub fn new(dialect: Dialect, model: String) -> Self {
        Self { dialect, model, rest: Vec::new(), done: false, said: String::new(), prompt_tokens: 0, completion_tokens: 0 }
    }

    /// What the client gets for this piece of the provider's answer.
    pub fn feed(&mut self, piece: &[u8], last: bool) -> Vec<u8> {
        self.rest.extend_from_slice(piece);
        let mut out = Vec::new();
        if self.dialect == Dialect::Bedrock {
            self.frames(&mut out);
        } else {
            self.lines(&mut out, last);
        }
        if self.rest.len() > LONGEST {
            self.rest.clear();
        }
        if last && !self.done && !self.is_passed_on() {
            out.extend_from_slice(b"data: [DONE]\n\n");
            self.done = true;
        }
        out
    }

    /// The provider speaks as OpenAI does.
    fn is_passed_on(&self) -> bool {
        matches!(self.dialect, Dialect::OpenAi | Dialect::HuggingFace)
    }

    fn lines(&mut self, out: &mut Vec<u8>, last: bool) {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(&line, out);
        }
        if last && !self.rest.is_empty() {
            let line = std::mem::take(&mut self.rest);
            self.line(&line, out);
        }
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if self.is_passed_on() {
            out.extend_from_slice(line);
        }
        let line = line.trim_ascii();
        // Some send events, others an object on each line.
        let data = line.strip_prefix(b"data:").unwrap_or(line).trim_ascii();
        let Ok(event) = serde_json::from_slice::<Value>(data) else { return };
        self.event(&event, out);
    }

    /// Frames of AWS's event stream: two lengths, a checksum, headers, the payload, a checksum; big-endian.
    fn frames(&mut self, out: &mut Vec<u8>) {
        loop {
            let number =
                |at: usize| self.rest.get(at..at + 4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize);
            let (Some(total), Some(headers)) = (number(0), number(4)) else { return };
            if total > LONGEST || total < headers + 16 {
                self.rest.clear();
                return;
            }
            if self.rest.len() < total {
                return;
            }
            let frame: Vec<u8> = self.rest.drain(..total).collect();
            if let Ok(event) = serde_json::from_slice::<Value>(&frame[12 + headers..total - 4]) {
                self.event(&event, out);
            }
        }
    }

    fn event(&mut self, event: &Value, out: &mut Vec<u8>) {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str);
        let count = |path: &str| event.pointer(path).and_then(Value::as_f64).map(|number| number as u64);
        let (words, completion);
        let (mut finish, mut done, mut prompt) = (None, false, None);
        match self.dialect {
            Dialect::OpenAi | Dialect::HuggingFace => {
                words = text("/choices/0/delta/content").or_else(|| text("/choices/0/text"));
                (prompt, completion) = (count("/usage/prompt_tokens"), count("/usage/completion_tokens"));
            }
            Dialect::Anthropic => {
                words = text("/delta/text").or_else(|| text("/completion"));
                finish = text("/delta/stop_reason").or_else(|| text("/stop_reason"));
                prompt = count("/message/usage/input_tokens").or_else(|| count("/usage/input_tokens"));
                completion = count("/usage/output_tokens");
                done = text("/type") == Some("message_stop");
            }
            Dialect::Cohere => {
                words = text("/text").filter(|_| text("/event_type") != Some("stream-end"));
                if event.get("is_finished").and_then(Value::as_bool) == Some(true) {
                    finish = Some("stop");
                    done = true;
                }
                prompt = count("/response/token_count/prompt_tokens").or_else(|| count("/response/meta/billed_units/input_tokens"));
                completion = count("/response/token_count/response_tokens").or_else(|| count("/response/meta/billed_units/output_tokens"));
            }
            Dialect::Ollama => {
                words = text("/message/content").or_else(|| text("/response"));
                if event.get("done").and_then(Value::as_bool) == Some(true) {
                    finish = Some("stop");
                    done = true;
                }
                (prompt, completion) = (count("/prompt_eval_count"), count("/eval_count"));
            }
            Dialect::Raw => {
                words = text("/token/text");
                done = event.get("generated_text").is_some_and(Value::is_string);
                finish = done.then_some("stop");
                completion = count("/details/generated_tokens");
            }
            Dialect::Gemini => {
                words = text("/candidates/0/content/parts/0/text");
                finish = text("/candidates/0/finishReason").map(|_| "stop");
                (prompt, completion) = (count("/usageMetadata/promptTokenCount"), count("/usageMetadata/candidatesTokenCount"));
            }
            Dialect::Bedrock => {
                words = text("/delta/text");
                finish = text("/stopReason").map(|_| "stop");
                (prompt, completion) = (count("/usage/inputTokens"), count("/usage/outputTokens"));
                done = event.get("usage").is_some();
            }
        }
        self.prompt_tokens = prompt.unwrap_or(self.prompt_tokens);
        self.completion_tokens = completion.unwrap_or(self.completion_tokens);
        if let Some(words) = words {
            self.said.push_str(words);
        }
        if self.is_passed_on() {
            return;
        }
        if words.is_some_and(|words| !words.is_empty()) || finish.is_some() {
            let delta = words.filter(|words| !words.is_empty()).map_or_else(|| json!({}), |words| json!({ "content": words }));
            let chunk = json!({
                "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
                "model": self.model,
                "object": "chat.completion.chunk",
            });
            out.extend_from_slice(format!("data: {chunk}\n\n").as_bytes());
        }
        if done && !self.done {
            self.done = true;
            out.extend_from_slice(b"data: [DONE]\n\n");
        }
    }
}
