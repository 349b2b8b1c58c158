//! Which bodies pass.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{TestRequest, answer, plugin};
use portcullis_plugin::{Answer, Handler, Request};
use portcullis_wire::Framing;
use serde_json::{Value, json};

use super::RequestSizeLimiting;

fn answer_to(config: &Value, mut request: Request) -> Option<Answer> {
    answer(plugin::<RequestSizeLimiting>(config.clone()).access(&mut request))
}

fn body(length: usize) -> Request {
    TestRequest::new("POST", "/").body("text/plain", &"x".repeat(length)).build()
}

fn chunked(length: usize) -> Request {
    let mut request = body(length);
    request.head.framing = Framing::Chunked;
    request.head.headers.remove("Content-Length");
    request
}

#[test]
fn bodies_up_to_the_limit_pass() {
    let config = json!({ "allowed_payload_size": 10, "size_unit": "bytes" });
    let refusal = Some(Answer::error(413, "Request size limit exceeded"));
    for body in [body, chunked] {
        assert_eq!(answer_to(&config, body(10)), None);
        assert_eq!(answer_to(&config, body(11)), refusal);
    }
    assert_eq!(answer_to(&config, TestRequest::get("/").build()), None);
    let nothing = json!({ "allowed_payload_size": -1, "size_unit": "bytes" });
    assert_eq!(answer_to(&nothing, TestRequest::get("/").build()), refusal);
}

#[test]
fn units_are_binary() {
    let kilobyte = json!({ "allowed_payload_size": 1, "size_unit": "kilobytes" });
    assert_eq!(answer_to(&kilobyte, body(1024)), None);
    assert_eq!(answer_to(&kilobyte, body(1025)).unwrap().status, 413);
    let megabyte = json!({ "allowed_payload_size": 1 });
    assert_eq!(answer_to(&megabyte, body(1 << 20)), None);
    assert_eq!(answer_to(&megabyte, body((1 << 20) + 1)).unwrap().status, 413);
}

#[test]
fn a_client_that_asks_first_is_told_before_it_sends() {
    let mut request = body(11);
    request.head.expects_continue = true;
    let config = json!({ "allowed_payload_size": 10, "size_unit": "bytes" });
    assert_eq!(answer_to(&config, request).unwrap().status, 417);
}

#[test]
fn a_length_can_be_required() {
    let config = json!({ "require_content_length": true });
    let refusal = Answer::error(411, "A valid Content-Length header is required");
    assert_eq!(answer_to(&config, TestRequest::get("/").build()), Some(refusal));
    assert_eq!(answer_to(&config, body(4)), None);
    assert_eq!(answer_to(&config, chunked(4)), None);
}

#[test]
fn only_bodies_of_unknown_length_are_read() {
    let plugin = plugin::<RequestSizeLimiting>(json!({ "allowed_payload_size": 10, "size_unit": "bytes" }));
    assert_eq!(plugin.body_limit(&body(11)), None);
    assert!(plugin.body_limit(&chunked(11)).unwrap() > 10);
}
