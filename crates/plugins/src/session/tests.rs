//! Which settings pass.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::Entry;
use portcullis_plugin::testing::{configured, plugin};
use serde_json::json;

use super::Session;

#[test]
fn older_spellings_are_taken_for_the_newer_ones() {
    let older = json!({ "cookie_lifetime": 100, "cookie_idletime": 10, "cookie_renew": 5, "cookie_discard": 3, "cookie_samesite": "off",
        "cookie_httponly": false, "cookie_persistent": true });
    let config = configured(&Entry::of::<Session>(), older).unwrap();
    let newer = ["rolling_timeout", "idling_timeout", "stale_ttl", "cookie_same_site", "cookie_http_only", "remember"];
    assert_eq!(newer.map(|name| config[name].clone()), [json!(100), json!(10), json!(3), json!("Lax"), json!(false), json!(true)]);
    assert!(config.get("cookie_lifetime").is_none());
}

#[test]
fn the_secret_nobody_gave_stays_the_same_and_is_long() {
    let secret = || configured(&Entry::of::<Session>(), json!({})).unwrap()["secret"].clone();
    assert_eq!((secret().as_str().unwrap().len(), secret()), (44, secret()));
}

#[test]
fn cookies_for_all_sites_are_secure() {
    let attributes = |config| plugin::<Session>(config).session.cookie.attributes;
    assert_eq!(attributes(json!({ "cookie_same_site": "None", "cookie_secure": false })), "; Path=/; SameSite=None; Secure; HttpOnly");
    assert_eq!(attributes(json!({ "cookie_domain": "localhost", "cookie_secure": false })), "; Path=/; SameSite=Strict; HttpOnly");
}
