//! What becomes of responses.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::Handler;
use portcullis_plugin::testing::{TestRequest, filtered, plugin};
use serde_json::{Value, json};

use super::ResponseTransformer;

fn headers(config: Value, upstream: &[(&str, &str)]) -> Vec<(String, String)> {
    filtered(&plugin::<ResponseTransformer>(config), &mut TestRequest::get("/").build(), upstream)
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The body that leaves when this one of this type comes in these chunks, and whether its length is still told.
fn body(config: Value, content_type: &str, chunks: &[&str]) -> (String, bool) {
    let plugin = plugin::<ResponseTransformer>(config);
    let mut request = TestRequest::get("/").build();
    let headers = filtered(&plugin, &mut request, &[("Content-Type", content_type), ("Content-Length", "7")]);
    let mut out = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        let mut chunk = chunk.as_bytes().to_vec();
        plugin.body_filter(&mut request, &mut chunk, at + 1 == chunks.len()).unwrap();
        out.append(&mut chunk);
    }
    (String::from_utf8(out).unwrap(), headers.iter().any(|(name, _)| name == "content-length"))
}

fn json_of(config: Value, body_text: &str) -> Value {
    serde_json::from_str(&body(config, "application/json", &[body_text]).0).unwrap()
}

#[test]
fn headers_are_changed_kind_by_kind() {
    let config = json!({
        "remove": { "headers": ["X-Gone:whatever"] },
        "rename": { "headers": ["X-Old:X-New", "X-Absent:X-Made"] },
        "replace": { "headers": ["X-Rep:replaced", "X-Not-There:never"] },
        "add": { "headers": ["X-Add:added", "X-Kept:not-this"] },
        "append": { "headers": ["X-App:more", "X-Url:http://a.test:1/"] },
    });
    let upstream = [("X-Gone", "1"), ("X-Old", "a"), ("X-Old", "b"), ("X-Rep", "before"), ("X-Kept", "kept"), ("X-App", "first")];
    let mut changed = headers(config, &upstream);
    changed.sort();
    assert_eq!(
        changed,
        owned(&[
            ("x-add", "added"),
            ("x-app", "first"),
            ("x-app", "more"),
            ("x-kept", "kept"),
            ("x-new", "a"),
            ("x-new", "b"),
            ("x-rep", "replaced"),
            ("x-url", "http://a.test:1/"),
        ])
    );
}

fn everything() -> Value {
    json!({
        "remove": { "json": ["gone"] },
        "rename": { "json": ["old:new", "absent:made"] },
        "replace": { "json": ["rep:replaced", "nothere:never"] },
        "add": { "json": ["add:added", "kept:not-this"] },
        "append": { "json": ["app:more", "app2:only"] },
    })
}

#[test]
fn the_top_level_of_a_json_body_is_changed() {
    assert_eq!(
        json_of(everything(), r#"{"gone":1,"old":"o","rep":"b","kept":true,"app":"first","z":{"gone":1}}"#),
        json!({ "new": "o", "rep": "replaced", "kept": true, "add": "added", "app": ["first", "more"], "app2": ["only"], "z": { "gone": 1 } })
    );
}

#[test]
fn false_is_as_good_as_missing() {
    assert_eq!(
        json_of(everything(), r#"{"app":[1,2],"rep":false,"kept":false}"#),
        json!({ "app": [1, 2, "more"], "rep": false, "kept": "not-this", "add": "added", "app2": ["only"] })
    );
}

#[test]
fn values_get_the_type_at_their_place() {
    let config = json!({
        "add": { "json": ["n:1.5", "w:7", "b:true", "s:true", "t:x"], "json_types": ["number", "number", "boolean", "string"] },
        "replace": { "json": ["r:abc"], "json_types": ["number"] },
    });
    assert_eq!(json_of(config, r#"{"r":1}"#), json!({ "n": 1.5, "w": 7, "b": true, "s": "true", "t": "x", "r": 1 }));
    let config = json!({ "replace": { "json": ["r:"] }, "add": { "json": ["n:"] }, "rename": { "json": ["same:same"] } });
    assert_eq!(json_of(config, r#"{"r":1,"same":1}"#), json!({ "r": "null", "n": "null" }));
}

#[test]
fn empty_lists_and_large_numbers_survive() {
    let text = r#"{"a":[],"b":{},"n":12345678901234,"f":0.1}"#;
    assert_eq!(json_of(json!({ "remove": { "json": ["gone"] } }), text), serde_json::from_str::<Value>(text).unwrap());
}

#[test]
fn a_body_comes_in_pieces_and_goes_out_whole() {
    let config = json!({ "remove": { "json": ["a"] } });
    assert_eq!(body(config, "application/json; charset=utf-8", &[r#"{"a""#, r#":1,"b":"#, "2}", ""]), (r#"{"b":2}"#.to_owned(), false));
}

#[test]
fn what_is_no_json_object_goes_out_as_it_came() {
    for text in ["[1,2]", "not json", ""] {
        assert_eq!(body(everything(), "application/json", &[text]).0, text);
    }
    for content_type in ["text/plain", "application/problem-json"] {
        assert_eq!(body(everything(), content_type, &[r#"{"gone":1}"#]), (r#"{"gone":1}"#.to_owned(), true));
    }
    assert_ne!(body(everything(), "application/vnd.api+json", &[r#"{"gone":1}"#]).0, r#"{"gone":1}"#);
}

#[test]
fn headers_alone_leave_bodies_alone() {
    let config = json!({ "add": { "headers": ["X-A:1"] } });
    assert_eq!(body(config, "application/json", &[r#"{ "a": 1 }"#]), (r#"{ "a": 1 }"#.to_owned(), true));
}

#[test]
fn of_some_headers_there_is_one() {
    let config = json!({ "append": { "headers": ["Content-Type:text/x", "X-App:2"] }, "add": { "headers": ["X-Add:1", "x-add:2"] } });
    let mut changed = headers(config, &[("Content-Type", "text/plain"), ("X-App", "1")]);
    changed.sort();
    assert_eq!(changed, owned(&[("content-type", "text/x"), ("x-add", "2"), ("x-app", "1"), ("x-app", "2")]));
}

#[test]
fn a_number_that_json_cannot_write_leaves_the_body_as_it_came() {
    let config = || json!({ "add": { "json": ["a:1", "b:inf"], "json_types": ["number", "number"] } });
    assert_eq!(json_of(config(), "{}"), json!({}));
    let config = json!({ "append": { "json": ["list:1"] } });
    assert_eq!(body(config, "text/plain, application/json", &[r#"{"list":{}}"#]).0, r#"{"list":["1"]}"#);
}
