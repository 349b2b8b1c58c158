//! Which rule decides, and what it decides by.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{People, TestRequest, answer, configured, plugin, text_of};
use portcullis_plugin::{Entry, Handler, Request};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{AccessControl, normalised};
use crate::auth::VerifiedClaims;

const ANNA: Uuid = Uuid::from_u128(0xa);

/// Whether the request passes, and which rule is told to have decided.
fn decide(config: Value, request: &mut Request) -> (bool, String) {
    let mut config = config;
    config["explain"] = true.into();
    let plugin: AccessControl = plugin(config);
    let passes = answer(plugin.access(request)).is_none();
    (passes, text_of(&request.response_headers, "X-Access-Control-Rule").unwrap())
}

fn anna() -> TestRequest {
    let people = People::default().consumer(ANNA, "anna").key("acls", "crew", ANNA);
    TestRequest::get("/deck/1").people(&people).authenticated(ANNA)
}

fn allows(condition: Value, request: TestRequest) -> bool {
    let mut rule = condition;
    rule["action"] = "allow".into();
    decide(json!({"rules": [rule]}), &mut request.build()).0
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = json!([
        {"action": "deny", "paths": ["/hold"]},
        {"action": "allow", "name": "crew", "groups": ["crew"]},
        {"action": "deny", "consumers": ["anna"]},
    ]);
    assert_eq!(decide(json!({"rules": rules}), &mut anna().build()), (true, "allow; rule 2 (crew)".to_owned()));
    let stranger = || TestRequest::get("/hold/3").build();
    assert_eq!(decide(json!({"rules": rules}), &mut stranger()), (false, "deny; rule 1".to_owned()));
    assert_eq!(decide(json!({"default_action": "allow"}), &mut stranger()), (true, "allow; default".to_owned()));
}

#[test]
fn nothing_is_told_unless_it_is_asked_for() {
    let mut request = anna().build();
    let refusal = answer(plugin::<AccessControl>(json!({"status_code": 451, "message": "not here"})).access(&mut request)).unwrap();
    assert_eq!((refusal.status, text_of(&request.response_headers, "X-Access-Control-Rule")), (451, None));
}

#[test]
fn each_condition_counts() {
    for condition in [
        json!({"consumers": ["anna"]}),
        json!({"consumers": [ANNA]}),
        json!({"groups": ["crew", "other"]}),
        json!({"methods": ["GET"]}),
        json!({"paths": ["/deck"]}),
        json!({"paths": ["~/deck/[0-9]$"]}),
        json!({"addresses": ["127.0.0.0/8", "::1"]}),
        // Requests of tests come on Saturday, a minute after midnight.
        json!({"days": ["sat"], "until": "00:02"}),
    ] {
        assert!(allows(condition.clone(), anna()), "{condition}");
    }
    for condition in [
        json!({"consumers": ["eve"]}),
        json!({"groups": ["other"]}),
        json!({"methods": ["POST"]}),
        json!({"paths": ["~deck/1"]}),
        json!({"addresses": ["10.0.0.0/8"]}),
        json!({"from": "00:02"}),
        json!({"consumers": ["anna"], "methods": ["POST"]}),
        json!({"claims": {"role": ["captain"]}}),
    ] {
        assert!(!allows(condition.clone(), anna()), "{condition}");
    }
}

#[test]
fn claims_are_those_of_the_verified_token() {
    let claims = json!({"role": "captain", "level": 3, "realm": {"roles": ["mate", "cook"]}, "a.b": true});
    let decides = |condition: Value| {
        let mut request = anna().build();
        request.context.set(VerifiedClaims(claims.as_object().unwrap().clone()));
        decide(json!({"rules": [{"action": "allow", "claims": condition}]}), &mut request).0
    };
    for condition in [json!({"role": ["captain"]}), json!({"level": ["3"]}), json!({"realm.roles": ["cook"]}), json!({"a.b": ["true"]})] {
        assert!(decides(condition.clone()), "{condition}");
    }
    for condition in [json!({"role": ["mate"]}), json!({"realm.other": ["cook"]}), json!({"role": ["captain"], "level": ["4"]})] {
        assert!(!decides(condition.clone()), "{condition}");
    }
}

#[test]
fn no_spelling_of_a_path_gets_around_a_rule() {
    for (path, wanted) in [
        ("/a/%62", "/a/b"),
        ("//a///b/", "/a/b/"),
        ("/x/../a/./b", "/a/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/..", "/"),
        ("/a/..", "/"),
        ("/%zz", "/%zz"),
    ] {
        assert_eq!(normalised(path.as_bytes()), wanted, "{path}");
    }
}

#[test]
fn wrong_rules_are_refused_when_they_are_written() {
    let rule = json!({"action": "let", "paths": ["deck", "~("], "from": "9:00", "addresses": ["x"]});
    let error = configured(&Entry::of::<AccessControl>(), json!({"rules": [rule]})).unwrap_err();
    let complaints = &error.fields.unwrap()["config"]["rules"][0];
    assert_eq!(complaints["action"], "expected one of: allow, deny");
    assert_eq!(complaints["paths"], json!(["should start with: / or ~", "'(' is not a valid regex"]));
    assert_eq!(complaints["from"], "expected a time of day as HH:MM");
    assert!(complaints["addresses"].is_array());
}
