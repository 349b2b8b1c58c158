//! Which addresses pass.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{TestRequest, answer, configured, plugin};
use portcullis_plugin::{Answer, Entry, Handler};
use serde_json::{Value, json};

use super::IpRestriction;

fn answer_to(config: Value, address: &str) -> Option<Answer> {
    answer(plugin::<IpRestriction>(config).access(&mut TestRequest::get("/").from(address).build()))
}

fn passes(config: &Value, address: &str) -> bool {
    answer_to(config.clone(), address).is_none()
}

#[test]
fn only_allowed_addresses_and_networks_pass() {
    let config = json!({ "allow": ["10.0.0.1", "192.168.7.9/16", "fe80::/10", "::1"] });
    for address in ["10.0.0.1", "192.168.255.1", "fe80::1", "::1", "::ffff:10.0.0.1"] {
        assert!(passes(&config, address), "{address}");
    }
    for address in ["10.0.0.2", "192.169.0.1", "2001:db8::1"] {
        assert!(!passes(&config, address), "{address}");
    }
}

#[test]
fn denied_addresses_stay_out_even_if_allowed() {
    let config = json!({ "allow": ["10.0.0.0/8"], "deny": ["10.6.6.6"] });
    assert!(passes(&config, "10.6.6.7"));
    assert!(!passes(&config, "10.6.6.6"));
    assert!(passes(&json!({ "deny": ["10.6.6.6"] }), "11.0.0.1"));
    assert!(!passes(&json!({ "deny": ["0.0.0.0/0", "::/0"] }), "11.0.0.1"));
}

#[test]
fn a_refusal_names_the_address_unless_told_otherwise() {
    assert_eq!(answer_to(json!({ "deny": ["10.0.0.1"] }), "10.0.0.1"), Some(Answer::error(403, "IP address not allowed: 10.0.0.1")));
    let config = json!({ "deny": ["10.0.0.1"], "status": 404, "message": "nothing here" });
    assert_eq!(answer_to(config, "10.0.0.1"), Some(Answer::error(404, "nothing here")));
}

#[test]
fn a_client_without_an_address_is_refused() {
    let mut request = TestRequest::get("/").build();
    request.client.forwarded_ip = None;
    let answer = answer(plugin::<IpRestriction>(json!({ "deny": ["10.0.0.1"] })).access(&mut request));
    assert_eq!(answer.unwrap().status, 403);
}

#[test]
fn every_wrong_entry_is_named_at_once() {
    let error =
        configured(&Entry::of::<IpRestriction>(), json!({ "allow": ["10.0.0.1", "300.1.1.1", "10.0.0.0/33", "host"] })).unwrap_err();
    let wrong = |entry: &str| format!("invalid ip or cidr range: '{entry}'");
    assert_eq!(error.fields.unwrap(), json!({ "config": { "allow": [null, wrong("300.1.1.1"), wrong("10.0.0.0/33"), wrong("host")] } }));
    let error = configured(&Entry::of::<IpRestriction>(), json!({})).unwrap_err();
    assert_eq!(
        error.fields.unwrap(),
        json!({ "@entity": ["at least one of these fields must be non-empty: 'config.allow', 'config.deny'"] })
    );
}
