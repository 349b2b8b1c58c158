//! What is answered, and to which requests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use portcullis_plugin::testing::{TestRequest, answer, configured, plugin};
use portcullis_plugin::{Answer, Body, Captures, Entry, Handler};
use serde_json::{Value, json};

use super::RequestTermination;

fn answer_to(config: Value, request: TestRequest) -> Option<Answer> {
    answer(plugin::<RequestTermination>(config).access(&mut request.build()))
}

fn answered(config: Value) -> Answer {
    answer_to(config, TestRequest::get("/")).unwrap()
}

#[test]
fn a_message_is_json_and_a_status_has_its_usual_one() {
    assert_eq!(answered(json!({})), Answer::json(503, json!({ "message": "Service unavailable" })));
    assert_eq!(answered(json!({ "status_code": 404 })), Answer::json(404, json!({ "message": "Not found" })));
    assert_eq!(answered(json!({ "message": "closed" })), Answer::json(503, json!({ "message": "closed" })));
    assert_eq!(answered(json!({ "status_code": 418 })), Answer::status(418));
    assert_eq!(answered(json!({ "status_code": 204 })), Answer::status(204));
}

#[test]
fn a_body_is_sent_as_it_is() {
    let html = json!({ "body": "<p>closed</p>", "content_type": "text/html; charset=utf-8" });
    assert_eq!(answered(html), Answer::bytes(503, Some("text/html; charset=utf-8".into()), b"<p>closed</p>".to_vec()));
    assert_eq!(answered(json!({ "status_code": 200, "body": "{}" })), Answer::bytes(200, None, b"{}".to_vec()));
}

#[test]
fn a_trigger_arms_it_whatever_its_value() {
    let config = || json!({ "trigger": "X-Stop", "status_code": 409, "message": "stopped" });
    for request in [TestRequest::get("/").header("x-stop", ""), TestRequest::get("/?X-Stop=1"), TestRequest::get("/?X-Stop")] {
        assert_eq!(answer_to(config(), request).unwrap().status, 409);
    }
    for request in [TestRequest::get("/"), TestRequest::get("/?x-stop=1")] {
        assert_eq!(answer_to(config(), request), None);
    }
}

#[test]
fn an_echo_tells_what_the_gateway_saw() {
    let plugin: RequestTermination = plugin(json!({ "echo": true, "status_code": 200, "message": "here" }));
    let target = "/berth/north/../south/4?q=1&q=2";
    let mut request = TestRequest::new("POST", target).header("X-One", "1").body("application/json", r#"{"a": [1, 2]}"#).build();
    assert!(plugin.body_limit(&request).is_some());
    let captures = Captures {
        numbered: vec![Some("/berth/south/4".into()), Some("south".into()), Some("4".into())],
        named: vec![("dock".into(), "south".into())],
    };
    request.captures = Some(Box::new(captures));
    let service = json!({ "id": "00000000-0000-0000-0000-000000000001", "host": "h.test", "port": 80, "protocol": "http", "enabled": true, "path": null });
    request.service = Some(Arc::new(serde_json::from_value(service).unwrap()));
    let Body::Json(body) = answer(plugin.access(&mut request)).unwrap().body else { panic!("an echo is JSON") };
    assert_eq!(
        body,
        json!({
            "message": "here",
            "kong": { "node_id": "00000000-0000-0000-0000-00000000d0de", "worker_pid": std::process::id(), "hostname": "node.test" },
            "request": {
                "scheme": "http", "host": "gateway.test", "port": 8000, "method": "POST", "path": "/berth/south/4",
                "query": { "q": ["1", "2"] },
                "headers": { "host": "gateway.test", "x-one": "1", "content-type": "application/json", "content-length": "13" },
                "body": { "a": [1, 2] }, "raw_body": "{\"a\": [1, 2]}",
                "uri_captures": { "named": { "dock": "south" }, "unnamed": ["south", "4"] },
            },
            "matched_service": {
                "id": "00000000-0000-0000-0000-000000000001", "host": "h.test", "port": 80, "protocol": "http", "enabled": true,
                "ws_id": "0dc6f45b-8f8d-40d2-a504-473544ee190b",
            },
        })
    );
}

#[test]
fn an_echo_of_a_body_without_fields_is_raw_only() {
    let request = TestRequest::new("PUT", "/").body("text/plain", "hello");
    let Body::Json(body) = answer_to(json!({ "echo": true }), request).unwrap().body else { panic!("an echo is JSON") };
    assert_eq!((body["request"].get("body"), &body["request"]["raw_body"]), (None, &json!("hello")));
}

#[test]
fn some_settings_do_not_go_together() {
    for (config, complaint) in [
        (json!({ "message": "a", "body": "b" }), "message cannot be used with content_type or body"),
        (json!({ "message": "a", "content_type": "text/plain" }), "message cannot be used with content_type or body"),
        (json!({ "content_type": "text/plain" }), "content_type requires a body"),
        (json!({ "echo": true, "body": "b" }), "echo cannot be used with content_type and body"),
    ] {
        let error = configured(&Entry::of::<RequestTermination>(), config).unwrap_err();
        assert_eq!(error.message, format!("schema violation (config: {complaint})"));
    }
    let error = configured(&Entry::of::<RequestTermination>(), json!({ "message": "", "body": "b" })).unwrap_err();
    assert_eq!(error.fields.unwrap(), json!({ "config": { "message": "length must be at least 1" } }));
}
