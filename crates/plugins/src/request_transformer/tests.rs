#![allow(clippy::unwrap_used)]
//! Behaviour of the plugin.

use portcullis_plugin::Handler;
use portcullis_plugin::testing::{TestRequest, answer, plugin, texts};
use serde_json::{Value, json};

use super::RequestTransformer;
use super::template::Template;

#[test]
fn headers_change_in_kongs_order() {
    let plugin: RequestTransformer = plugin(json!({
        "remove": { "headers": ["X-Gone"] }, "rename": { "headers": ["X-Old:X-New"] }, "replace": { "headers": ["X-Rep:r", "X-Not:n"] },
        "add": { "headers": ["X-Add:a", "X-Kept:no", "X-Empty:"] }, "append": { "headers": ["X-App:2"] },
    }));
    let request = TestRequest::get("/").header("X-Gone", "1").header("X-Old", "o").header("X-Rep", "x").header("X-Kept", "k");
    let mut request = request.header("X-App", "1").build();
    assert!(answer(plugin.access(&mut request)).is_none());
    let headers = texts(&request.head.headers);
    let of =
        |name: &str| headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect::<Vec<_>>();
    assert_eq!(
        (of("X-Gone"), of("X-New"), of("X-Rep"), of("X-Not"), of("X-Add"), of("X-Kept"), of("X-App"), of("X-Empty")),
        (vec![], vec!["o"], vec!["r"], vec![], vec!["a"], vec!["k"], vec!["1", "2"], vec![])
    );
}

#[test]
fn query_arguments_come_out_sorted() {
    let plugin: RequestTransformer = plugin(json!({
        "remove": { "querystring": ["gone"] }, "rename": { "querystring": ["old:new"] }, "add": { "querystring": ["add:a b"] },
        "append": { "querystring": ["app:more"] },
    }));
    let mut request = TestRequest::get("/?z=1&gone=1&old=x&app=first&flag&empty=").build();
    assert!(answer(plugin.access(&mut request)).is_none());
    assert_eq!(request.upstream.query.as_deref(), Some(&b"add=a%20b&app=first&app=more&empty=&flag&new=x&z=1"[..]));
}

#[test]
fn templates_see_the_request_before_any_change() {
    let plugin: RequestTransformer = plugin(json!({
        "remove": { "headers": ["X-In"] },
        "add": { "headers": ["X-Copy:<$(headers.x_in)>", "X-Or:$(query_params.q or 'none')", "X-Nothing:$(shared.x)"] },
    }));
    let mut request = TestRequest::get("/").header("X-In", "orig").build();
    assert!(answer(plugin.access(&mut request)).is_none());
    let headers = texts(&request.head.headers);
    assert!(headers.contains(&("x-copy".to_owned(), "<orig>".to_owned())));
    assert!(headers.contains(&("x-or".to_owned(), "none".to_owned())));
    assert!(headers.contains(&("x-nothing".to_owned(), String::new())));
}

#[test]
fn what_is_no_template_is_refused() {
    for wrong in ["$(os.exit())", "$(headers.x + 1)", "$(headers[)"] {
        assert!(Template::parse(wrong).is_err(), "{wrong}");
    }
    assert!(Template::parse("plain $5 (text), $(never closed").is_ok());
    assert!(Template::parse("$(headers[\"x-y\"] or \"a or b\")").is_ok());
}

/// The body that goes upstream when this one comes.
fn body(config: Value, content_type: &str, text: &str) -> String {
    let plugin: RequestTransformer = plugin(config);
    let mut request = TestRequest::new("POST", "/").body(content_type, text).build();
    assert!(answer(plugin.access(&mut request)).is_none());
    String::from_utf8(request.upstream.body.or(request.body).unwrap()).unwrap()
}

fn json_body(config: Value, text: &str) -> Value {
    serde_json::from_str(&body(config, "application/json; charset=utf-8", text)).unwrap()
}

