//! Which settings pass.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::Entry;
use portcullis_plugin::testing::configured;
use serde_json::json;

use super::Acme;

#[test]
fn terms_of_service_have_to_be_accepted_where_there_are_any() {
    let of = |uri: &str, accepted: bool| {
        configured(&Entry::of::<Acme>(), json!({ "account_email": "a@b.test", "api_uri": uri, "tos_accepted": accepted }))
    };
    let error = of("https://acme-v02.api.letsencrypt.org", false).unwrap_err();
    assert!(error.message.contains("terms of service must be accepted"), "{}", error.message);
    assert!(of("https://acme-v02.api.letsencrypt.org", true).is_ok());
    assert!(of("https://ca.test/directory", false).is_ok());
}

#[test]
fn redis_settings_go_by_older_names_too() {
    let config = json!({ "account_email": "a@b.test", "storage": "redis",
        "storage_config": { "redis": { "host": "r.test", "auth": "pw", "namespace": "ns", "scan_count": 5 } } });
    let redis = &configured(&Entry::of::<Acme>(), config).unwrap()["storage_config"]["redis"];
    assert_eq!(redis["password"], "pw");
    assert_eq!(redis["extra_options"], json!({ "namespace": "ns", "scan_count": 5 }));
}

#[test]
fn a_namespace_leaves_the_plugins_own_names_alone() {
    let config = json!({ "account_email": "a@b.test",
        "storage_config": { "redis": { "extra_options": { "namespace": "kong_acme:cert_key:x" } } } });
    let error = configured(&Entry::of::<Acme>(), config).unwrap_err();
    assert!(error.message.contains("namespace can't be prefixed with reserved word: kong_acme:cert_key:"), "{}", error.message);
}
