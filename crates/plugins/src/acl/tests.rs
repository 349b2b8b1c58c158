//! Which groups let a request in.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{People, TestRequest, answer, configured, plugin, text_of};
use portcullis_plugin::{Answer, Entry, Handler, Request};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Acl;

const ANNA: Uuid = Uuid::from_u128(0xa);
const CLEO: Uuid = Uuid::from_u128(0xc1e0);

fn people() -> People {
    People::default().consumer(ANNA, "anna").key("acls", "crew", ANNA).key("acls", "guests", ANNA).consumer(CLEO, "cleo")
}

fn request() -> TestRequest {
    TestRequest::get("/").people(&people())
}

fn run(config: Value, mut request: Request) -> (Option<Answer>, Request) {
    let answer = answer(plugin::<Acl>(config).access(&mut request));
    (answer, request)
}

fn status(config: Value, request: Request) -> Option<u16> {
    run(config, request).0.map(|answer| answer.status)
}

#[test]
fn the_allowed_pass_and_the_upstream_hears_their_groups() {
    let (answer, request) =
        run(json!({ "allow": ["other", "crew"] }), request().authenticated(ANNA).header("X-Consumer-Groups", "forged").build());
    assert_eq!(answer, None);
    assert_eq!(text_of(&request.head.headers, "x-consumer-groups").unwrap(), "crew, guests");
}

#[test]
fn everybody_else_is_refused() {
    let (answer, _) = run(json!({ "allow": ["other"] }), request().authenticated(ANNA).build());
    assert_eq!(answer, Some(Answer::error(403, "You cannot consume this service")));
    assert_eq!(status(json!({ "allow": ["crew"] }), request().authenticated(CLEO).build()), Some(403));
}

#[test]
fn the_denied_are_refused_and_everybody_else_passes() {
    assert_eq!(status(json!({ "deny": ["crew"] }), request().authenticated(ANNA).build()), Some(403));
    let (answer, request) = run(json!({ "deny": ["crew"] }), request().authenticated(CLEO).build());
    assert_eq!((answer, text_of(&request.head.headers, "x-consumer-groups")), (None, Some(String::new())));
}

#[test]
fn nobody_is_unauthorized() {
    for config in [json!({ "allow": ["crew"] }), json!({ "deny": ["crew"] })] {
        let (answer, _) = run(config, request().build());
        assert_eq!(answer, Some(Answer::error(401, "Unauthorized")));
    }
}

fn anonymous(consumer: Uuid) -> Request {
    let mut request = request().authenticated(consumer).build();
    request.credential = None;
    request
}

#[test]
fn the_anonymous_consumers_groups_count() {
    assert_eq!(status(json!({ "allow": ["crew"] }), anonymous(ANNA)), None);
    assert_eq!(status(json!({ "allow": ["crew"] }), anonymous(CLEO)), Some(401));
}

fn with_groups(mut request: Request, groups: &[&str]) -> Request {
    request.authenticated_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
    request
}

#[test]
fn groups_of_the_authentication_go_before_the_anonymous_consumers() {
    assert_eq!(status(json!({ "allow": ["crew"] }), with_groups(anonymous(ANNA), &["strangers"])), Some(403));
    let (answer, request) = run(json!({ "allow": ["visitors"] }), with_groups(anonymous(ANNA), &["visitors", "extra"]));
    assert_eq!(answer, None);
    assert_eq!(text_of(&request.head.headers, "x-authenticated-groups").unwrap(), "visitors, extra");
    assert_eq!(text_of(&request.head.headers, "x-consumer-groups"), None);
}

#[test]
fn groups_of_the_authentication_count_without_a_consumer() {
    let stranger = || request().build();
    assert_eq!(status(json!({ "allow": ["crew"] }), with_groups(stranger(), &["crew"])), None);
    assert_eq!(status(json!({ "allow": ["crew"] }), with_groups(stranger(), &["other"])), Some(403));
}

#[test]
fn they_go_before_a_proven_consumers_only_if_configured() {
    let anna = || with_groups(request().authenticated(ANNA).build(), &["strangers"]);
    assert_eq!(status(json!({ "allow": ["crew"] }), anna()), None);
    assert_eq!(status(json!({ "allow": ["crew"], "always_use_authenticated_groups": true }), anna()), Some(403));
}

#[test]
fn a_hidden_groups_header_is_neither_set_nor_removed() {
    let config = json!({ "allow": ["crew"], "hide_groups_header": true });
    let (_, after) = run(config.clone(), request().authenticated(ANNA).build());
    assert_eq!(text_of(&after.head.headers, "x-consumer-groups"), None);
    let (_, after) = run(config, request().authenticated(ANNA).header("X-Consumer-Groups", "forged").build());
    assert_eq!(text_of(&after.head.headers, "x-consumer-groups").unwrap(), "forged");
}

#[test]
fn exactly_one_list_is_given() {
    let entry = Entry::of::<Acl>();
    let exactly = "exactly one of these fields must be non-empty: 'config.allow', 'config.deny'";
    let at_least = "at least one of these fields must be non-empty: 'config.allow', 'config.deny'";
    let neither = configured(&entry, json!({})).unwrap_err();
    assert_eq!(neither.fields.unwrap(), json!({ "@entity": [exactly, at_least] }));
    let both = configured(&entry, json!({ "allow": ["a"], "deny": ["b"] })).unwrap_err();
    assert_eq!(both.fields.unwrap(), json!({ "@entity": [exactly] }));
}