#[test]
fn the_top_level_of_a_json_body_is_changed() {
    let config = || {
        json!({
            "remove": { "body": ["gone", "absent"] }, "rename": { "body": ["old:new", "same:same", "left:right"] },
            "replace": { "body": ["rep:replaced", "nothere:never"] }, "add": { "body": ["add:$(headers.host)", "kept:no", "with:co:lon"] },
            "append": { "body": ["app:more", "app2:only", "app2:again"] },
        })
    };
    let text = r#"{"gone":1,"old":{"a":[1,null]},"same":"s","left":"l","right":"r","rep":1,"kept":"k","app":"first","z":{"gone":1}}"#;
    assert_eq!(
        json_body(config(), text),
        json!({ "new": { "a": [1, null] }, "same": "s", "right": "l", "rep": "replaced", "kept": "k", "app": ["first", "more"],
            "app2": ["only", "again"], "add": "gateway.test", "with": "co:lon", "z": { "gone": 1 } })
    );
    assert_eq!(
        json_body(config(), r#"{"app":7,"kept":false,"rep":false,"old":null}"#),
        json!({ "app": ["more"], "app2": ["only", "again"], "kept": "no", "rep": false, "new": null, "add": "gateway.test",
            "with": "co:lon" })
    );
}

#[test]
fn a_body_nothing_is_done_to_keeps_its_spelling() {
    let config = || json!({ "replace": { "body": ["num:5"] } });
    for text in [r#"{"num": false}"#, "[1, 2]", "not json", ""] {
        assert_eq!(body(config(), "application/json", text), text);
    }
    assert_eq!(body(json!({ "remove": { "body": ["num"] } }), "text/plain", r#"{"num": 1}"#), r#"{"num": 1}"#);
}

#[test]
fn fields_are_added_to_an_empty_json_body() {
    assert_eq!(body(json!({ "add": { "body": ["fresh:value"] } }), "application/json", ""), r#"{"fresh":"value"}"#);
}

#[test]
fn the_fields_of_a_form_are_changed() {
    let config = json!({
        "remove": { "body": ["gone"] }, "rename": { "body": ["old:new"] }, "replace": { "body": ["rep:r"] },
        "add": { "body": ["add:a b"] }, "append": { "body": ["app:2"] },
    });
    let form = body(config, "application/x-www-form-urlencoded", "gone=1&old=o&rep=x&app=1&kept");
    assert_eq!(form, "add=a%20b&app=1&app=2&kept&new=o&rep=r");
    // What is there already is not added, and what changes nothing leaves the spelling.
    let plugin: RequestTransformer = plugin(json!({ "add": { "body": ["z:1"] }, "replace": { "body": ["absent:1"] } }));
    let mut request = TestRequest::new("POST", "/").body("application/x-www-form-urlencoded", "z=0&a=%41").build();
    assert_eq!(answer(plugin.access(&mut request)), None);
    assert_eq!(request.upstream.body, None);
}

#[test]
fn the_parts_of_a_multipart_form_are_changed() {
    let part = |name: &str, value: &str| format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let config = json!({
        "remove": { "body": ["gone"] }, "rename": { "body": ["old:new"] }, "replace": { "body": ["a:replaced"] },
        "add": { "body": ["b:added", "a:not-added"] },
    });
    let given = format!("{}{}{}{}--XyZ--\r\n", part("gone", "1"), part("left", "here"), part("old", "value"), part("a", "x"));
    let want = format!("{}{}{}{}--XyZ--\r\n", part("left", "here"), part("new", "value"), part("a", "replaced"), part("b", "added"));
    assert_eq!(body(config, "multipart/form-data; boundary=XyZ", &given), want);
}

#[test]
fn the_method_and_the_uri_can_be_set() {
    let plugin: RequestTransformer = plugin(json!({ "http_method": "POST", "replace": { "uri": "/to/$(query_params.id)/ä" } }));
    let mut request = TestRequest::get("/from?id=7").build();
    assert!(answer(plugin.access(&mut request)).is_none());
    assert_eq!(request.upstream.method.as_deref(), Some("POST"));
    assert_eq!(request.upstream.path, b"/to/7/%C3%A4");
}

#[test]
fn a_header_cannot_be_renamed_to_what_is_no_name() {
    let entry = portcullis_plugin::Entry::of::<RequestTransformer>();
    let refused = portcullis_plugin::testing::configured(&entry, json!({ "rename": { "headers": ["a:b c"] } })).unwrap_err();
    assert!(refused.message.contains("'b c' is not a valid header"), "{}", refused.message);
    assert!(portcullis_plugin::testing::configured(&entry, json!({ "rename": { "headers": ["a:b-c"] } })).is_ok());
}

#[test]
fn arguments_come_out_in_the_order_of_their_text() {
    let plugin: RequestTransformer = plugin(json!({ "replace": { "querystring": ["flag:$(query_params.other)"] } }));
    let mut request = TestRequest::get("/?k1=a&k10=b&flag&other").build();
    assert!(answer(plugin.access(&mut request)).is_none());
    assert_eq!(request.upstream.query.as_deref(), Some(&b"flag=true&k10=b&k1=a&other"[..]));
}

#[test]
fn a_body_is_changed_as_what_its_new_type_says() {
    let plugin: RequestTransformer =
        plugin(json!({ "replace": { "headers": ["Content-Type:application/json"] }, "add": { "body": ["a:1"] } }));
    let mut request = TestRequest::new("POST", "/").body("text/plain", "{}").build();
    assert!(plugin.body_limit(&request).is_some());
    assert!(answer(plugin.access(&mut request)).is_none());
    assert_eq!(request.upstream.body.as_deref(), Some(&br#"{"a":"1"}"#[..]));
}

#[test]
fn the_host_cannot_be_renamed_and_a_path_keeps_its_delimiters() {
    let plugin: RequestTransformer = plugin(json!({ "rename": { "headers": ["Host:X-Host"] }, "replace": { "uri": "/x?y=1#z" } }));
    let mut request = TestRequest::get("/").build();
    assert!(answer(plugin.access(&mut request)).is_none());
    assert!(request.head.headers.contains("host") && !request.head.headers.contains("x-host"));
    assert_eq!(request.upstream.path, b"/x?y=1#z");
}

#[test]
fn numbers_pass_as_lua_has_them_and_false_is_not_renamed() {
    let config = json!({ "rename": { "body": ["f:g"] }, "add": { "body": ["a:1"] } });
    assert_eq!(json_body(config, r#"{"n":10000000000000001,"f":false}"#), json!({ "n": 1e16, "f": false, "a": "1" }));
}
