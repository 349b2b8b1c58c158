//! Which webhooks pass.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{ARRIVAL, TestRequest, answer, plugin};
use portcullis_plugin::{Answer, Handler};
use serde_json::json;

use super::*;

const BODY: &str = r#"{"event":"moored"}"#;

fn signature(id: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"hook-secret");
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes())))
}

fn hook(id: &str, timestamp: i64, signature: &str, body: &str) -> Option<Answer> {
    let request = TestRequest::new("POST", "/").body("application/json", body).header("webhook-id", id);
    let request = request.header("webhook-timestamp", &timestamp.to_string()).header("webhook-signature", signature);
    answer(plugin::<StandardWebhooks>(json!({ "secret_v1": "hook-secret" })).access(&mut request.build()))
}

const NOW: i64 = ARRIVAL as i64;

#[test]
fn what_is_signed_and_recent_passes() {
    for sent in [NOW, NOW - 300, NOW + 100_000] {
        assert_eq!(hook("msg_1", sent, &signature("msg_1", sent, BODY), BODY), None);
    }
    assert_eq!(hook("msg_1", 4_102_444_800, "v1,FhAMBfImDCjnXrapQUotMUhBdWmJojcKQsL7CNvGY1U=", BODY), None);
}

#[test]
fn anything_else_is_a_bad_request() {
    let refusal = Some(Answer::error(400, "Bad request"));
    let good = signature("msg_1", NOW, BODY);
    assert_eq!(hook("msg_2", NOW, &good, BODY), refusal);
    assert_eq!(hook("msg_1", NOW, &good, "other"), refusal);
    assert_eq!(hook("msg_1", NOW + 1, &good, BODY), refusal);
    assert_eq!(hook("msg_1", NOW, good.trim_start_matches("v1,"), BODY), refusal);
    assert_eq!(hook("msg_1", NOW - 301, &signature("msg_1", NOW - 301, BODY), BODY), refusal);
    assert_eq!(hook("msg_1", NOW, &signature("msg_1", NOW, ""), ""), refusal);
    let bare = &mut TestRequest::get("/").build();
    assert_eq!(answer(plugin::<StandardWebhooks>(json!({ "secret_v1": "s" })).access(bare)), refusal);
}
