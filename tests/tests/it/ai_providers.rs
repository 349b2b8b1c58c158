//! Azure, Bedrock and Hugging Face behind ai-proxy, and a function on Azure: servers that answer in the shape of the providers' own
//! answers, and remember how they were asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use portcullis_tests::{Answer, Gateway};
use serde_json::{Value, json};

/// One request: its head, lines and all, and its body.
type Asked = (String, Vec<u8>);

/// A server that gives one answer to whatever it is asked.
struct Provider {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Provider {
    fn start(content_type: &str, body: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let seen = asked.clone();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nX-Own: 1\r\nContent-Length: {}\r\n\r\n", body.len());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                // A connection that ends is no request.
                while let Some(request) = read_request(&mut reader) {
                    seen.lock().unwrap().push(request);
                    let answer = [head.as_bytes(), &body].concat();
                    if reader.get_mut().write_all(&answer).is_err() {
                        break;
                    }
                }
            }
        });
        Self { address, asked }
    }

    fn json(body: Value) -> Self {
        Self::start("application/json", body.to_string().into_bytes())
    }

    /// The only request so far: request line, headers by name, body.
    fn one(&self) -> (String, Value, Value) {
        let asked = self.asked.lock().unwrap();
        let [(head, body)] = &asked[..] else { unreachable!("{asked:?}") };
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers = lines.map(|(name, value)| (name.to_ascii_lowercase(), json!(value))).collect();
        (head.lines().next().unwrap_or_default().to_owned(), headers, serde_json::from_slice(body).unwrap_or_default())
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Asks a gateway that leads conversations to this provider.
fn converse(provider: &Provider, path: &str, mut model: Value, auth: Value, stream: bool) -> Answer {
    let gate = Gateway::start();
    let admin = gate.admin();
    model["options"]["upstream_url"] = format!("http://{}{path}", provider.address).into();
    admin.post("/services", json!({ "name": "ai", "url": "http://127.0.0.1:1" }));
    admin.post("/services/ai/routes", json!({ "paths": ["/chat"] }));
    let config = json!({ "route_type": "llm/v1/chat", "auth": auth, "model": model, "logging": { "log_statistics": true } });
    admin.post("/plugins", json!({ "name": "ai-proxy", "config": config }));
    let messages = json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Ahoy" }]);
    let question = json!({ "messages": messages, "stream": stream }).to_string();
    let length = question.len();
    gate.ask(format!("POST /chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{question}"))
}

/// The words of an answer in OpenAI's format.
fn words(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["choices"][0]["message"]["content"].clone()
}

/// The words of a stream in OpenAI's format, which must come to its end.
fn streamed(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")), "{}", answer.head);
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let pieces = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    pieces.filter_map(|piece| Some(piece["choices"][0]["delta"]["content"].as_str()?.to_owned())).collect()
}

fn openai() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "Aye" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10 },
    })
}

const EVENTS: &str = "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"A\"}}]}\n\n\
                      data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ye\"},\"finish_reason\":\"stop\"}]}\n\n\
                      data: [DONE]\n\n";

#[test]
fn azure_is_asked_at_the_deployment_s_address_with_its_version_and_key() {
    let model = json!({
        "provider": "azure", "name": "gpt-4",
        "options": { "azure_instance": "harbour", "azure_deployment_id": "pilot", "azure_api_version": "2024-02-01" },
    });
    let auth = json!({ "header_name": "api-key", "header_value": "secret" });
    let path = "/openai/deployments/pilot/chat/completions";
    let provider = Provider::json(openai());
    let answer = converse(&provider, path, model.clone(), auth.clone(), false);
    assert_eq!(words(&answer), "Aye");
    assert_eq!(answer.header("x-kong-llm-model"), Some("azure/gpt-4"));
    let (line, headers, body) = provider.one();
    assert_eq!(line, format!("POST {path}?api-version=2024-02-01 HTTP/1.1"));
    assert_eq!((&headers["api-key"], &headers["content-type"]), (&json!("secret"), &json!("application/json")));
    assert_eq!(body["messages"][1], json!({ "role": "user", "content": "Ahoy" }));

    let provider = Provider::start("text/event-stream", EVENTS.into());
    assert_eq!(streamed(&converse(&provider, path, model, auth, true)), "Aye");
    assert_eq!(provider.one().2["stream"], true);
}

#[test]
fn hugging_face_is_asked_in_openai_s_format_with_options_of_its_own() {
    let model = json!({
        "provider": "huggingface", "name": "pirate",
        "options": { "max_tokens": 7, "huggingface": { "use_cache": false, "wait_for_model": true } },
    });
    let auth = json!({ "header_name": "Authorization", "header_value": "Bearer secret" });
    let path = "/models/pirate/v1/chat/completions";
    let provider = Provider::json(openai());
    let answer = converse(&provider, path, model.clone(), auth.clone(), false);
    assert_eq!(words(&answer), "Aye");
    let (line, headers, body) = provider.one();
    assert_eq!((line.as_str(), &headers["authorization"]), (&*format!("POST {path} HTTP/1.1"), &json!("Bearer secret")));
    assert_eq!((&body["options"], &body["max_tokens"]), (&json!({ "use_cache": false, "wait_for_model": true }), &json!(7)));
    assert_eq!(body["messages"].as_array().map(Vec::len), Some(2));

    let provider = Provider::start("text/event-stream", EVENTS.into());
    assert_eq!(streamed(&converse(&provider, path, model, auth, true)), "Aye");
}

