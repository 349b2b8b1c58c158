//! Where clients are sent.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{TestRequest, answer, configured, plugin};
use portcullis_plugin::{Entry, Handler};
use serde_json::{Value, json};

use super::Redirect;

fn location(config: Value, target: &str) -> (u16, String) {
    let answer = answer(plugin::<Redirect>(config).access(&mut TestRequest::get(target).build())).unwrap();
    let (_, location) = answer.headers.into_iter().find(|(name, _)| name == "Location").unwrap();
    (answer.status, String::from_utf8(location).unwrap())
}

#[test]
fn clients_are_sent_to_the_location_as_it_is() {
    let config = json!({ "location": "https://new.test/here?x=1" });
    assert_eq!(location(config, "/old?y=2"), (301, "https://new.test/here?x=1".to_owned()));
}

#[test]
fn they_can_keep_their_path_and_query() {
    let config = |location: &str| json!({ "location": location, "status_code": 307, "keep_incoming_path": true });
    for (base, target, want) in [
        ("https://new.test/here?x=1", "/old/path?y=2&z=%20", "https://new.test/old/path?y=2&z=%20"),
        ("https://new.test/here?x=1", "/old/path", "https://new.test/old/path"),
        ("https://new.test", "/a%20b/c?", "https://new.test/a%20b/c"),
        ("http://new.test:8080", "/deep?q=1", "http://new.test:8080/deep?q=1"),
    ] {
        assert_eq!(location(config(base), target), (307, want.to_owned()));
    }
}

#[test]
fn a_location_has_scheme_and_host() {
    let error = configured(&Entry::of::<Redirect>(), json!({ "location": "/relative" })).unwrap_err();
    assert_eq!(error.fields.unwrap(), json!({ "config": { "location": "missing host in url" } }));
}
