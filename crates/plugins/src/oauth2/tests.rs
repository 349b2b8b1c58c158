//! Which settings and rows pass.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::Entry;
use portcullis_plugin::testing::{configured, row};
use serde_json::json;

use super::Oauth2;

const ANNA: &str = "00000000-0000-4000-8000-00000000000a";

#[test]
fn an_instance_gives_out_tokens_of_some_kind() {
    let error = configured(&Entry::of::<Oauth2>(), json!({})).unwrap_err();
    let complaint = "at least one of these fields must be true: enable_authorization_code, enable_implicit_grant, \
        enable_client_credentials, enable_password_grant";
    assert_eq!(error.fields.unwrap(), json!({ "config": complaint }));
}

#[test]
fn the_provision_key_is_made_up() {
    let config = configured(&Entry::of::<Oauth2>(), json!({ "enable_password_grant": true })).unwrap();
    assert_eq!(config["provision_key"].as_str().unwrap().len(), 32);
}

#[test]
fn a_wish_for_scopes_needs_some() {
    let error = configured(&Entry::of::<Oauth2>(), json!({ "enable_password_grant": true, "mandatory_scope": true })).unwrap_err();
    assert_eq!(error.fields.unwrap()["config"]["scopes"], "required field missing");
}

#[test]
fn clients_get_an_id_and_a_secret() {
    let client = row(&Entry::of::<Oauth2>(), "oauth2_credentials", json!({ "name": "app", "consumer": { "id": ANNA } })).unwrap();
    assert_eq!((client["client_id"].as_str().unwrap().len(), client["client_secret"].as_str().unwrap().len()), (32, 32));
}

#[test]
fn a_secret_is_kept_as_a_salted_hash_where_that_is_wanted() {
    let input = json!({ "name": "app", "consumer": { "id": ANNA }, "client_secret": "s", "hash_secret": true });
    let hash = || row(&Entry::of::<Oauth2>(), "oauth2_credentials", input.clone()).unwrap()["client_secret"].clone();
    let (one, other) = (hash(), hash());
    assert!(one.as_str().unwrap().starts_with("$pbkdf2-sha512$i=10000,l=32$"), "{one}");
    assert_ne!(one, other);
    let again = json!({ "name": "app", "consumer": { "id": ANNA }, "client_secret": one, "hash_secret": true });
    assert_eq!(row(&Entry::of::<Oauth2>(), "oauth2_credentials", again).unwrap()["client_secret"], one);
}

#[test]
fn users_are_sent_back_to_absolute_uris_only() {
    let input = json!({ "name": "app", "consumer": { "id": ANNA }, "redirect_uris": ["https://a.test/x", "/x", "https://a.test/#f"] });
    let error = row(&Entry::of::<Oauth2>(), "oauth2_credentials", input).unwrap_err();
    assert_eq!(
        error.fields.unwrap(),
        json!({ "redirect_uris": [null, "cannot parse '/x'", "fragment not allowed in 'https://a.test/#f'"] })
    );
}
