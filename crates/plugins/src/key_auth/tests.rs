//! Who gets in with which key, and what the upstream sees of it.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{People, TestRequest, answer, configured, outcome, plugin, text_of, texts};
use portcullis_plugin::{Answer, Body, Entry, Handler, Request};
use serde_json::{Value, json};
use uuid::Uuid;

use super::KeyAuth;

const ANNA: Uuid = Uuid::from_u128(0xa);
const GUEST: Uuid = Uuid::from_u128(0x9);

fn people() -> People {
    People::default().consumer_record(json!({ "id": ANNA, "username": "anna", "custom_id": "c-17" })).consumer(GUEST, "guest").key(
        "keyauth_credentials",
        "k-anna",
        ANNA,
    )
}

fn run(config: Value, request: &mut Request) -> Option<Answer> {
    answer(plugin::<KeyAuth>(config).access(request))
}

fn refused(config: Value, request: TestRequest) -> (u16, Body, String) {
    let answer = run(config, &mut request.people(&people()).build()).unwrap();
    let (_, challenge) = answer.headers.iter().find(|(name, _)| name == "WWW-Authenticate").unwrap();
    (answer.status, answer.body.clone(), String::from_utf8(challenge.clone()).unwrap())
}

fn passes(config: Value, request: TestRequest) -> Request {
    let mut request = request.people(&people()).build();
    assert_eq!(run(config, &mut request), None);
    request
}

#[test]
fn a_key_in_a_header_or_the_query_names_the_consumer() {
    for request in [TestRequest::get("/").header("APIKEY", "k-anna"), TestRequest::get("/?apikey=k%2Danna&b=2")] {
        let request = passes(json!({}), request);
        assert_eq!(request.consumer.as_ref().unwrap().id, ANNA);
        assert_eq!(request.credential.as_ref().unwrap().id, Uuid::from_u128(0x100));
        let headers = &request.head.headers;
        assert_eq!(text_of(headers, "x-consumer-id").unwrap(), ANNA.to_string());
        assert_eq!(text_of(headers, "x-consumer-username").unwrap(), "anna");
        assert_eq!(text_of(headers, "x-consumer-custom-id").unwrap(), "c-17");
        assert_eq!(text_of(headers, "x-credential-identifier").unwrap(), Uuid::from_u128(0x100).to_string());
    }
}

#[test]
fn without_a_valid_key_requests_are_refused_with_a_challenge() {
    let no_key = || Body::Negotiated("No API key found in request".into());
    for request in [
        TestRequest::get("/"),
        TestRequest::get("/").header("apikey", ""),
        TestRequest::get("/?apikey="),
        TestRequest::get("/?apikey"),
        TestRequest::get("/?APIKEY=k-anna"),
        TestRequest::get("/?apikey[]=k-anna"),
        TestRequest::new("POST", "/").body("application/x-www-form-urlencoded", "apikey=k-anna"),
    ] {
        assert_eq!(refused(json!({}), request), (401, no_key(), "Key".into()));
    }
    let unknown = refused(json!({ "realm": "with \"quotes\"" }), TestRequest::get("/").header("apikey", "wrong"));
    assert_eq!(unknown, (401, Body::Negotiated("Unauthorized".into()), "Key realm=\"with \"quotes\"\"".into()));
}

