//! What browsers are told, on preflights and on everything else.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{TestRequest, answer, configured, filtered, plugin};
use portcullis_plugin::{Answer, Body, Entry, Handler, Request};
use serde_json::{Value, json};

use super::Cors;

const METHODS: &str = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT";

fn preflight() -> TestRequest {
    TestRequest::new("OPTIONS", "/").header("Origin", "https://shop.test").header("Access-Control-Request-Method", "PUT")
}

fn headers(answer: &Answer) -> Vec<(&str, &str)> {
    answer.headers.iter().map(|(name, value)| (&**name, std::str::from_utf8(value).unwrap())).collect()
}

/// The headers of a response that had `upstream`'s.
fn response(config: Value, request: &mut Request, upstream: &[(&str, &str)]) -> Vec<(String, String)> {
    filtered(&plugin::<Cors>(config), request, upstream)
}

fn asked_by(origin: &str) -> Request {
    TestRequest::get("/").header("Origin", origin).build()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn preflights_are_answered_by_the_gateway() {
    let plugin: Cors = plugin(json!({}));
    let mut request = preflight().header("Access-Control-Request-Headers", "X-One, X-Two").build();
    let answer = answer(plugin.access(&mut request)).unwrap();
    assert_eq!((answer.status, &answer.body), (200, &Body::Empty));
    assert_eq!(
        headers(&answer),
        [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "X-One, X-Two"), ("Access-Control-Allow-Methods", METHODS),]
    );
    assert_eq!(filtered(&plugin, &mut request, &[]), [], "nothing is added twice");
}

#[test]
fn settings_show_in_preflights() {
    let config =
        json!({ "origins": ["https://one.test"], "headers": ["X-A", "X-B"], "methods": ["DELETE"], "max_age": 0, "credentials": true });
    let answer = answer(plugin::<Cors>(config).access(&mut preflight().build())).unwrap();
    assert_eq!(
        headers(&answer),
        [
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", "https://one.test"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Headers", "X-A,X-B"),
            ("Access-Control-Allow-Methods", "DELETE"),
            ("Access-Control-Max-Age", "0"),
        ]
    );
}

#[test]
fn access_from_public_to_private_networks_is_granted_when_asked_for_with_true() {
    let granted = |configured: bool, asked: &str| {
        let mut request = preflight().header("Access-Control-Request-Private-Network", asked).build();
        let answer = answer(plugin::<Cors>(json!({ "private_network": configured })).access(&mut request)).unwrap();
        headers(&answer).contains(&("Access-Control-Allow-Private-Network", "true"))
    };
    assert_eq!((granted(true, "true"), granted(true, "1"), granted(false, "true")), (true, false, false));
}

#[test]
fn only_options_with_origin_and_wanted_method_is_a_preflight() {
    for request in [
        TestRequest::new("OPTIONS", "/").header("Origin", "https://shop.test"),
        TestRequest::new("OPTIONS", "/").header("Access-Control-Request-Method", "PUT"),
        TestRequest::get("/").header("Origin", "https://shop.test").header("Access-Control-Request-Method", "PUT"),
    ] {
        assert_eq!(answer(plugin::<Cors>(json!({})).access(&mut request.build())), None);
    }
}

#[test]
fn preflights_may_be_left_to_the_upstream() {
    let plugin: Cors = plugin(json!({ "preflight_continue": true }));
    let mut request = preflight().build();
    assert_eq!(answer(plugin.access(&mut request)), None);
    assert_eq!(filtered(&plugin, &mut request, &[]), []);
    assert_eq!(filtered(&plugin, &mut asked_by("https://shop.test"), &[]), pairs(&[("access-control-allow-origin", "*")]));
}

#[test]
fn everybody_is_allowed_with_a_star_and_the_upstreams_word_is_replaced() {
    let upstream = [("Access-Control-Allow-Origin", "upstream.test"), ("Vary", "Accept")];
    let told = response(json!({}), &mut asked_by("https://shop.test"), &upstream);
    assert_eq!(told, pairs(&[("vary", "Accept"), ("access-control-allow-origin", "*")]));
    assert_eq!(response(json!({}), &mut TestRequest::get("/").build(), &[]), pairs(&[("access-control-allow-origin", "*")]));
}

#[test]
fn with_credentials_the_star_becomes_the_callers_own_origin() {
    let config = || json!({ "origins": ["*"], "credentials": true });
    let own = [("vary", "Origin"), ("access-control-allow-origin", "https://any.test"), ("access-control-allow-credentials", "true")];
    assert_eq!(response(config(), &mut asked_by("https://any.test"), &[]), pairs(&own));
    assert_eq!(response(config(), &mut TestRequest::get("/").build(), &[]), pairs(&[("access-control-allow-origin", "*")]));
    let among_others = json!({ "origins": ["https://x.test", "*"], "credentials": true });
    let told = response(among_others, &mut asked_by("https://any.test"), &[]);
    assert_eq!(told.iter().filter(|(name, value)| name == "vary" && value == "Origin").count(), 2);
}

#[test]
fn an_origin_that_does_not_fit_gets_no_word_not_even_the_upstreams() {
    let config = || json!({ "origins": [r".*\.reg\.test"], "exposed_headers": ["X-A", "X-B"] });
    let refused = response(config(), &mut asked_by("https://one.other.test"), &[("Access-Control-Allow-Origin", "*")]);
    assert_eq!(refused, pairs(&[("vary", "Origin"), ("access-control-expose-headers", "X-A,X-B")]));
    let allowed = response(config(), &mut asked_by("https://one.reg.test"), &[]);
    assert!(allowed.contains(&("access-control-allow-origin".to_owned(), "https://one.reg.test".to_owned())));
}

#[test]
fn origins_must_be_expressions_and_methods_known() {
    let error = configured(&Entry::of::<Cors>(), json!({ "origins": ["*", "(bad"], "methods": ["FLY"] })).unwrap_err();
    let methods = "expected one of: GET, HEAD, PUT, PATCH, POST, DELETE, OPTIONS, TRACE, CONNECT";
    assert_eq!(error.fields.unwrap(), json!({ "config": { "methods": [methods], "origins": [null, "'(bad' is not a valid regex"] } }));
}
