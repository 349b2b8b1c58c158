//! Who is sent where.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{TestRequest, answer, filtered, plugin};
use portcullis_plugin::{Handler, Request};
use serde_json::{Value, json};

use super::HttpsRedirect;

fn request(target: &str, host: &str) -> Request {
    let mut request = TestRequest::get(target).build();
    request.head.headers.set("Host", host.as_bytes());
    request
}

fn location(config: Value, target: &str, host: &str) -> Option<(u16, String)> {
    let answer = answer(plugin::<HttpsRedirect>(config).access(&mut request(target, host)))?;
    let location = answer.headers.iter().find(|(name, _)| name == "Location").unwrap().1.clone();
    Some((answer.status, String::from_utf8(location).unwrap()))
}

#[test]
fn clients_are_sent_to_the_same_address_with_tls() {
    let to = |text: &str| Some((301, text.to_owned()));
    assert_eq!(location(json!({}), "/a?b=%20c", "Shop.test:8000"), to("https://shop.test/a?b=%20c"));
    assert_eq!(location(json!({"port": 8443}), "/", "shop.test"), to("https://shop.test:8443/"));
    assert_eq!(location(json!({"port": 443}), "/", "[::1]:80"), to("https://[::1]/"));
    assert_eq!(location(json!({"status_code": 308}), "/", "shop.test").unwrap().0, 308);
}

#[test]
fn other_hosts_and_excluded_paths_are_left_alone() {
    let config = || json!({"hosts": ["*.shop.test", "shop.test"], "exclude_paths": ["/.well-known/acme-challenge/"]});
    assert!(location(config(), "/", "a.shop.test").is_some() && location(config(), "/", "shop.test").is_some());
    for (target, host) in
        [("/", "other.test"), ("/", ".shop.test"), ("/.well-known/acme-challenge/x", "shop.test"), ("/", "shop.test\"<x>")]
    {
        assert_eq!(location(config(), target, host), None, "{host}{target}");
    }
}

#[test]
fn browsers_are_told_to_stay_over_tls_only() {
    let plugin: HttpsRedirect = plugin(json!({"hsts_max_age": 60, "hsts_include_subdomains": true, "hsts_preload": true}));
    let mut request = request("/", "shop.test");
    assert_eq!(filtered(&plugin, &mut request, &[]), []);
    request.client.forwarded_https = true;
    assert!(answer(plugin.access(&mut request)).is_none());
    let wanted = ("strict-transport-security".to_owned(), "max-age=60; includeSubDomains; preload".to_owned());
    assert_eq!(filtered(&plugin, &mut request, &[("Strict-Transport-Security", "max-age=1")]), [wanted]);
}