#[test]
fn repeated_keys_are_refused_even_if_they_are_equal() {
    for request in
        [TestRequest::get("/").header("apikey", "k-anna").header("apikey", "k-anna"), TestRequest::get("/?apikey=k-anna&apikey=k-anna")]
    {
        assert_eq!(refused(json!({}), request).1, Body::Negotiated("Duplicate API key found".into()));
    }
    let list = TestRequest::new("POST", "/").body("application/json", r#"{"apikey": ["k-anna"]}"#);
    assert_eq!(refused(json!({ "key_in_body": true }), list).1, Body::Negotiated("Duplicate API key found".into()));
}

#[test]
fn the_first_place_with_a_key_decides() {
    passes(json!({}), TestRequest::get("/?apikey=wrong").header("apikey", "k-anna"));
    refused(json!({}), TestRequest::get("/?apikey=k-anna").header("apikey", "wrong"));
    refused(json!({ "key_names": ["x-key", "token"] }), TestRequest::get("/?x-key=wrong&token=k-anna"));
    passes(json!({ "key_names": ["x-key", "token"] }), TestRequest::get("/?x-key&token=k-anna"));
}

#[test]
fn each_place_can_be_switched_off() {
    refused(json!({ "key_in_header": false }), TestRequest::get("/").header("apikey", "k-anna"));
    refused(json!({ "key_in_query": false }), TestRequest::get("/?apikey=k-anna"));
}

#[test]
fn underscores_in_a_key_name_also_stand_for_dashes_in_headers() {
    for name in ["x_key", "X-Key"] {
        passes(json!({ "key_names": ["x_key"] }), TestRequest::get("/").header(name, "k-anna"));
    }
}

#[test]
fn keys_are_found_in_bodies_that_have_fields() {
    let config = || json!({ "key_in_body": true, "key_names": ["token"] });
    let multipart = "--b1\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nk-anna\r\n--b1--\r\n";
    for (content_type, body) in [
        ("application/x-www-form-urlencoded", "token=k-anna&left=1"),
        ("application/json", r#"{"token": "k-anna"}"#),
        ("multipart/form-data; boundary=b1", multipart),
    ] {
        let request = TestRequest::new("POST", "/").body(content_type, body);
        let mut request = request.people(&people()).build();
        let plugin: KeyAuth = plugin(config());
        assert!(plugin.body_limit(&request).is_some());
        assert_eq!(answer(plugin.access(&mut request)), None, "{content_type}");
        assert_eq!(request.upstream.body, None, "an untouched body goes on as it came");
    }
    for (content_type, body) in [("text/plain", "token=k-anna"), ("application/json", "{not json")] {
        let refusal = refused(config(), TestRequest::new("POST", "/").body(content_type, body));
        assert_eq!(refusal.1, Body::Negotiated("No API key found in request".into()));
    }
}

#[test]
fn a_body_is_only_waited_for_where_a_key_may_be_in_it() {
    let plugin_ = |in_body: bool| plugin::<KeyAuth>(json!({ "key_in_body": in_body }));
    let form = || TestRequest::new("POST", "/").body("application/x-www-form-urlencoded", "a=1").build();
    assert_eq!(plugin_(false).body_limit(&form()), None);
    assert_eq!(plugin_(true).body_limit(&TestRequest::get("/").build()), None);
    assert_eq!(plugin_(true).body_limit(&TestRequest::new("POST", "/").body("text/plain", "a").build()), None);
    assert!(plugin_(true).body_limit(&form()).is_some());
    // nginx keeps 8 KiB and a quarter more in memory; what is larger has no fields to Kong.
    let padded = |length: usize| TestRequest::new("POST", "/").body("application/x-www-form-urlencoded", &"x".repeat(length)).build();
    assert!(plugin_(true).body_limit(&padded(10_239)).is_some());
    assert_eq!(plugin_(true).body_limit(&padded(10_240)), None);
}

#[test]
fn a_hidden_key_reaches_the_upstream_nowhere() {
    let config = || json!({ "hide_credentials": true, "key_in_body": true, "key_names": ["apikey", "second"] });
    let request =
        passes(config(), TestRequest::get("/keep?a=1&apikey=k-anna&b=x%20y").header("apikey", "k-anna").header("X-Other", "stays"));
    assert_eq!(request.upstream.query.as_deref(), Some(b"a=1&b=x+y".as_slice()));
    assert!(!request.head.headers.contains("apikey") && request.head.headers.contains("x-other"));

    let request = passes(config(), TestRequest::get("/keep?second=k-anna"));
    assert_eq!(request.upstream.query, None);

    let part = |name: &str, value: &str| format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let form = format!("{}{}--cut--\r\n", part("apikey", "k-anna"), part("left", "here"));
    let request = passes(config(), TestRequest::new("POST", "/").body("multipart/form-data; boundary=\"cut\"", &form));
    assert_eq!(request.upstream.body.as_deref(), Some(format!("{}--cut--\r\n", part("left", "here")).as_bytes()));
    assert_eq!(request.head.headers.get("content-type"), Some(b"multipart/form-data; boundary=cut".as_slice()));

    for (content_type, body, left) in [
        ("application/x-www-form-urlencoded", "b=x+y&apikey=k-anna&a=1", "a=1&b=x%20y"),
        ("application/json", r#"{"apikey": "k-anna", "left": "here"}"#, r#"{"left":"here"}"#),
    ] {
        let request = passes(config(), TestRequest::new("POST", "/").body(content_type, body));
        assert_eq!(request.upstream.body.as_deref(), Some(left.as_bytes()));
    }
}

#[test]
fn forged_identity_headers_are_replaced() {
    let forged = TestRequest::get("/").header("X-Consumer-Username", "mallory").header("X-Anonymous-Consumer", "true");
    let request = passes(json!({}), forged.header("x-credential-identifier", "forged").header("apikey", "k-anna"));
    let headers = texts(&request.head.headers);
    let identity: Vec<_> = headers.iter().filter(|(name, _)| name.starts_with("x-c") || name.starts_with("x-a")).collect();
    assert_eq!(identity.len(), 4, "{identity:?}");
    assert!(!headers.iter().any(|(_, value)| value == "mallory" || value == "forged" || value == "true"));
}

#[test]
fn preflights_may_pass_without_a_key() {
    let request = passes(json!({ "run_on_preflight": false }), TestRequest::new("OPTIONS", "/").header("apikey", "k-anna"));
    assert!(request.consumer.is_none());
    refused(json!({}), TestRequest::new("OPTIONS", "/"));
}

#[test]
fn strangers_pass_as_the_anonymous_consumer() {
    for anonymous in ["guest".to_owned(), GUEST.to_string()] {
        let request = passes(
            json!({ "anonymous": anonymous }),
            TestRequest::get("/").header("apikey", "wrong").header("x-credential-identifier", "1"),
        );
        assert_eq!(request.consumer.as_ref().unwrap().id, GUEST);
        assert!(request.credential.is_none());
        let headers = &request.head.headers;
        assert_eq!(text_of(headers, "x-anonymous-consumer").unwrap(), "true");
        assert_eq!(text_of(headers, "x-consumer-username").unwrap(), "guest");
        assert_eq!(text_of(headers, "x-credential-identifier"), None);
    }
}

#[test]
fn an_unknown_anonymous_consumer_is_a_failure() {
    let plugin: KeyAuth = plugin(json!({ "anonymous": "nobody" }));
    let failure = outcome(plugin.access(&mut TestRequest::get("/").people(&people()).build())).unwrap_err();
    assert_eq!(failure.to_string(), "anonymous consumer nobody is unknown");
}

#[test]
fn with_anonymous_an_earlier_authentication_is_enough() {
    let request = TestRequest::get("/").people(&people()).authenticated(ANNA);
    let mut request = request.build();
    assert_eq!(run(json!({ "anonymous": "guest" }), &mut request), None);
    assert_eq!(request.consumer.as_ref().unwrap().id, ANNA);
    refused(json!({}), TestRequest::get("/").people(&people()).authenticated(ANNA));
}

#[test]
fn key_names_must_be_header_names() {
    let error = configured(&Entry::of::<KeyAuth>(), json!({ "key_names": ["bad name", "ok_name"] })).unwrap_err();
    let complaint = "bad header name 'bad name', allowed characters are A-Z, a-z, 0-9, '_', and '-'";
    assert_eq!(error.fields.unwrap(), json!({ "config": { "key_names": [complaint] } }));
}
