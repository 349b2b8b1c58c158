//! What a collector gets, read with OpenTelemetry's own definitions, and what upstreams are told.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use portcullis_plugin::testing::{TestRequest, answer, env, exchange, filtered, plugin_in, text_of};
use portcullis_plugin::{Env, Exchange, Handler, Instance, Instruments, ResponseHead, Stage, Timeline, Tracing, Try, TryState};
use prost::Message;
use serde_json::{Value, json};

use super::OpenTelemetry;

/// A collector that takes one batch.
fn collector() -> (String, std::thread::JoinHandle<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        let mut chunk = [0; 16_384];
        loop {
            let count = client.read(&mut chunk).unwrap();
            bytes.extend_from_slice(&chunk[..count]);
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length: usize = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
            if bytes.len() < end + 4 + length {
                continue;
            }
            assert!(head.contains("content-type: application/x-protobuf") && head.contains("x-key: k"), "{head}");
            client.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n").unwrap();
            return ExportTraceServiceRequest::decode(&bytes[end + 4..]).unwrap();
        }
    });
    (url, serving)
}

fn traced(instruments: Instruments) -> Env {
    let env = env();
    env.state.get::<Tracing>().set(instruments, 1.0);
    env
}

fn attribute(attributes: &[KeyValue], name: &str) -> Value {
    let found = attributes.iter().find(|pair| pair.key == name).and_then(|pair| pair.value.clone()?.value);
    match found {
        Some(any_value::Value::StringValue(text)) => text.into(),
        Some(any_value::Value::IntValue(number)) => number.into(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_sampled_request_is_told_in_spans() {
    let env = traced(Instruments::ALL);
    let (url, collector) = collector();
    let plugin: OpenTelemetry = plugin_in(
        json!({
            "traces_endpoint": url, "headers": { "X-Key": "k" }, "resource_attributes": { "service.name": "harbour", "zone": "n" },
            "queue": { "max_batch_size": 5, "max_coalescing_delay": 60 },
        }),
        &Instance::default(),
        &env,
    );
    let mut request =
        TestRequest::get("/boat?x=1").header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").build();
    assert_eq!(answer(plugin.access(&mut request)), None);
    let told = text_of(&request.head.headers, "traceparent").unwrap();
    let mut timeline = Timeline::default();
    timeline.note(Stage::Router, None, request.started);
    timeline.note(Stage::Access("key-auth"), None, request.started);
    request.timeline = Some(Box::new(timeline));
    let attempt = |port, state, code| Try {
        balancer_start_ms: 0,
        balancer_start_ns: 1_769_817_660_000_500_000,
        balancer_latency_ns: 0,
        address: Some(([127, 0, 0, 1], port).into()),
        state,
        code,
    };
    let response = ResponseHead::new(503);
    let tries = [attempt(80, Some(TryState::Next), Some(502)), attempt(81, None, None)];
    plugin.log(&Exchange { tries: &tries, ..exchange(&request, &response) });
    let got = collector.join().unwrap().resource_spans.remove(0);
    let resource = got.resource.unwrap().attributes;
    let resource = ["service.name", "service.version", "service.instance.id", "zone"].map(|name| attribute(&resource, name));
    assert_eq!(resource, ["harbour", "3.9.3", "00000000-0000-0000-0000-00000000d0de", "n"]);
    let scoped = &got.scope_spans[0];
    assert_eq!(scoped.scope.as_ref().unwrap().name, "kong-internal");
    let names: Vec<&str> = scoped.spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["kong", "kong.router", "kong.access.plugin.key-auth", "kong.balancer", "kong.balancer"]);
    let [root, router, _, first, second]: &[Span; 5] = scoped.spans.as_slice().try_into().unwrap();
    assert!(scoped.spans.iter().all(|span| span.trace_id == 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()));
    assert_eq!(root.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!((root.kind, router.kind, first.kind), (2, 1, 3));
    assert!([router, first, second].iter().all(|span| span.parent_span_id == root.span_id));
    assert_eq!((root.status.as_ref().unwrap().code, first.status.as_ref().unwrap().code, &second.status), (2, 2, &None));
    assert_eq!(root.start_time_unix_nano, 1_769_817_660_000_000_000);
    for (name, value) in
        [("http.method", "GET"), ("http.url", "http://gateway.test/boat?x=1"), ("http.flavor", "1.1"), ("http.client_ip", "127.0.0.1")]
    {
        assert_eq!(attribute(&root.attributes, name), value);
    }
    assert_eq!(attribute(&root.attributes, "http.status_code"), 503);
    assert_eq!((attribute(&second.attributes, "try_count"), attribute(&second.attributes, "net.peer.port")), (2.into(), 81.into()));
    let span = second.span_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(told, format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01"));
}

#[test]
fn a_node_without_instrumentations_hands_traces_on_unsampled() {
    let env = traced(Instruments::NONE);
    let config = json!({ "traces_endpoint": "http://127.0.0.1:1", "http_response_header_for_traceid": "X-Trace-Id" });
    let plugin: OpenTelemetry = plugin_in(config, &Instance::default(), &env);
    let mut request = TestRequest::get("/").header("b3", "4bf92f3577b34da6-00f067aa0ba902b7-1").build();
    answer(plugin.access(&mut request));
    let told = text_of(&request.head.headers, "b3").unwrap();
    assert!(told.starts_with("4bf92f3577b34da6-") && told.ends_with("-0-00f067aa0ba902b7"), "{told}");
    let expected = ("x-trace-id".to_owned(), "00000000000000004bf92f3577b34da6".to_owned());
    assert_eq!(filtered(&plugin, &mut request, &[]), [expected]);
}
