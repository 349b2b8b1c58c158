//! Limits that nodes keep together in Redis.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portcullis_tests::{Answer, Gateway, Redis, Upstream, eventually, full};
use serde_json::{Value, json};

/// A plugin for everything the gateway leads on.
fn limit(gateway: &Gateway, name: &str, config: Value) -> Value {
    gateway.admin().post("/services/up/plugins", json!({"name": name, "config": config}))
}

/// What is left of the limit `video`, as a response tells it.
fn left(answer: &Answer) -> Option<&str> {
    answer.header("x-ratelimit-remaining-video-year")
}

fn with(redis: Value, more: Value) -> Value {
    let mut config = json!({"policy": "redis", "fault_tolerant": false, "redis": redis});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn at(port: u16) -> Value {
    json!({"host": "127.0.0.1", "port": port, "timeout": 2000})
}

/// Nodes of their own that share nothing but Redis: one instance has one id everywhere, and so has the service.
fn fleet(count: usize, upstream: &Upstream, config: &Value) -> Vec<Gateway> {
    let file = json!({
        "_format_version": "3.0",
        "services": [{
            "name": "up", "id": "1c2ab5a5-7e3f-4a75-9a1e-0f5b0c7c9a01", "url": upstream.url(),
            "routes": [{"name": "all", "paths": ["/"], "strip_path": false}],
            "plugins": [{"name": "rate-limiting", "config": config}],
        }],
    });
    let nodes = (0..count).map(|_| {
        let node = Gateway::build().set("database", "off").start();
        let loaded = node.admin().send("POST", "/config", Some(&file.to_string()));
        assert_eq!(loaded.status, 201, "{}", loaded.body);
        eventually("the configuration is served", || node.get("/status/204").status != 404);
        node
    });
    nodes.collect()
}

fn minute() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 60
}

/// Sends requests to all nodes at once, two connections each. Answers how many were let through, and in how many minutes.
fn storm(nodes: &[Gateway], requests: usize) -> (usize, usize) {
    let (sent, passed, began) = (AtomicUsize::new(0), AtomicUsize::new(0), minute());
    std::thread::scope(|scope| {
        for node in nodes.iter().chain(nodes) {
            let (sent, passed) = (&sent, &passed);
            scope.spawn(move || {
                let mut client = node.client();
                while sent.fetch_add(1, Ordering::Relaxed) < requests {
                    match client.get("/status/200").status {
                        200 => _ = passed.fetch_add(1, Ordering::Relaxed),
                        refused => assert_eq!(refused, 429),
                    }
                }
            });
        }
    });
    (passed.into_inner(), (minute() - began) as usize + 1)
}

#[test]
fn a_fleet_on_one_redis_admits_what_the_limit_says_and_no_more() {
    const LIMIT: usize = 1000;
    let (count, requests) = if full() { (8, 20_000) } else { (4, 4000) };
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let nodes = fleet(count, &upstream, &with(at(redis.port()), json!({"minute": LIMIT})));
    let (passed, minutes) = storm(&nodes, requests);
    // One of each node's was spent when it was waited for.
    let spent = nodes.len();
    assert!((LIMIT - spent..=LIMIT * minutes).contains(&passed), "{passed} of {requests} in {minutes} minutes");
    let refused = nodes[0].get("/status/200");
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining-minute")), (429, Some("0")));

    // In batches, too: beyond the limit goes at most what comes in between two exchanges.
    redis.ask(&["FLUSHALL"]);
    let nodes = fleet(count, &upstream, &with(at(redis.port()), json!({"minute": LIMIT, "sync_rate": 0.02})));
    let begun = Instant::now();
    let (passed, minutes) = storm(&nodes, requests);
    let rate = requests as f64 / begun.elapsed().as_secs_f64();
    // What comes in while one exchange tells and the next one hears, on a machine that may be late by one more.
    let slack = (rate * 0.02 * 3.0) as usize;
    let allowed = LIMIT - spent..=(LIMIT + slack) * minutes;
    assert!(allowed.contains(&passed), "{passed} of {requests} in {minutes} minutes, allowed {allowed:?}");
}

#[test]
fn counters_in_redis_go_away_by_themselves() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gateway = Gateway::before(&upstream);
    limit(&gateway, "rate-limiting", with(at(redis.port()), json!({"second": 50, "minute": 60, "limit_by": "ip"})));
    assert_eq!(gateway.get("/echo").status, 200);
    let keys = redis.ask(&["KEYS", "*:minute"]);
    assert_eq!(keys.len(), 1, "{keys:?}");
    let key = &keys[0];
    assert!(key.starts_with("ratelimit:{00000000-0000-0000-0000-000000000000:") && key.contains(":127.0.0.1}:"), "{key}");
    let left: i64 = redis.ask(&["TTL", key])[0].parse().unwrap();
    assert!((1..=60).contains(&left), "{left}");
    eventually("the second's counter is gone", || redis.ask(&["KEYS", "*:second"]).is_empty());
    assert_eq!(redis.ask(&["GET", key]), ["1"]);
}

fn headers(answer: &Answer) -> Option<&str> {
    answer.header("x-ratelimit-limit-year")
}

