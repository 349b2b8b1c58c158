//! What is kept, under which key, for how long, and within which bound.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{ARRIVAL, People, TestRequest, answer, configured, env, filtered, plugin, plugin_in, text_of};
use portcullis_plugin::{Answer, Body, Entry, Handler, Instance, Request};
use serde_json::{Value, json};
use uuid::Uuid;

use super::cache::{Cache, Kept};
use super::{ProxyCache, key};

fn cache(config: Value) -> ProxyCache {
    let mut config = config;
    config["strategy"] = "memory".into();
    plugin(config)
}

/// Sends a request whose upstream answers `body` with these headers; what the client is told of the cache, or the answer.
fn send(plugin: &ProxyCache, request: TestRequest, headers: &[(&str, &str)], body: &str) -> Result<String, Answer> {
    let mut request = request.build();
    if let Some(answer) = answer(plugin.access(&mut request)) {
        return Err(answer);
    }
    let mut headers = headers.to_vec();
    if headers.iter().all(|(name, _)| *name != "Content-Type") {
        headers.push(("Content-Type", "text/plain"));
    }
    let told = filtered(plugin, &mut request, &headers);
    finish(plugin, &mut request, body);
    let own = text_of(&request.response_headers, "x-cache-status").unwrap();
    Ok(told.into_iter().find(|(name, _)| name == "x-cache-status").map_or(own, |(_, status)| status))
}

fn finish(plugin: &ProxyCache, request: &mut Request, body: &str) {
    let (first, second) = body.as_bytes().split_at(body.len() / 2);
    plugin.body_filter(request, &mut first.to_vec(), false).unwrap();
    plugin.body_filter(request, &mut second.to_vec(), true).unwrap();
}

fn hit(sent: Result<String, Answer>) -> (String, String) {
    let answer = sent.unwrap_err();
    let Body::Bytes { bytes, .. } = answer.body else { panic!("no bytes") };
    let age = answer.headers.iter().find(|(name, _)| name == "Age").map(|(_, value)| String::from_utf8(value.clone()).unwrap());
    (String::from_utf8(bytes).unwrap(), age.unwrap_or_default())
}

