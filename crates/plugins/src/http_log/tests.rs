//! What a log server gets.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use portcullis_plugin::testing::{People, TestRequest, configured, plugin, try_plugin};
use portcullis_plugin::{Entry, Exchange, Handler, Instance, Latencies, Request, ResponseHead, Source, Try, TryState};
use serde_json::{Value, json};
use uuid::Uuid;

use super::HttpLog;
use crate::serialize;

const ANNA: Uuid = Uuid::from_u128(0xa);

/// A log server that answers each request with one of these statuses and tells what it got: head and body.
fn server(statuses: &'static [u16]) -> (String, std::thread::JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        statuses
            .iter()
            .map(|status| {
                let (mut client, _) = listener.accept().unwrap();
                let got = read(&mut client);
                write!(client, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
                got
            })
            .collect()
    });
    (address, serving)
}

fn read(client: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
            if body.len() >= length.parse().unwrap() {
                return (text[..head.len()].to_owned(), body.to_owned());
            }
        }
        let count = client.read(&mut chunk).unwrap();
        assert!(count > 0, "the request was cut short");
        bytes.extend_from_slice(&chunk[..count]);
    }
}

fn exchange<'a>(request: &'a Request, response: &'a ResponseHead, tries: &'a [Try]) -> Exchange<'a> {
    Exchange {
        request,
        response,
        source: Source::Service,
        tries,
        upstream_uri: Some(b"/boat?x=1"),
        upstream_status: "502, 200",
        latencies: Latencies { kong: 1, proxy: 2, request: 3, receive: 0 },
        request_bytes: 220,
        response_bytes: 310,
    }
}

fn log(plugin: &HttpLog, target: &str) {
    plugin.log(&exchange(&TestRequest::get(target).build(), &ResponseHead::new(200), &[]));
}

#[test]
fn a_record_is_sent_as_configured() {
    let (address, server) = server(&[200]);
    let plugin: HttpLog = plugin(json!({
        "http_endpoint": format!("http://us%65r:p%40s+s@{address}/logs/here?not=sent"),
        "method": "PUT",
        "content_type": "application/json; charset=utf-8",
        "headers": { "X-Key": "k" },
    }));
    log(&plugin, "/one");
    let (head, body) = server.join().unwrap().remove(0);
    let lines: Vec<String> = head.lines().skip(1).map(str::to_ascii_lowercase).collect();
    assert!(head.starts_with("PUT /logs/here HTTP/1.1\r\n"), "{head}");
    for line in ["content-type: application/json; charset=utf-8", "x-key: k", &format!("host: {address}")] {
        assert!(lines.iter().any(|got| got == line), "{line} is not in {head}");
    }
    // user:p@s+s
    assert!(head.contains("Basic dXNlcjpwQHMrcw=="), "{head}");
    let record: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(record["request"]["uri"], "/one");
}

#[test]
fn batches_are_lists() {
    let (address, server) = server(&[200]);
    let queue = json!({ "max_batch_size": 2, "max_coalescing_delay": 3600 });
    let plugin: HttpLog = plugin(json!({ "http_endpoint": format!("http://{address}/"), "queue": queue }));
    log(&plugin, "/one");
    log(&plugin, "/two");
    let (_, body) = server.join().unwrap().remove(0);
    let records: Vec<Value> = serde_json::from_str(&body).unwrap();
    let uris: Vec<&Value> = records.iter().map(|record| &record["request"]["uri"]).collect();
    assert_eq!(uris, ["/one", "/two"]);
}

#[test]
fn a_refused_record_is_sent_again() {
    let (address, server) = server(&[500, 302, 201]);
    let plugin: HttpLog = plugin(json!({ "http_endpoint": format!("http://{address}/") }));
    log(&plugin, "/one");
    let got = server.join().unwrap();
    assert!(got.iter().all(|(_, body)| *body == got[0].1) && got.len() == 3);
}

