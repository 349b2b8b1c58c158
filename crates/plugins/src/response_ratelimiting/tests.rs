//! What clients may use up.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{People, TestRequest, answer, configured, env, filtered, plugin, plugin_in};
use portcullis_plugin::{Answer, Entry, Exchange, Handler, Instance, Latencies, ResponseHead, Source};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Counters, ResponseRatelimiting};

const ANNA: Uuid = Uuid::from_u128(0xa);
const BOB: Uuid = Uuid::from_u128(0xb);

/// The headers a client sees when the upstream answers with this `X-Kong-Limit`, and whether the body is withheld.
fn exchange(plugin: &ResponseRatelimiting, request: TestRequest, spent: &[&str]) -> (Vec<(String, String)>, bool) {
    let mut request = request.build();
    assert_eq!(answer(plugin.access(&mut request)), None);
    let upstream: Vec<(&str, &str)> = spent.iter().map(|spent| ("X-Kong-Limit", *spent)).collect();
    let mut headers = filtered(plugin, &mut request, &upstream);
    headers.extend(portcullis_plugin::testing::texts(&request.response_headers));
    let mut chunk = b"body".to_vec();
    plugin.body_filter(&mut request, &mut chunk, true).unwrap();
    plugin.log(&Exchange {
        request: &request,
        response: &ResponseHead::new(200),
        source: Source::Service,
        tries: &[],
        upstream_uri: None,
        upstream_status: "200",
        latencies: Latencies::default(),
        request_bytes: 0,
        response_bytes: 0,
    });
    (headers, chunk.is_empty())
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn video() -> Value {
    json!({ "limits": { "video": { "hour": 3, "year": 10 } } })
}

#[test]
fn what_the_upstream_counts_is_told_and_spent() {
    let plugin = plugin::<ResponseRatelimiting>(video());
    let (headers, withheld) = exchange(&plugin, TestRequest::get("/"), &["video=2"]);
    assert!(!withheld);
    for (name, want) in [
        ("x-ratelimit-limit-video-hour", "3"),
        ("x-ratelimit-remaining-video-hour", "1"),
        ("x-ratelimit-limit-video-year", "10"),
        ("x-ratelimit-remaining-video-year", "8"),
        ("x-ratelimit-remaining-video", "3"),
    ] {
        assert_eq!(value(&headers, name), Some(want), "{name}");
    }
    assert_eq!(value(&headers, "x-kong-limit"), None);
    let (headers, _) = exchange(&plugin, TestRequest::get("/"), &[]);
    assert_eq!(value(&headers, "x-ratelimit-remaining-video-hour"), Some("1"));
}

#[test]
fn a_response_that_spends_what_is_not_there_is_withheld_and_costs_nothing() {
    let plugin = plugin::<ResponseRatelimiting>(video());
    // The last of it may be overdrawn.
    assert!(!exchange(&plugin, TestRequest::get("/"), &["video=5"]).1);
    let (headers, withheld) = exchange(&plugin, TestRequest::get("/"), &["video=1"]);
    assert!(withheld);
    assert_eq!(value(&headers, "x-ratelimit-remaining-video-year"), Some("4"));
    let (headers, withheld) = exchange(&plugin, TestRequest::get("/"), &["audio=1"]);
    assert!(!withheld);
    assert_eq!(value(&headers, "x-ratelimit-remaining-video-year"), Some("5"));
}

#[test]
fn the_first_header_counts_with_all_its_names() {
    let plugin = plugin::<ResponseRatelimiting>(json!({ "limits": { "video": { "year": 9 }, "images": { "year": 9 } } }));
    let (headers, _) = exchange(&plugin, TestRequest::get("/"), &["video=2, other=1, images = 3", "images=5,video=6"]);
    assert_eq!(value(&headers, "x-ratelimit-remaining-video-year"), Some("7"));
    assert_eq!(value(&headers, "x-ratelimit-remaining-images-year"), Some("6"));
}

#[test]
fn windows_end_and_clients_spend_their_own() {
    let people = People::default().consumer(ANNA, "anna").consumer(BOB, "bob");
    let of = |who: Uuid| TestRequest::get("/").people(&people).authenticated(who);
    let plugin = plugin::<ResponseRatelimiting>(json!({ "limits": { "video": { "minute": 1 } } }));
    exchange(&plugin, of(ANNA).at(60), &["video=1"]);
    assert!(exchange(&plugin, of(ANNA).at(119), &["video=1"]).1);
    assert!(!exchange(&plugin, of(BOB).at(119), &["video=1"]).1);
    assert!(!exchange(&plugin, of(ANNA).at(120), &["video=1"]).1);
}

#[test]
fn requests_can_be_refused_before_they_go_anywhere() {
    let config = json!({ "limits": { "video": { "year": 1 } }, "block_on_first_violation": true });
    let plugin = plugin_in::<ResponseRatelimiting>(config.clone(), &Instance::default(), &env());
    exchange(&plugin, TestRequest::get("/"), &["video=1"]);
    let refusal = answer(plugin.access(&mut TestRequest::get("/").build()));
    assert_eq!(refusal, Some(Answer::error(429, "API rate limit exceeded for 'video'")));
    // What is overdrawn is no longer used up to the point: the response is withheld instead, as in Kong.
    let overdrawn = plugin_in::<ResponseRatelimiting>(config, &Instance::default(), &env());
    exchange(&overdrawn, TestRequest::get("/"), &["video=3"]);
    let (headers, withheld) = exchange(&overdrawn, TestRequest::get("/"), &["video=1"]);
    assert!(withheld);
    assert_eq!(value(&headers, "x-ratelimit-remaining-video"), Some("-2"));
}

#[test]
fn a_response_may_give_back() {
    let plugin = plugin::<ResponseRatelimiting>(json!({ "limits": { "video": { "year": 5 } } }));
    exchange(&plugin, TestRequest::get("/"), &["video=4"]);
    let (headers, _) = exchange(&plugin, TestRequest::get("/"), &["video=-2"]);
    assert_eq!(value(&headers, "x-ratelimit-remaining-video-year"), Some("3"));
    assert_eq!(value(&exchange(&plugin, TestRequest::get("/"), &[]).0, "x-ratelimit-remaining-video"), Some("3"));
}

#[test]
fn clients_can_be_spared_the_headers_but_one() {
    let plugin = plugin::<ResponseRatelimiting>(json!({ "limits": { "video": { "year": 1 } }, "hide_client_headers": true }));
    let told = vec![("x-ratelimit-remaining-video".to_owned(), "1".to_owned())];
    assert_eq!(exchange(&plugin, TestRequest::get("/"), &["video=1"]).0, told);
}

#[test]
fn counts_belong_to_route_and_service_and_outlive_settings() {
    let env = env();
    let instance = |route: u128| Instance { route: Some(Uuid::from_u128(route)), ..Instance::default() };
    let made = |route: u128| plugin_in::<ResponseRatelimiting>(video(), &instance(route), &env);
    exchange(&made(1), TestRequest::get("/"), &["video=3"]);
    assert!(exchange(&made(1), TestRequest::get("/"), &["video=1"]).1);
    assert!(!exchange(&made(2), TestRequest::get("/"), &["video=1"]).1);
}

#[test]
fn memory_is_bounded() {
    use super::counters::{Key, Who};
    let counters = Counters::default();
    for client in 0..600_000u128 {
        let key = Key { route: None, service: None, who: Who::Id(Uuid::from_u128(client)), limit: "video".into() };
        counters.add(key, [(0, super::window(0, 100))].into_iter(), 1.0, 100);
    }
    assert!(counters.len() <= 64 * 8192, "{}", counters.len());
}

#[test]
fn a_longer_period_takes_no_less_than_a_shorter_one() {
    let entry = Entry::of::<ResponseRatelimiting>();
    let error = configured(&entry, json!({ "limits": { "v": { "day": 3, "year": 2 } } })).unwrap_err();
    let complaint = "the limit for year(2.0) cannot be lower than the limit for day(3.0)";
    assert_eq!(error.fields.unwrap(), json!({ "config": { "limits": complaint } }));
    assert!(configured(&entry, json!({ "limits": { "v": {} } })).is_err());
}
