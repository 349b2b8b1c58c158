//! What a Zipkin server gets, and what upstreams are told.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use portcullis_plugin::testing::{TestRequest, answer, exchange, filtered, plugin, text_of};
use portcullis_plugin::{Exchange, Handler, ResponseHead, Try, TryState};
use serde_json::{Value, json};

use super::Zipkin;

/// A server that takes one batch and tells its spans.
fn server() -> (String, std::thread::JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v2/spans", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        let mut chunk = [0; 16_384];
        loop {
            let count = client.read(&mut chunk).unwrap();
            bytes.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && let Ok(spans) = serde_json::from_str(body)
            {
                assert!(head.starts_with("POST /api/v2/spans ") && head.to_lowercase().contains("content-type: application/json"));
                client.write_all(b"HTTP/1.1 202 X\r\nContent-Length: 0\r\n\r\n").unwrap();
                return spans;
            }
        }
    });
    (url, serving)
}

#[test]
fn a_sampled_request_is_told_in_spans() {
    let (url, server) = server();
    let plugin: Zipkin = plugin(json!({
        "http_endpoint": url, "sample_ratio": 0, "local_service_name": "harbour", "http_span_name": "method_path",
        "static_tags": [{ "name": "region", "value": "north" }], "queue": { "max_batch_size": 4, "max_coalescing_delay": 60 },
    }));
    let mut request = TestRequest::get("/boat?x=1")
        .header("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736")
        .header("x-b3-spanid", "00f067aa0ba902b7")
        .header("x-b3-sampled", "1")
        .header("Zipkin-Tags", "a=1; b = two")
        .build();
    let service = json!({ "id": uuid::Uuid::from_u128(1), "name": "s1", "host": "up", "port": 80, "protocol": "http", "retries": 5,
        "connect_timeout": 1, "write_timeout": 1, "read_timeout": 1, "enabled": true });
    request.service = Some(Arc::new(serde_json::from_value(service).unwrap()));
    assert_eq!(answer(plugin.access(&mut request)), None);
    filtered(&plugin, &mut request, &[]);
    let told = text_of(&request.head.headers, "x-b3-spanid").unwrap();
    assert_eq!(text_of(&request.head.headers, "x-b3-parentspanid").unwrap(), "00f067aa0ba902b7");
    let attempt = |port, state, code| Try {
        balancer_start_ms: 0,
        balancer_start_ns: 1_769_817_660_000_500_000,
        balancer_latency_ns: 0,
        address: Some(([127, 0, 0, 1], port).into()),
        state,
        code,
    };
    let response = ResponseHead::new(200);
    let tries = [attempt(80, Some(TryState::Next), Some(502)), attempt(81, None, None)];
    plugin.log(&Exchange { tries: &tries, ..exchange(&request, &response) });
    let spans = server.join().unwrap();
    let names: Vec<&str> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["GET /boat (balancer try 1)", "GET /boat (balancer try 2)", "GET /boat (proxy)", "GET /boat"]);
    let [first, _, proxy, request] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(first["tags"]["kong.balancer.state"], "next");
    assert_eq!(first["remoteEndpoint"], json!({ "serviceName": "s1", "ipv4": "127.0.0.1", "port": 80 }));
    assert_eq!((&proxy["id"], &proxy["parentId"], &proxy["kind"]), (&told.into(), &"00f067aa0ba902b7".into(), &"CLIENT".into()));
    assert_eq!((&request["id"], &request["kind"]), (&"00f067aa0ba902b7".into(), &"SERVER".into()));
    assert_eq!(request["localEndpoint"], json!({ "serviceName": "harbour" }));
    for (name, value) in
        [("lc", "kong"), ("http.path", "/boat"), ("http.protocol", "HTTP/1.1"), ("region", "north"), ("a", "1"), ("b", "two")]
    {
        assert_eq!(request["tags"][name], value, "{name}");
    }
    assert_eq!(request["annotations"][0]["value"], "krs");
    assert_eq!(request["timestamp"], 1_769_817_660_000_000u64);
}

#[test]
fn the_share_of_traces_is_the_one_wanted_and_a_clients_decision_counts() {
    let sampled = |ratio: f64, given: Option<&str>| {
        let plugin: Zipkin = plugin(json!({ "sample_ratio": ratio, "http_response_header_for_traceid": "X-Trace" }));
        let mut request = TestRequest::get("/");
        if let Some(given) = given {
            request = request.header("x-b3-sampled", given);
        }
        let mut request = request.build();
        answer(plugin.access(&mut request));
        let headers = filtered(&plugin, &mut request, &[]);
        assert_eq!(headers[0].1, text_of(&request.head.headers, "x-b3-traceid").unwrap());
        text_of(&request.head.headers, "x-b3-sampled").unwrap()
    };
    assert_eq!([sampled(0.0, None), sampled(1.0, None), sampled(0.0, Some("1")), sampled(1.0, Some("0"))], ["0", "1", "1", "0"]);
}
