#![allow(clippy::unwrap_used)]
//! Behaviour of the plugin.

use portcullis_plugin::testing::{TestRequest, answer, env, plugin, texts, try_plugin};
use portcullis_plugin::{Handler, Instance};
use serde_json::json;

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
    for wrong in ["$(headers.x", "$(os.exit())", "$(headers.x + 1)", "$(headers[)"] {
        assert!(Template::parse(wrong).is_err(), "{wrong}");
    }
    assert!(Template::parse("plain $5 (text)").is_ok());
    assert!(Template::parse("$(headers[\"x-y\"] or \"a or b\")").is_ok());
}

#[test]
fn body_operations_are_refused_rather_than_forgotten() {
    let config = json!({ "add": { "body": ["a:1"] } });
    assert!(try_plugin::<RequestTransformer>(config, &Instance::default(), &env()).is_err());
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
