//! What rules make of requests.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{TestRequest, answer, configured, plugin, text_of};
use portcullis_plugin::{Entry, Handler, Request};
use serde_json::{Value, json};

use super::Rewrite;

fn rewritten(config: Value, request: TestRequest) -> Request {
    let mut request = request.build();
    assert!(answer(plugin::<Rewrite>(config).access(&mut request)).is_none());
    request
}

fn target(request: &Request) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let query = request.upstream.query.as_ref().map_or_else(String::new, |query| format!("?{}", text(query)));
    text(&request.upstream.path) + &query
}

#[test]
fn captures_go_into_path_query_host_and_headers() {
    let rule = json!({
        "path": "^/(?<kind>books|films)/([0-9]+)$", "host": "^(?<shop>[a-z]+)\\.test$", "set_path": "/v2/${kind}/item-$2",
        "set_query": {"shop": "${shop}", "price": "$$5 & up"}, "remove_query": ["debug"], "set_host": "${shop}.internal",
        "set_headers": {"X-Kind": "${kind}"}, "remove_headers": ["X-Gone"],
    });
    let request = TestRequest::get("/books/17?debug&a=1").header("X-Gone", "1");
    let mut built = request.build();
    built.head.headers.set("Host", b"shop.test");
    assert!(answer(plugin::<Rewrite>(json!({"rules": [rule]})).access(&mut built)).is_none());
    assert_eq!(target(&built), "/v2/books/item-17?a=1&price=%245%20%26%20up&shop=shop");
    assert_eq!(built.upstream.host_header.as_deref(), Some(&b"shop.internal"[..]));
    assert_eq!((text_of(&built.head.headers, "X-Kind"), text_of(&built.head.headers, "X-Gone")), (Some("books".into()), None));
}

#[test]
fn the_first_rule_that_matches_is_the_only_one_unless_they_are_chained() {
    let rules = json!([{"path": "^/a$", "set_path": "/b"}, {"path": "^/b$", "set_path": "/c"}, {"path": "^/a$", "set_path": "/d"}]);
    assert_eq!(target(&rewritten(json!({"rules": rules}), TestRequest::get("/a"))), "/b");
    assert_eq!(target(&rewritten(json!({"mode": "chain", "rules": rules}), TestRequest::get("/a"))), "/c");
    assert_eq!(target(&rewritten(json!({"rules": rules}), TestRequest::get("/x"))), "/x");
}

#[test]
fn everything_a_rule_names_has_to_match() {
    let config = || json!({"rules": [{"methods": ["GET"], "headers": {"X-Beta": "^yes$"}, "query": {"v": "^2"}, "set_path": "/beta"}]});
    let get = |target: &str| TestRequest::get(target).header("X-Beta", "yes");
    assert_eq!(target(&rewritten(config(), get("/?v=20"))), "/beta?v=20");
    for request in [get("/?v=1"), get("/"), TestRequest::get("/?v=2"), TestRequest::new("POST", "/?v=2").header("X-Beta", "yes")] {
        assert_ne!(rewritten(config(), request).upstream.path, b"/beta");
    }
}

#[test]
fn nothing_a_client_sends_breaks_out_of_the_path() {
    let config = json!({"rules": [{"headers": {"X-To": "^(?<to>.*)$"}, "set_path": "/x/${to}", "set_host": "${to}"}]});
    let request = rewritten(config, TestRequest::get("/").header("X-To", "a b?c#d\"é%2F"));
    assert_eq!(target(&request), "/x/a%20b%3Fc%23d%22%C3%A9%2F");
    assert_eq!(request.upstream.host_header, None);
}

#[test]
fn wrong_expressions_are_refused_when_they_are_written() {
    let error = configured(&Entry::of::<Rewrite>(), json!({"rules": [{"path": "("}]})).unwrap_err();
    assert_eq!(error.fields.unwrap(), json!({"config": {"rules": [{"path": "'(' is not a valid regex"}]}}));
}
