//! What code may do, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use portcullis_plugin::script::{Engine as _, Functions};
use portcullis_plugin::testing::{TestRequest, answer, outcome, text_of};
use portcullis_plugin::{Body, Handler, Instance, Request};

use crate::{Lua, Settings, Untrusted};

fn limits() -> Settings {
    Settings { time_limit: Duration::from_millis(100), memory_limit: 16 << 20, ..Settings::default() }
}

fn access_with(settings: Settings, code: &[&str]) -> Arc<dyn Handler> {
    let access = code.iter().map(|code| (*code).to_owned()).collect();
    Lua::new(settings).functions("pre-function", Functions { access, ..Functions::default() }, &Instance::default()).unwrap()
}

fn access(code: &[&str]) -> Arc<dyn Handler> {
    access_with(limits(), code)
}

fn request() -> Request {
    TestRequest::get("/a/b?x=1&y").header("X-Ask", "yes").build()
}

/// The text an access function exits with.
fn said(code: &str) -> String {
    let ended = answer(access(&[code]).access(&mut request())).unwrap_or_else(|| panic!("no answer from {code}"));
    match ended.body {
        Body::Bytes { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

/// What an access function that returns this says.
fn value(expression: &str) -> String {
    said(&format!("kong.response.exit(200, tostring({expression}))"))
}

#[test]
fn code_changes_the_request_that_goes_on() {
    let code = "kong.service.request.set_header('X-Answer', kong.request.get_header('x-ask')) kong.service.request.set_path('/z')";
    let mut request = request();
    assert_eq!(answer(access(&[code]).access(&mut request)), None);
    assert_eq!(text_of(&request.head.headers, "x-answer").as_deref(), Some("yes"));
    assert_eq!(request.upstream.path, b"/z");
}

#[test]
fn an_exit_ends_the_function_and_those_after_it() {
    let functions = access(&["kong.response.exit(201, 'one') error('not reached')", "kong.response.exit(200, 'two')"]);
    let ended = answer(functions.access(&mut request())).unwrap();
    assert_eq!((ended.status, ended.body), (201, Body::Bytes { content_type: None, bytes: b"one".to_vec() }));
}

#[test]
fn an_exit_inside_pcall_and_coroutines_ends_the_request_all_the_same() {
    assert_eq!(said("pcall(function() kong.response.exit(200, 'in') end) kong.response.exit(200, 'out')"), "in");
    assert_eq!(said("coroutine.wrap(function() kong.response.exit(200, 'in') end)() kong.response.exit(200, 'out')"), "in");
}

#[test]
fn a_function_given_keeps_its_state_between_requests() {
    let functions = access(&["local n = 0 return function() n = n + 1 kong.service.request.set_header('X-Count', n) end"]);
    for count in ["1", "2", "3"] {
        let mut request = request();
        assert_eq!(answer(functions.access(&mut request)), None);
        assert_eq!(text_of(&request.head.headers, "x-count").as_deref(), Some(count));
    }
}

#[test]
fn errors_tell_where_they_come_from() {
    let error = outcome(access(&["local a = nil\nreturn a.b"]).access(&mut request())).unwrap_err().to_string();
    assert!(error.contains("attempt to index") && error.contains(":2:") && error.contains("traceback"), "{error}");
}

#[test]
fn an_endless_loop_is_stopped_even_if_it_catches_errors() {
    for code in ["while true do end", "while true do pcall(function() while true do end end) end"] {
        let functions = access(&[code]);
        let error = outcome(functions.access(&mut request())).unwrap_err().to_string();
        assert!(error.contains("code ran for more than 100 ms"), "{error}");
        // The state goes on.
        assert_eq!(value("1 + 1"), "2");
    }
}

#[test]
fn a_memory_hog_is_stopped_and_others_go_on() {
    let patient = || Settings { time_limit: Duration::from_secs(20), ..limits() };
    let hogs = access_with(patient(), &["local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end"]);
    let error = outcome(hogs.access(&mut request())).unwrap_err().to_string();
    assert!(error.contains("not enough memory"), "{error}");
    assert_eq!(value("1 + 1"), "2");
    let kept = access_with(patient(), &["hoard = hoard or {} for i = 1, 1e9 do hoard[#hoard + 1] = ('x'):rep(1000) .. i end"]);
    assert!(outcome(kept.access(&mut request())).is_err());
    assert!(outcome(kept.access(&mut request())).is_err());
    assert_eq!(value("1 + 1"), "2");
}

#[test]
fn sandboxed_code_changes_nothing_of_others() {
    for code in ["string.extra = 1", "kong.request.get_header = nil", "ngx.now = nil", "getmetatable('').__index = {}", "require('os')"] {
        assert!(outcome(access(&[code]).access(&mut request())).is_err(), "{code}");
    }
    let trusting = Settings { untrusted: Untrusted::On, ..limits() };
    assert_eq!(outcome(access_with(trusting, &["require('cjson').encode({}) assert(io)"]).access(&mut request())).unwrap(), None);
    let refusing = Lua::new(Settings { untrusted: Untrusted::Off, ..limits() });
    assert!(refusing.check("return 1").unwrap_err().starts_with("loading of untrusted Lua code disabled"));
}

#[test]
fn expressions_of_ngx_re_match_and_replace() {
    assert_eq!(value(r"ngx.re.match('dock 42', [[(\w+) (?<n>\d+)]], 'jo').n"), "42");
    assert_eq!(value("ngx.re.find('hello', 'l+', 'jo')"), "3");
    assert_eq!(value("(ngx.re.gsub('a1b2', '([0-9])', '<$1>'))"), "a<1>b<2>");
    assert_eq!(value("(ngx.re.sub('abc', '(?=b)', '-'))"), "a-bc");
}

#[test]
fn code_may_wait() {
    let functions =
        access(&["ngx.sleep(0.001) coroutine.wrap(function() ngx.sleep(0.001) end)() kong.service.request.set_header('X-Done', '1')"]);
    let mut request = request();
    assert_eq!(outcome(functions.access(&mut request)).unwrap(), None);
    assert_eq!(text_of(&request.head.headers, "x-done").as_deref(), Some("1"));
}

#[test]
fn json_goes_both_ways() {
    let code = "local t = { list = { 1, 2 }, none = ngx.null, deep = { a = 'b' } } kong.response.exit(200, t)";
    let parsed: serde_json::Value = serde_json::from_str(&said(code)).unwrap();
    assert_eq!(parsed, serde_json::json!({ "list": [1, 2], "none": null, "deep": { "a": "b" } }));
}

#[test]
fn templates_see_the_request() {
    let lua = Lua::new(limits());
    let text = |template: &str| lua.template(template).unwrap().text(&request());
    assert_eq!(text("a $(headers['x-ask']) b").unwrap().as_deref(), Some("a yes b"));
    assert_eq!(text("$(query_params.x)").unwrap().as_deref(), Some("1"));
    assert_eq!(text("$(headers.absent)").unwrap(), None);
    assert_eq!(text("$(headers.absent or 'other')").unwrap().as_deref(), Some("other"));
    assert!(text("$(error('no'))").is_err());
    assert!(lua.template("$(if)").is_err());
}