#[test]
fn the_second_request_is_answered_from_memory_with_its_age() {
    let plugin = cache(json!({}));
    assert_eq!(
        send(&plugin, TestRequest::get("/a?x=1"), &[("X-Up", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], "fresh").unwrap(),
        "Miss"
    );
    let answer = send(&plugin, TestRequest::get("/a?x=1").at(ARRIVAL + 7), &[], "").unwrap_err();
    let cookies = answer.headers.iter().filter(|(name, _)| name == "Set-Cookie").count();
    assert_eq!((answer.status, cookies), (200, 2));
    assert_eq!(hit(Err(answer)), ("fresh".to_owned(), "7".to_owned()));
    assert_eq!(send(&plugin, TestRequest::get("/a?x=2"), &[], "").unwrap(), "Miss");
}

#[test]
fn what_is_no_longer_fresh_is_asked_for_again_while_it_is_stored() {
    let plugin = cache(json!({ "cache_ttl": 10, "storage_ttl": 60 }));
    assert_eq!(send(&plugin, TestRequest::get("/"), &[], "old").unwrap(), "Miss");
    assert_eq!(send(&plugin, TestRequest::get("/").at(ARRIVAL + 11), &[], "new").unwrap(), "Refresh");
    assert_eq!(hit(send(&plugin, TestRequest::get("/").at(ARRIVAL + 20), &[], "")).0, "new");
    assert_eq!(send(&plugin, TestRequest::get("/").at(ARRIVAL + 72), &[], "newer").unwrap(), "Miss");
}

#[test]
fn methods_statuses_and_types_that_are_not_listed_bypass_the_cache() {
    let plugin = cache(json!({ "content_type": ["application/json; charset=utf-8"] }));
    assert_eq!(send(&plugin, TestRequest::new("POST", "/"), &[], "").unwrap(), "Bypass");
    assert_eq!(send(&plugin, TestRequest::get("/"), &[("Content-Type", "application/json")], "").unwrap(), "Bypass");
    assert_eq!(send(&plugin, TestRequest::get("/"), &[("Content-Type", "application/json;charset=utf-8")], "").unwrap(), "Miss");
    // Responses to HEAD are never kept.
    let head = || TestRequest::new("HEAD", "/h");
    assert_eq!(send(&plugin, head(), &[("Content-Type", "application/json;charset=utf-8")], "").unwrap(), "Miss");
    assert_eq!(send(&plugin, head(), &[("Content-Type", "application/json;charset=utf-8")], "").unwrap(), "Miss");
}

#[test]
fn cache_control_is_heeded_when_asked_for() {
    let plugin = cache(json!({ "cache_control": true }));
    let with = |value: &str| TestRequest::get("/").header("Cache-Control", value);
    assert_eq!(send(&plugin, with("no-store"), &[], "").unwrap(), "Bypass");
    assert_eq!(send(&plugin, with("only-if-cached"), &[], "").unwrap_err().status, 504);
    for refused in ["private, max-age=9", "no-store", "no-cache", "max-age=0", ""] {
        assert_eq!(send(&plugin, TestRequest::get("/"), &[("Cache-Control", refused)], "").unwrap(), "Bypass", "{refused}");
    }
    assert_eq!(send(&plugin, TestRequest::get("/"), &[("Cache-Control", "max-age=9")], "kept").unwrap(), "Miss");
    assert_eq!(hit(send(&plugin, TestRequest::get("/").at(ARRIVAL + 5), &[], "")).0, "kept");
    assert_eq!(send(&plugin, with("max-age=3").at(ARRIVAL + 5), &[("Cache-Control", "private")], "").unwrap(), "Bypass");
    assert_eq!(hit(send(&plugin, with("only-if-cached").at(ARRIVAL + 5), &[], "")).0, "kept");
}

#[test]
fn keys_tell_query_headers_and_consumers_apart_as_configured() {
    let of = |config: &ProxyCache, request: TestRequest| key::text(&key::of(&config.config, &request.build()));
    let plain = cache(json!({}));
    assert_eq!(of(&plain, TestRequest::get("/?b=2&a=1&b=1")), of(&plain, TestRequest::get("/?b=1&b=2&a=1")));
    assert_ne!(of(&plain, TestRequest::get("/page")), of(&plain, TestRequest::get("/page?")));
    assert_ne!(of(&plain, TestRequest::get("/Page?")), of(&plain, TestRequest::get("/page?")));
    let narrow = cache(json!({ "vary_query_params": ["a"], "vary_headers": ["Accept"], "ignore_uri_case": true }));
    assert_eq!(of(&narrow, TestRequest::get("/Page?a=1&b=2")), of(&narrow, TestRequest::get("/page?a=1")));
    let json = TestRequest::get("/").header("accept", "application/json");
    assert_ne!(of(&narrow, TestRequest::get("/")), of(&narrow, json));
    let anna = Uuid::from_u128(1);
    let people = People::default().consumer(anna, "anna");
    // Without a route all share what is kept.
    assert_eq!(of(&plain, TestRequest::get("/").people(&people).authenticated(anna)), of(&plain, TestRequest::get("/")));
}

#[test]
fn headers_about_the_cache_can_be_left_out() {
    let plugin = cache(json!({ "response_headers": { "age": false, "X-Cache-Status": false, "X-Cache-Key": false } }));
    let mut request = TestRequest::get("/").build();
    assert!(answer(plugin.access(&mut request)).is_none());
    assert!(request.response_headers.is_empty());
    let mut request = TestRequest::get("/").header("Kong-Debug", "1").build();
    assert!(answer(plugin.access(&mut request)).is_none());
    assert_eq!(text_of(&request.response_headers, "x-cache-status").as_deref(), Some("Miss"));
}

#[test]
fn what_is_kept_never_takes_more_than_its_bound() {
    let cache = Cache::default();
    cache.set_capacity(100_000);
    let kept = |size: usize| Kept {
        status: 200,
        headers: Vec::new(),
        body: vec![b'x'; size].into(),
        request_body: Box::default(),
        at: 0,
        lifetime: 9.0,
        gone_at: u64::MAX,
    };
    let key = |number: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key[31] = number as u8;
        key
    };
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let cache = &cache;
            scope.spawn(move || {
                for number in 0..2000 {
                    cache.put(key(number * 4 + thread), kept(500 + number as usize % 1000));
                    cache.put(key(0), kept(1));
                    assert!(cache.used() <= 100_000);
                }
            });
        }
    });
    assert!(cache.used() > 80_000);
    cache.put(key(7), kept(50_000));
    assert!(cache.get(&key(7), 0).is_none(), "one that is larger than a quarter of everything is not kept");
    cache.clear();
    assert_eq!(cache.used(), 0);
}