/// A message of Amazon's event stream: lengths, one header that names the event, the payload, and sums that nobody checks.
fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let payload = payload.to_string();
    let mut headers = vec![11];
    headers.extend(b":event-type\x07");
    headers.extend((kind.len() as u16).to_be_bytes());
    headers.extend(kind.as_bytes());
    let length = (16 + headers.len() + payload.len()) as u32;
    [&length.to_be_bytes()[..], &(headers.len() as u32).to_be_bytes(), &[0; 4], &headers, payload.as_bytes(), &[0; 4]].concat()
}

#[test]
fn bedrock_is_asked_in_its_own_format_and_signed() {
    let model = json!({
        "provider": "bedrock", "name": "amazon.titan", "options": { "max_tokens": 7, "bedrock": { "aws_region": "eu-north-1" } },
    });
    let auth = json!({ "aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret" });
    let provider = Provider::json(json!({
        "output": { "message": { "role": "assistant", "content": [{ "text": "Aye" }] } }, "stopReason": "end_turn",
        "usage": { "inputTokens": 9, "outputTokens": 1, "totalTokens": 10 }, "metrics": { "latencyMs": 5 },
    }));
    let answer = converse(&provider, "/model/amazon.titan/converse", model.clone(), auth.clone(), false);
    assert_eq!(words(&answer), "Aye");
    assert_eq!(answer.json()["usage"], json!({ "prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10 }));
    let (line, headers, body) = provider.one();
    assert_eq!(line, "POST /model/amazon.titan/converse HTTP/1.1");
    let signed = headers["authorization"].as_str().unwrap();
    let date = headers["x-amz-date"].as_str().unwrap();
    let credential = format!("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{}/eu-north-1/bedrock/aws4_request, SignedHeaders=", &date[..8]);
    assert!(signed.starts_with(&credential), "{signed}");
    let (names, signature) = signed[credential.len()..].split_once(", Signature=").unwrap();
    assert!(names.split(';').any(|name| name == "host") && names.split(';').any(|name| name == "x-amz-date"), "{names}");
    assert!(signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()), "{signature}");
    assert_eq!(body["system"], json!([{ "text": "Be brief." }]));
    assert_eq!(body["messages"], json!([{ "role": "user", "content": [{ "text": "Ahoy" }] }]));
    assert_eq!(body["inferenceConfig"]["maxTokens"], 7);

    let stream = [
        event("messageStart", &json!({ "role": "assistant" })),
        event("contentBlockDelta", &json!({ "contentBlockIndex": 0, "delta": { "text": "A" } })),
        event("contentBlockDelta", &json!({ "contentBlockIndex": 0, "delta": { "text": "ye" } })),
        event("messageStop", &json!({ "stopReason": "end_turn" })),
        event("metadata", &json!({ "usage": { "inputTokens": 9, "outputTokens": 1, "totalTokens": 10 } })),
    ];
    let provider = Provider::start("application/vnd.amazon.eventstream", stream.concat());
    assert_eq!(streamed(&converse(&provider, "/model/amazon.titan/converse-stream", model, auth, true)), "Aye");
}

#[test]
fn a_function_on_azure_answers_in_the_upstream_s_place() {
    let function = Provider::json(json!({ "ship": "sails" }));
    let gate = Gateway::start();
    let admin = gate.admin();
    admin.post("/services", json!({ "name": "f", "url": "http://127.0.0.1:1" }));
    admin.post("/services/f/routes", json!({ "paths": ["/f"] }));
    // The name of the application and its domain are parts of one host.
    let config = json!({
        "https": false, "appname": "127.0.0", "hostdomain": format!("1:{}", function.address.port()), "functionname": "sail",
        "apikey": "key", "clientid": "id",
    });
    admin.post("/plugins", json!({ "name": "azure-functions", "config": config }));
    let body = r#"{"where":"north"}"#;
    let answer = gate.ask(format!(
        "POST /f/ignored?a=1 HTTP/1.1\r\nHost: a\r\nX-Mine: yes\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!((answer.status, answer.json(), answer.header("x-own")), (200, json!({ "ship": "sails" }), Some("1")));
    let (line, headers, sent) = function.one();
    assert_eq!(line, "POST /api/sail?a=1 HTTP/1.1");
    assert_eq!((&headers["x-functions-key"], &headers["x-functions-clientid"]), (&json!("key"), &json!("id")));
    assert_eq!((&headers["x-mine"], &headers["host"]), (&json!("yes"), &json!(function.address.to_string())));
    assert_eq!(sent, json!({ "where": "north" }));
}