#[test]
fn a_record_tells_what_happened() {
    let people = People::default().consumer(ANNA, "anna");
    let mut request = TestRequest::new("POST", "/logged/boat?x=1&y=a%20b&y=2&flag")
        .header("Authorization", "Basic abc")
        .header("X-Many", "a")
        .header("x-many", "b")
        .people(&people)
        .authenticated(ANNA)
        .build();
    let route = json!({
        "id": "00000000-0000-0000-0000-000000000002", "name": "r1", "paths": ["/logged"], "protocols": ["http", "https"],
        "https_redirect_status_code": 426, "strip_path": true, "preserve_host": false, "request_buffering": true,
        "response_buffering": true, "regex_priority": 0, "path_handling": "v0",
        "service": { "id": "00000000-0000-0000-0000-000000000001" },
    });
    request.route = Some(Arc::new(serde_json::from_value(route).unwrap()));
    request.log_fields.insert("mine.deep".to_owned(), json!("set"));
    request.log_fields.insert("started_at".to_owned(), Value::Null);
    request.log_fields.insert("absent.deep".to_owned(), Value::Null);
    let mut response = ResponseHead::new(200);
    response.headers.append("X-Answer", b"yes");
    let attempt = |port, state, code| Try {
        balancer_start_ms: 1_700_000_000_000,
        balancer_start_ns: 1_700_000_000_000_000_000,
        balancer_latency_ns: 2_500_000,
        address: Some(([127, 0, 0, 1], port).into()),
        state,
        code,
    };
    let tries = [attempt(80, Some(TryState::Next), Some(502)), attempt(81, None, Some(200))];
    let record = Value::Object(serialize::record(&exchange(&request, &response, &tries)));
    assert_eq!(
        record,
        json!({
            "request": {
                "id": "0123456789abcdef0123456789abcdef", "method": "POST", "size": 220,
                "uri": "/logged/boat?x=1&y=a%20b&y=2&flag",
                "url": "http://gateway.test:8000/logged/boat?x=1&y=a%20b&y=2&flag",
                "querystring": { "x": "1", "y": ["a b", "2"], "flag": true },
                "headers": { "host": "gateway.test", "authorization": "REDACTED", "x-many": ["a", "b"] },
            },
            "response": { "status": 200, "size": 310, "headers": { "x-answer": "yes", "connection": "keep-alive" } },
            "latencies": { "kong": 1, "proxy": 2, "request": 3, "receive": 0 },
            "tries": [
                {
                    "balancer_start": 1_700_000_000_000_u64, "balancer_start_ns": 1_700_000_000_000_000_000_u64,
                    "balancer_latency": 2, "balancer_latency_ns": 2_500_000, "ip": "127.0.0.1", "port": 80,
                    "state": "failed", "code": 502,
                },
                {
                    "balancer_start": 1_700_000_000_000_u64, "balancer_start_ns": 1_700_000_000_000_000_000_u64,
                    "balancer_latency": 2, "balancer_latency_ns": 2_500_000, "ip": "127.0.0.1", "port": 81,
                },
            ],
            "upstream_uri": "/boat?x=1", "upstream_status": "502, 200", "client_ip": "127.0.0.1", "source": "upstream",
            "workspace": "0dc6f45b-8f8d-40d2-a504-473544ee190b", "workspace_name": "default",
            "authenticated_entity": { "id": "00000000-0000-0000-0000-00000000000c" },
            "consumer": { "id": ANNA, "username": "anna" },
            "route": {
                "id": "00000000-0000-0000-0000-000000000002", "name": "r1", "paths": ["/logged"], "protocols": ["http", "https"],
                "https_redirect_status_code": 426, "strip_path": true, "preserve_host": false, "request_buffering": true,
                "response_buffering": true, "regex_priority": 0, "path_handling": "v0",
                "service": { "id": "00000000-0000-0000-0000-000000000001" },
                "ws_id": "0dc6f45b-8f8d-40d2-a504-473544ee190b",
            },
            "mine": { "deep": "set" },
        })
    );
}

#[test]
fn what_matched_no_route_has_no_tries_and_no_upstream() {
    let request = TestRequest::get("/nowhere").build();
    let response = ResponseHead::new(404);
    let exchange = Exchange { source: Source::Exit, upstream_uri: None, upstream_status: "", ..exchange(&request, &response, &[]) };
    let record = serialize::record(&exchange);
    assert_eq!((&record["source"], &record["upstream_uri"], &record["upstream_status"]), (&json!("kong"), &json!(""), &json!("")));
    assert!(["tries", "route", "service", "consumer", "authenticated_entity"].iter().all(|name| !record.contains_key(*name)));
}

#[test]
fn wrong_settings_are_named() {
    let complaint = |config: Value| configured(&Entry::of::<HttpLog>(), config).unwrap_err().fields.unwrap()["config"].clone();
    let with = |name: &str, value: Value| {
        let mut config = json!({ "http_endpoint": "http://log.test" });
        config[name] = value;
        complaint(config)
    };
    assert_eq!(complaint(json!({})), json!({ "http_endpoint": "required field missing" }));
    assert_eq!(complaint(json!({ "http_endpoint": "not a url" })), json!({ "http_endpoint": "missing host in url" }));
    for name in ["Host", "Content-Length", "Content-Type"] {
        let text = format!("cannot contain '{name}' header");
        assert_eq!(with("headers", json!({ name.to_ascii_lowercase(): "x" })), json!({ "headers": text }));
    }
    let both = json!({ "http_endpoint": "http://user:pw@log.test", "headers": { "authorization": "x" } });
    assert_eq!(complaint(both), "specifying both an 'Authorization' header and user info in 'http_endpoint' is not allowed");
}

#[test]
fn fields_in_lua_need_a_program_that_runs_it() {
    let config = json!({ "http_endpoint": "http://log.test", "custom_fields_by_lua": { "a": "return 1" } });
    let error = try_plugin::<HttpLog>(config, &Instance::default(), &portcullis_plugin::testing::env()).err().unwrap();
    assert_eq!(error.to_string(), "there is no Lua in this program");
}