#[test]
fn what_is_asked_for_stays_longer_than_what_is_not() {
    let cache = Cache::default();
    cache.set_capacity(100_000);
    let kept = || Kept {
        status: 200,
        headers: Vec::new(),
        body: vec![b'x'; 1000].into(),
        request_body: Box::default(),
        at: 0,
        lifetime: 9.0,
        gone_at: u64::MAX,
    };
    cache.put([1; 32], kept());
    for number in 0..5000u32 {
        let mut key = [2; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key[31] = number as u8;
        cache.put(key, kept());
        assert!(cache.get(&[1; 32], 0).is_some(), "{number}");
    }
}

#[test]
fn the_store_has_to_be_one_there_is() {
    let error = configured(&Entry::of::<ProxyCache>(), json!({ "strategy": "memory", "memory": { "dictionary_name": "x" } })).unwrap_err();
    assert_eq!(error.fields.unwrap(), json!({ "@entity": ["missing shared dict 'x'"] }));
    assert!(configured(&Entry::of::<ProxyCache>(), json!({ "strategy": "memory" })).is_ok());
}

#[test]
fn the_admin_api_shows_and_drops_what_is_kept() {
    let env = env();
    let instance = Instance { id: Uuid::from_u128(5), ..Instance::default() };
    let plugin: ProxyCache = plugin_in(json!({ "strategy": "memory" }), &instance, &env);
    send(&plugin, TestRequest::get("/").at(super::now()), &[("X-Up", "1")], "body").unwrap();
    let key = key::text(&key::of(&plugin.config, &TestRequest::get("/").build()));
    let call = |method: &str, path: &str, params: &[&str]| {
        let endpoint = super::endpoints::all().into_iter().find(|known| known.method == method && known.path == path).unwrap();
        let call = portcullis_plugin::AdminCall { params: params.iter().map(|text| text.to_string()).collect(), ..Default::default() };
        env.runtime.block_on((endpoint.handle)(env.clone(), call))
    };
    let shown = call("GET", "/proxy-cache/{cache_key}", &[&key]);
    let Body::Json(body) = shown.body else { panic!("not JSON") };
    assert_eq!((&body["body"], &body["headers"]["X-Up"], &body["ttl"]), (&json!("body"), &json!("1"), &json!(300)));
    let of = instance.id.to_string();
    assert_eq!(call("GET", "/proxy-cache/{plugin_id}/caches/{cache_key}", &[&Uuid::nil().to_string(), &key]).status, 404);
    assert_eq!(call("GET", "/proxy-cache/{plugin_id}/caches/{cache_key}", &[&of, &key]).status, 200);
    assert_eq!(call("DELETE", "/proxy-cache/{cache_key}", &[&key]).status, 204);
    assert_eq!(call("DELETE", "/proxy-cache/{cache_key}", &[&key]).status, 404);
    assert_eq!(call("DELETE", "/proxy-cache", &[]).status, 204);
}