#[test]
fn redis_behind_tls_a_password_or_a_number_is_reached() {
    let made = rcgen::generate_simple_self_signed(["redis.test".to_owned()]).unwrap();
    let upstream = Upstream::start();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = Redis::with_tls(&pem, &key);
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), &pem).unwrap();
    let gateway = Gateway::build().set("lua_ssl_trusted_certificate", trusted.path().to_str().unwrap()).start();
    gateway.lead_to(&upstream);
    let named = |more: Value| {
        let mut redis = json!({"host": "127.0.0.1", "port": tls.tls_port(), "ssl": true, "ssl_verify": true});
        redis.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with(redis, json!({"year": 5}))
    };
    let id = limit(&gateway, "rate-limiting", named(json!({"server_name": "redis.test"})))["id"].as_str().unwrap().to_owned();
    let path = format!("/plugins/{id}");
    let counted = || headers(&gateway.get("/echo")).map(str::to_owned);
    assert_eq!(counted().as_deref(), Some("5"));
    // Another name than the certificate's is refused, unless nobody looks.
    gateway.admin().patch(&path, json!({"config": named(json!({"server_name": "other.test"}))}));
    assert_eq!(gateway.get("/echo").status, 500);
    gateway.admin().patch(&path, json!({"config": named(json!({"server_name": "other.test", "ssl_verify": false}))}));
    assert_eq!(counted().as_deref(), Some("5"));

    let guarded = Redis::for_user("gate", "sesame");
    let whose = |username: Value, password: &str, database: u8| {
        let redis = json!({"host": "127.0.0.1", "port": guarded.port(), "ssl": false, "username": username, "password": password, "database": database});
        json!({"config": with(redis, json!({"year": 5}))})
    };
    gateway.admin().patch(&path, whose(json!("gate"), "wrong", 0));
    assert_eq!(gateway.get("/echo").status, 500);
    gateway.admin().patch(&path, whose(json!("gate"), "sesame", 3));
    assert_eq!(counted().as_deref(), Some("5"));
    let keys = guarded.ask(&["--user", "gate", "--pass", "sesame", "--no-auth-warning", "-n", "3", "DBSIZE"]);
    assert_eq!(keys, ["1"]);
}

#[test]
fn responses_are_counted_in_redis() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gateway = Gateway::before(&upstream);
    limit(&gateway, "response-ratelimiting", with(at(redis.port()), json!({"limits": {"video": {"year": 3, "day": 3}}})));
    let counted = |wanted: &str| eventually("the count has arrived", || left(&gateway.get("/echo")) == Some(wanted));
    counted("3");
    assert_eq!(gateway.get("/header/x-kong-limit/video=2").status, 200);
    counted("1");
    assert_eq!(gateway.get("/header/x-kong-limit/video=1").status, 200);
    counted("0");
    let refused = gateway.get("/header/x-kong-limit/video=1");
    assert_eq!((refused.status, refused.text().as_str()), (429, ""));
    assert_eq!(redis.ask(&["KEYS", "response-ratelimit:*"]).len(), 2);
    redis.kill();
    assert_eq!(gateway.get("/echo").status, 500);
}

/// Requests from several connections while Redis is killed and comes back; the statuses and the longest wait.
fn through_a_crash(gateway: &Gateway, redis: &Redis) -> (Vec<u16>, Duration) {
    let (ended, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut seen, mut longest) = (gateway.client(), Vec::new(), Duration::ZERO);
                    while !ended.load(Ordering::Relaxed) {
                        let asked = Instant::now();
                        seen.push(client.get("/status/200").status);
                        longest = longest.max(asked.elapsed());
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    (seen, longest)
                })
            })
            .collect();
        let go_on = |more: usize| {
            let target = answered.load(Ordering::Relaxed) + more;
            eventually("requests are answered", || answered.load(Ordering::Relaxed) >= target);
        };
        go_on(100);
        redis.kill();
        go_on(400);
        redis.serve();
        eventually("it counts again", || gateway.get("/status/200").header("x-ratelimit-limit-year").is_some());
        ended.store(true, Ordering::Relaxed);
        let all: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let longest = all.iter().map(|(_, longest)| *longest).max().unwrap();
        (all.into_iter().flat_map(|(seen, _)| seen).collect(), longest)
    })
}

#[test]
fn when_redis_dies_under_load_requests_pass_or_fail_at_once_as_fault_tolerant_says() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    for tolerant in [true, false] {
        let gateway = Gateway::before(&upstream);
        limit(&gateway, "rate-limiting", with(at(redis.port()), json!({"year": 1_000_000, "fault_tolerant": tolerant})));
        let (statuses, longest) = through_a_crash(&gateway, &redis);
        let failed = statuses.iter().filter(|status| **status == 500).count();
        assert!(statuses.iter().all(|status| [200, 500].contains(status)), "{statuses:?}");
        assert_eq!(failed > 0, !tolerant, "{failed} of {}", statuses.len());
        // Well below the two seconds that Redis is given.
        assert!(longest < Duration::from_secs(1), "{longest:?}");
    }
}
