//! Who is let in, and what is kept of passwords.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{People, TestRequest, answer, plugin, row, text_of};
use portcullis_plugin::{Answer, Entry, Handler, Request};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{BasicAuth, ENTITY, Login, hash, login};

const ANNA: Uuid = Uuid::from_u128(0xa);
/// `anna:pa:ss`
const LOGIN: &str = "YW5uYTpwYTpzcw==";

fn request() -> TestRequest {
    let password = hash(b"pa:ss", &ANNA.to_string());
    let people = People::default().consumer(ANNA, "anna").credential(ENTITY, "anna", ANNA, json!({ "password": password }));
    TestRequest::get("/").people(&people)
}

fn run(config: Value, request: TestRequest) -> (Option<Answer>, Request) {
    let mut request = request.build();
    let answer = answer(plugin::<BasicAuth>(config).access(&mut request));
    (answer, request)
}

#[test]
fn a_known_user_passes_and_the_upstream_hears_who_it_is() {
    for header in [format!("Basic {LOGIN}"), format!("basic   {LOGIN}"), format!("Basic{LOGIN}")] {
        let (answer, request) = run(json!({}), request().header("Authorization", &header));
        assert_eq!(answer, None, "{header}");
        assert_eq!(text_of(&request.head.headers, "x-consumer-username").unwrap(), "anna");
        assert_eq!(text_of(&request.head.headers, "x-credential-identifier").unwrap(), "anna");
        assert_eq!(text_of(&request.head.headers, "authorization").unwrap(), header);
    }
}

#[test]
fn everything_wrong_is_one_and_the_same_refusal() {
    let refusal = || Some(Answer::error(401, "Unauthorized").header("WWW-Authenticate", "Basic realm=\"service\""));
    assert_eq!(run(json!({}), request()).0, refusal());
    // A wrong scheme, a wrong password, a user nobody knows, no colon, no name, no base64, nothing.
    for header in
        ["BASIC YW5uYTpwYTpzcw==", "Basic YW5uYTpubw==", "Basic Z2hvc3Q6cGE6c3M=", "Basic bm9jb2xvbg==", "Basic OnBhc3M=", "Basic !!!", ""]
    {
        assert_eq!(run(json!({}), request().header("Authorization", header)).0, refusal(), "{header}");
    }
}

#[test]
fn the_proxy_header_goes_first_unless_it_names_nobody() {
    let good = format!("Basic {LOGIN}");
    let both = |proxy: &str| run(json!({}), request().header("Proxy-Authorization", proxy).header("Authorization", &good)).0;
    assert_eq!(both("Basic Z2hvc3Q6cGE6c3M="), None);
    assert_eq!(both("nonsense"), None);
    assert_eq!(both("Basic YW5uYTpubw==").unwrap().status, 401);
}

#[test]
fn credentials_can_be_hidden_from_the_upstream() {
    let config = json!({ "hide_credentials": true });
    let (_, request) = run(config, request().header("Authorization", &format!("Basic {LOGIN}")));
    assert_eq!(text_of(&request.head.headers, "authorization"), None);
}

#[test]
fn what_is_no_login_is_not_hidden() {
    let config = json!({ "hide_credentials": true, "anonymous": "anna" });
    // "sesame", without a colon.
    let (_, request) = run(config, request().header("Authorization", "Basic c2VzYW1l"));
    assert_eq!(text_of(&request.head.headers, "authorization").unwrap(), "Basic c2VzYW1l");
}

#[test]
fn a_password_ends_with_its_line() {
    assert!(matches!(login(b"Basic YW5uYTpvcGVuCnNlc2FtZQ=="), Login::Given(name, password) if name == "anna" && password == b"open"));
}

#[test]
fn strangers_pass_as_the_anonymous_consumer() {
    let (answer, request) = run(json!({ "anonymous": "anna" }), request());
    assert_eq!((answer, request.credential.is_none()), (None, true));
    assert_eq!(text_of(&request.head.headers, "x-anonymous-consumer").unwrap(), "true");
}

#[test]
fn only_a_hash_of_a_password_is_kept() {
    let entry = Entry::of::<BasicAuth>();
    let consumer = "6c4d2d0e-1111-4c5b-8a51-3a2f0d7c9a01";
    let kept = row(&entry, ENTITY, json!({ "username": "ann", "password": "secret", "consumer": { "id": consumer } })).unwrap();
    assert_eq!(kept["password"], "4ff3e975af90e7fef35aba1e69846dd57c325dc5");
    let error = row(&entry, ENTITY, json!({ "username": "ann", "password": "secret" })).unwrap_err();
    let complaint = "all or none of these fields must be set: 'password', 'consumer.id'";
    assert_eq!(error.fields.unwrap(), json!({ "@entity": [complaint], "consumer": "required field missing" }));
}
