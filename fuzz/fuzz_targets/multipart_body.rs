//! request-transformer on bodies of all three types: changed or left alone, and changed once is changed for good.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_plugin::Handler;
use portcullis_plugin::testing::{TestRequest, answer, plugin};
use portcullis_plugins::request_transformer::RequestTransformer;
use serde_json::json;

static PLUGIN: LazyLock<RequestTransformer> = LazyLock::new(|| {
    plugin(json!({
        "remove": { "body": ["gone"] }, "replace": { "body": ["other:new"] }, "add": { "body": ["made:up"] }, "rename": { "body": ["old:fresh"] }
    }))
});

fn changed(content_type: &str, body: &str) -> Option<Vec<u8>> {
    let mut request = TestRequest::new("POST", "/").body(content_type, body).build();
    assert_eq!(answer(PLUGIN.access(&mut request)), None);
    request.upstream.body
}

fuzz_target!(|input: (u8, &str, &str)| {
    let (kind, boundary, body) = input;
    let content_type = match kind % 4 {
        0 => "application/json".to_owned(),
        1 => "application/x-www-form-urlencoded".to_owned(),
        2 => format!("multipart/form-data; boundary={boundary}"),
        _ => format!("multipart/form-data; boundary=\"{boundary}\"; x"),
    };
    if content_type.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return;
    }
    let Some(once) = changed(&content_type, body) else { return };
    let Ok(once) = String::from_utf8(once) else { return };
    // To Kong removing always is a change, so what counts is that nothing differs any more.
    if let Some(twice) = changed(&content_type, &once) {
        assert_eq!(String::from_utf8_lossy(&twice), once, "{content_type}");
    }
});
