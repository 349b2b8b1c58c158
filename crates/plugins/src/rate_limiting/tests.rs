//! Windows, exactness, and what clients are told.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use portcullis_plugin::testing::{ARRIVAL, People, TestRequest, answer, configured, env, plugin, plugin_in, texts};
use portcullis_plugin::{Answer, Entry, Env, Handler, Instance};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::RateLimiting;
use super::counters::{Counters, Scope, Who};
use super::window::{Counts, Limited, PERIODS, Period, Window};

const ANNA: Uuid = Uuid::from_u128(0xa);

/// Sends a request; answers whether it passed and the headers it left for the response.
fn send(plugin: &RateLimiting, request: TestRequest) -> (Option<Answer>, Vec<(String, String)>) {
    let mut request = request.build();
    let answer = answer(plugin.access(&mut request));
    (answer, texts(&request.response_headers))
}

fn passes(plugin: &RateLimiting, request: TestRequest) -> bool {
    send(plugin, request).0.is_none()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn limits_count_down_in_both_families_of_headers_and_end_in_429() {
    let plugin: RateLimiting = plugin(json!({ "hour": 2, "year": 100 }));
    let told = |hour, year, reset, refused: bool| {
        let mut told = pairs(&[
            ("x-ratelimit-limit-hour", "2"),
            ("x-ratelimit-remaining-hour", hour),
            ("x-ratelimit-limit-year", "100"),
            ("x-ratelimit-remaining-year", year),
            ("ratelimit-limit", "2"),
            ("ratelimit-remaining", hour),
            ("ratelimit-reset", reset),
        ]);
        if refused {
            told.push(("retry-after".to_owned(), reset.to_owned()));
        }
        told
    };
    // One minute of the hour has passed.
    assert_eq!(send(&plugin, TestRequest::get("/")), (None, told("1", "99", "3540", false)));
    assert_eq!(send(&plugin, TestRequest::get("/other")), (None, told("0", "98", "3540", false)));
    let refusal = Some(Answer::error(429, "API rate limit exceeded"));
    for _ in 0..2 {
        assert_eq!(send(&plugin, TestRequest::get("/")), (refusal.clone(), told("0", "98", "3540", true)));
    }
    assert_eq!(send(&plugin, TestRequest::get("/").at(ARRIVAL + 3540)), (None, told("1", "97", "3600", false)));
}

#[test]
fn of_windows_with_as_much_left_the_longest_is_told() {
    let plugin: RateLimiting = plugin(json!({ "second": 5, "minute": 5, "day": 5 }));
    let (_, told) = send(&plugin, TestRequest::get("/"));
    assert_eq!(told.last().unwrap(), &("ratelimit-reset".to_owned(), (86_400 - 60).to_string()));
}

#[test]
fn headers_can_be_left_out() {
    let plugin: RateLimiting = plugin(json!({ "year": 1, "hide_client_headers": true, "error_code": 503, "error_message": "later" }));
    assert_eq!(send(&plugin, TestRequest::get("/")), (None, vec![]));
    assert_eq!(send(&plugin, TestRequest::get("/")), (Some(Answer::error(503, "later")), vec![]));
}

#[test]
fn a_fraction_of_a_request_admits_one() {
    let plugin: RateLimiting = plugin(json!({ "hour": 1.5 }));
    let remaining = |told: Vec<(String, String)>| told[1].1.clone();
    assert_eq!(remaining(send(&plugin, TestRequest::get("/")).1), "0.5");
    assert_eq!(remaining(send(&plugin, TestRequest::get("/")).1), "0");
    assert!(!passes(&plugin, TestRequest::get("/")));
}

fn people() -> People {
    People::default().consumer(ANNA, "anna")
}

#[test]
fn each_client_has_a_count_of_its_own() {
    let limited_by = |by: &str| plugin::<RateLimiting>(json!({ "year": 1, "limit_by": by, "header_name": "X-Id", "path": "/p" }));
    let get = |target: &str| TestRequest::get(target).people(&people());
    // (by, first request, one of another client, one of the same client)
    let cases: Vec<(&str, TestRequest, TestRequest, TestRequest)> = vec![
        ("ip", get("/"), get("/").from("10.0.0.2"), get("/x").authenticated(ANNA)),
        ("consumer", get("/").authenticated(ANNA), get("/"), get("/").authenticated(ANNA).from("10.0.0.2")),
        ("credential", get("/").authenticated(ANNA), get("/"), get("/").authenticated(ANNA).from("10.0.0.2")),
        ("header", get("/").header("x-id", "1"), get("/").header("x-id", "2"), get("/").header("x-id", "1").from("10.0.0.2")),
        ("header", get("/"), get("/").header("x-id", ""), get("/x")),
        ("path", get("/p"), get("/other"), get("/a/../p?x=1").from("10.0.0.2")),
    ];
    for (by, first, other, same) in cases {
        let plugin = limited_by(by);
        assert!(passes(&plugin, first), "{by}");
        assert!(passes(&plugin, other), "{by}");
        assert!(!passes(&plugin, same), "{by}");
    }
}

#[test]
fn counts_belong_to_what_the_instance_is_attached_to_and_outlive_its_settings() {
    let env = env();
    let made = |config: Value, instance: &Instance, env: &Env| plugin_in::<RateLimiting>(config, instance, env);
    let on_route = Instance { id: Uuid::from_u128(1), route: Some(Uuid::from_u128(2)), ..Instance::default() };
    assert!(passes(&made(json!({ "year": 1 }), &on_route, &env), TestRequest::get("/")));
    assert!(!passes(&made(json!({ "year": 1 }), &on_route, &env), TestRequest::get("/")));
    assert!(passes(&made(json!({ "year": 2 }), &on_route, &env), TestRequest::get("/")));
    let on_service = Instance { service: Some(Uuid::from_u128(2)), ..Instance::default() };
    assert!(passes(&made(json!({ "year": 1 }), &on_service, &env), TestRequest::get("/")));
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let message = |config: Value| configured(&Entry::of::<RateLimiting>(), config).unwrap_err().message;
    for (config, complaint) in [
        (json!({ "second": 10, "minute": 5 }), "config: The limit for minute(5.0) cannot be lower than the limit for second(10.0)"),
        (json!({ "hour": 1, "sync_rate": 1 }), "config: sync_rate can only be used with the redis policy"),
        (
            json!({ "hour": 1, "policy": "redis", "redis": { "host": "r.example.test" }, "sync_rate": 0.001 }),
            "config: sync_rate must be greater than 0.02, or -1 to disable",
        ),
        (
            json!({}),
            "at least one of these fields must be non-empty: 'config.second', 'config.minute', 'config.hour', 'config.day', \
             'config.month', 'config.year'",
        ),
        (json!({ "second": 0 }), "config.second: value must be greater than 0"),
    ] {
        assert_eq!(message(config), format!("schema violation ({complaint})"));
    }
    let conditional = "failed conditional validation given value of field 'config.limit_by'";
    let error = configured(&Entry::of::<RateLimiting>(), json!({ "hour": 1, "limit_by": "header" })).unwrap_err();
    assert_eq!(error.fields.unwrap(), json!({ "@entity": [conditional], "config": { "header_name": "required field missing" } }));
    let error = configured(&Entry::of::<RateLimiting>(), json!({ "hour": 1, "limit_by": "path", "path": "nope" })).unwrap_err();
    assert_eq!(error.fields.unwrap(), json!({ "@entity": [conditional], "config": { "path": "should start with: /" } }));
}

#[test]
fn older_flat_redis_settings_are_taken() {
    let config = json!({ "hour": 1, "redis_host": "old.test", "redis_port": 6390, "redis_password": "" });
    let config = configured(&Entry::of::<RateLimiting>(), config).unwrap();
    assert_eq!(
        (&config["redis"]["host"], &config["redis"]["port"], &config["redis"]["database"]),
        (&json!("old.test"), &json!(6390), &json!(0))
    );
}

fn window(period: Period, now: u64) -> (u64, u64) {
    let Window { start, end } = period.window(now);
    (start, end)
}

#[test]
fn windows_are_those_of_the_calendar() {
    // 2026-01-31 00:01:00, 2024-02-29 12:00:00 and 2000-03-01 00:00:00 (UTC).
    assert_eq!(window(Period::Minute, ARRIVAL + 59), (ARRIVAL, ARRIVAL + 60));
    assert_eq!(window(Period::Day, ARRIVAL), (ARRIVAL - 60, ARRIVAL - 60 + 86_400));
    assert_eq!(window(Period::Month, ARRIVAL), (1_767_225_600, 1_769_904_000));
    assert_eq!(window(Period::Year, ARRIVAL), (1_767_225_600, 1_798_761_600));
    assert_eq!(window(Period::Month, 1_709_208_000), (1_706_745_600, 1_709_251_200));
    assert_eq!(window(Period::Year, 1_709_208_000), (1_704_067_200, 1_735_689_600));
    assert_eq!(window(Period::Month, 951_868_800), (951_868_800, 954_547_200));
    assert_eq!(window(Period::Year, 0), (0, 365 * 86_400));
}

proptest! {
    #[test]
    fn every_moment_lies_in_one_window_of_each_period(now in 0u64..8_000_000_000) {
        for period in PERIODS {
            let window = period.window(now);
            prop_assert!(window.start <= now && now < window.end);
            prop_assert_eq!(period.window(window.start), window);
            prop_assert_eq!(period.window(window.end - 1), window);
            prop_assert_eq!(period.window(window.end).start, window.end);
            let length = window.end - window.start;
            prop_assert!(length >= period.nominal_secs() - 2 * 86_400 * u64::from(period == Period::Month));
            prop_assert!(length <= period.nominal_secs() + 86_400);
        }
    }

    /// Against the plainest possible model: a list of the moments that passed.
    #[test]
    fn no_window_ever_takes_more_than_its_limit(steps in prop::collection::vec(0u64..40, 1..200), second in 1u32..4, minute in 3u32..12) {
        let limits = [Limited { period: Period::Second, limit: second.into() }, Limited { period: Period::Minute, limit: minute.into() }];
        let (mut counts, mut passed, mut now) = (Counts::default(), Vec::<u64>::new(), ARRIVAL);
        for step in steps {
            // Mostly the same second, sometimes a few later.
            now += step.saturating_sub(30);
            let windows = limits.map(|limited| limited.period.window(now));
            let hit = counts.hit(&limits, &windows);
            let so_far = windows.map(|window| passed.iter().filter(|moment| **moment >= window.start).count() as u64);
            prop_assert_eq!(&hit.used[..2], &so_far[..]);
            let full = so_far[0] >= second.into() || so_far[1] >= minute.into();
            prop_assert_eq!(hit.stopped.is_some(), full);
            if !full {
                passed.push(now);
            }
        }
    }
}

const HOUR: [Limited; 1] = [Limited { period: Period::Hour, limit: 1000.0 }];

#[test]
fn limits_are_exact_across_threads() {
    let counters = Counters::default();
    let windows = [Period::Hour.window(ARRIVAL)];
    let passed: usize = std::thread::scope(|threads| {
        let count = || {
            let scoped = counters.scoped(Scope::default());
            let hit = || counters.hit(&scoped, Who::Text(b"all"), &HOUR, &windows, ARRIVAL);
            (0..600).filter(|_| hit().stopped.is_none()).count()
        };
        let threads: Vec<_> = (0..4).map(|_| threads.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 1000);
}

#[test]
fn counts_go_when_their_windows_have_ended() {
    let counters = Counters::default();
    let scoped = counters.scoped(Scope::default());
    let hit = |id: u128, now: u64| {
        let windows = [Period::Minute.window(now)];
        counters.hit(&scoped, Who::Id(Uuid::from_u128(id)), &[Limited { period: Period::Minute, limit: 1.0 }], &windows, now);
    };
    (0..10_000).for_each(|id| hit(id, ARRIVAL));
    assert_eq!(counters.len(), 10_000);
    // Each shard is swept when it is next used: 10,000 newcomers meet every one of them.
    (0..10_000).for_each(|id| hit(1_000_000 + id, ARRIVAL + 120));
    assert_eq!(counters.len(), 10_000);
}

#[test]
fn memory_is_bounded_and_what_ends_soonest_goes_first() {
    let counters = Counters::with_room_for(16);
    let scoped = counters.scoped(Scope::default());
    let address = |number: u32| Who::Address(IpAddr::V4(number.into()));
    let hit = |who, period: Period| {
        let windows = [period.window(ARRIVAL)];
        counters.hit(&scoped, who, &[Limited { period, limit: 1.0 }], &windows, ARRIVAL).used[0]
    };
    hit(Who::Text(b"kept"), Period::Year);
    (0..20_000).for_each(|number| assert_eq!(hit(address(number), Period::Second), 0));
    assert!(counters.len() <= 256 * 16);
    assert!(counters.len() >= 256 * 14);
    assert_eq!(hit(Who::Text(b"kept"), Period::Year), 1);
}
