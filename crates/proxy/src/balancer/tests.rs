#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};

use portcullis_wire::Headers;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::*;
use crate::dns::Settings;
use crate::router::{Capture, Captures};

const ID: u128 = 1;

fn registry() -> Arc<Registry> {
    let settings = Settings { resolvers: vec!["127.0.0.1:9".parse().unwrap()], ..Settings::default() };
    Registry::start(Dns::new(settings, Handle::current()).unwrap(), Handle::current(), 7, None)
}

/// An upstream as the schema fills it, with `change` laid over.
fn upstream(change: Value) -> Arc<Upstream> {
    let mut record = json!({
        "id": Uuid::from_u128(ID), "name": "up.test", "algorithm": "round-robin", "hash_on": "none", "hash_fallback": "none",
        "hash_on_cookie_path": "/", "slots": 10000,
        "healthchecks": {
            "threshold": 0,
            "active": {
                "type": "http", "timeout": 1, "concurrency": 10, "http_path": "/status", "https_verify_certificate": true,
                "healthy": { "interval": 0, "http_statuses": [200, 302], "successes": 0 },
                "unhealthy": { "interval": 0, "http_statuses": [429, 500], "tcp_failures": 0, "timeouts": 0, "http_failures": 0 }
            },
            "passive": {
                "type": "http",
                "healthy": { "http_statuses": [200, 201], "successes": 0 },
                "unhealthy": { "http_statuses": [429, 500, 503], "tcp_failures": 0, "timeouts": 0, "http_failures": 0 }
            }
        }
    });
    lay_over(&mut record, change);
    Arc::new(serde_json::from_value(record).unwrap())
}

fn lay_over(record: &mut Value, change: Value) {
    match (record, change) {
        (Value::Object(record), Value::Object(change)) => {
            for (name, value) in change {
                lay_over(record.entry(name).or_insert(Value::Null), value);
            }
        }
        (record, change) => *record = change,
    }
}

fn targets(list: &[(&str, u32)]) -> Vec<Arc<Target>> {
    let target = |(number, (target, weight)): (usize, &(&str, u32))| {
        let record = json!({
            "id": Uuid::from_u128(100 + number as u128), "created_at": number, "upstream": { "id": Uuid::from_u128(ID) },
            "target": target, "weight": weight,
        });
        Arc::new(serde_json::from_value(record).unwrap())
    };
    list.iter().enumerate().map(target).collect()
}

/// The upstream's balancer, with the registry that must live as long.
fn balancer(change: Value, list: &[(&str, u32)]) -> (Upstreams, Arc<Balancer>) {
    let mut upstreams = Upstreams::new(registry());
    upstreams.insert(upstream(change), targets(list));
    let balancer = upstreams.get("up.test").unwrap().clone();
    (upstreams, balancer)
}

fn pick(balancer: &Balancer) -> Result<String, BalancerError> {
    balancer.pick(&[], &HashKey::default(), Instant::now()).map(|picked| picked.peer.address().to_string())
}

fn shares(balancer: &Balancer, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(pick(balancer).unwrap()).or_default() += 1;
    }
    shares
}

fn input(headers: &Headers) -> HashInput<'_> {
    HashInput { consumer: None, client_address: "10.1.1.1", headers, path: b"/", query: None, captures: None }
}

const PASSIVE: fn() -> Value =
    || json!({ "healthchecks": { "passive": { "unhealthy": { "tcp_failures": 2, "http_failures": 2, "timeouts": 1 } } } });

#[tokio::test]
async fn round_robin_follows_the_weights_exactly() {
    let (_upstreams, balancer) = balancer(json!({}), &[("10.0.0.1:80", 50), ("10.0.0.2:80", 100), ("10.0.0.3:80", 0)]);
    assert_eq!(shares(&balancer, 300), BTreeMap::from([("10.0.0.1:80".into(), 100), ("10.0.0.2:80".into(), 200)]));
}

#[tokio::test]
async fn a_retry_goes_to_another_peer_as_long_as_there_is_one() {
    let (_upstreams, balancer) = balancer(json!({}), &[("10.0.0.1:80", 1), ("10.0.0.2:80", 100)]);
    for _ in 0..20 {
        let first = balancer.pick(&[], &HashKey::default(), Instant::now()).unwrap();
        let second = balancer.pick(&[first.peer.id], &HashKey::default(), Instant::now()).unwrap();
        assert_ne!(first.peer.id, second.peer.id);
        assert!(balancer.pick(&[first.peer.id, second.peer.id], &HashKey::default(), Instant::now()).is_ok());
    }
}

#[tokio::test]
async fn without_usable_weight_there_is_no_peer() {
    for list in [&[][..], &[("10.0.0.1:80", 0)], &[("no-such-target.invalid:80", 10)]] {
        let (_upstreams, balancer) = balancer(json!({}), list);
        assert_eq!(pick(&balancer), Err(BalancerError::NoPeer));
    }
}

#[tokio::test]
async fn names_of_the_hosts_file_are_known_at_once_and_the_host_header_is_the_target_s() {
    let (mut upstreams, balancer) = balancer(json!({}), &[("localhost:81", 10)]);
    let picked = balancer.pick(&[], &HashKey::default(), Instant::now()).unwrap();
    assert_eq!((picked.peer.address().to_string(), &*picked.host), ("127.0.0.1:81".into(), "localhost"));
    upstreams.insert(upstream(json!({ "host_header": "virtual.test" })), targets(&[("localhost:81", 10)]));
    assert_eq!(&*balancer.pick(&[], &HashKey::default(), Instant::now()).unwrap().host, "virtual.test");
}

#[tokio::test]
async fn passive_failures_take_a_peer_out_and_edits_do_not_bring_it_back() {
    let (mut upstreams, balancer) = balancer(PASSIVE(), &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)]);
    let bad = balancer.pick(&[], &HashKey::default(), Instant::now()).unwrap();
    for outcome in [Outcome::Status(500), Outcome::Status(404), Outcome::Status(503)] {
        assert_eq!(shares(&balancer, 10).len(), 2, "{outcome:?}");
        balancer.report(&bad.peer, outcome);
    }
    let gone = bad.peer.address().to_string();
    assert!(!shares(&balancer, 10).contains_key(&gone));
    upstreams.insert(upstream(PASSIVE()), targets(&[("10.0.0.1:80", 5), ("10.0.0.2:80", 5), ("10.0.0.3:80", 5)]));
    assert!(!shares(&balancer, 30).contains_key(&gone));
    balancer.set_health(&gone, None, true).unwrap();
    assert_eq!(shares(&balancer, 30).len(), 3);
}

#[tokio::test]
async fn one_timeout_may_be_enough_and_a_504_counts_as_one() {
    let (_upstreams, balancer) = balancer(PASSIVE(), &[("10.0.0.1:80", 1)]);
    let picked = balancer.pick(&[], &HashKey::default(), Instant::now()).unwrap();
    balancer.report(&picked.peer, Outcome::Status(504));
    assert_eq!(pick(&balancer), Err(BalancerError::NoPeer));
}

#[tokio::test]
async fn successes_forget_failures_only_when_they_count() {
    let counted = json!({ "healthchecks": { "passive": { "healthy": { "successes": 1 }, "unhealthy": { "http_failures": 2 } } } });
    let (_upstreams, counting) = balancer(counted, &[("10.0.0.1:80", 1)]);
    let (_others, other) = balancer(PASSIVE(), &[("10.0.0.1:80", 1)]);
    for (balancer, stays) in [(counting, true), (other, false)] {
        let picked = balancer.pick(&[], &HashKey::default(), Instant::now()).unwrap();
        for status in [500, 200, 500] {
            balancer.report(&picked.peer, Outcome::Status(status));
        }
        assert_eq!(pick(&balancer).is_ok(), stays);
    }
}

#[tokio::test]
async fn health_cannot_be_set_while_checks_are_off() {
    let (_upstreams, balancer) = balancer(json!({}), &[("10.0.0.1:80", 1)]);
    let error = balancer.set_health("10.0.0.1:80", None, false).unwrap_err();
    assert_eq!(error.to_string(), "no healthchecker found for up.test");
    let picked = balancer.pick(&[], &HashKey::default(), Instant::now()).unwrap();
    balancer.report(&picked.peer, Outcome::ConnectFailed);
    assert!(pick(&balancer).is_ok());
}

#[tokio::test]
async fn an_upstream_below_its_threshold_takes_no_requests() {
    let mut change = PASSIVE();
    lay_over(&mut change, json!({ "healthchecks": { "threshold": 50 } }));
    let (_upstreams, balancer) = balancer(change, &[("10.0.0.1:80", 100), ("10.0.0.2:80", 100)]);
    balancer.set_health("10.0.0.2:80", None, false).unwrap();
    assert_eq!(pick(&balancer), Err(BalancerError::NoPeer));
    balancer.set_health("10.0.0.2:80", Some("10.0.0.2:80".parse().unwrap()), true).unwrap();
    assert!(pick(&balancer).is_ok());
}

#[tokio::test]
async fn the_report_tells_every_target_and_address() {
    let list = [("10.0.0.1:80", 100), ("localhost:81", 50), ("10.0.0.9:82", 0), ("no-such-target.invalid:83", 10)];
    let (_upstreams, balancer) = balancer(PASSIVE(), &list);
    balancer.set_health("localhost:81", None, false).unwrap();
    let health = balancer.health();
    let words: Vec<_> = health.targets.iter().map(TargetHealth::health).collect();
    assert_eq!(words, ["HEALTHY", "UNHEALTHY", "HEALTHCHECKS_OFF", "DNS_ERROR"]);
    assert_eq!(
        health.targets[1].data(),
        json!({
            "addresses": [{ "health": "UNHEALTHY", "ip": "127.0.0.1", "port": 81, "weight": 50 }], "dns": "A", "host": "localhost",
            "nodeWeight": 50, "port": 81, "weight": { "available": 0, "total": 50, "unavailable": 50 },
        })
    );
    assert_eq!(
        health.targets[3].data(),
        json!({
            "addresses": {}, "host": "no-such-target.invalid", "nodeWeight": 10, "port": 83,
            "weight": { "available": 0, "total": 0, "unavailable": 0 },
        })
    );
    let whole = health.data();
    assert_eq!((&whole["health"], &whole["balancer_health"]), (&json!("HEALTHY"), &json!("HEALTHY")));
    assert_eq!(whole["details"]["weight"], json!({ "available": 100, "total": 150, "unavailable": 50 }));
    assert_eq!(whole["details"]["hosts"][0]["addresses"][0], json!({ "healthy": true, "ip": "10.0.0.1", "port": 80, "weight": 100 }));
}

#[tokio::test]
async fn a_key_keeps_its_peer_and_only_a_lost_peer_s_keys_move() {
    let change = || json!({ "hash_on": "header", "hash_on_header": "X-Key", "healthchecks": PASSIVE()["healthchecks"] });
    let (mut upstreams, balancer) = balancer(change(), &[("10.0.0.1:80", 10), ("10.0.0.2:80", 10), ("10.0.0.3:80", 10)]);
    let keys: Vec<HashKey> = (0..300)
        .map(|number| {
            let mut headers = Headers::default();
            headers.append("x-key", format!("key-{number}").as_bytes());
            balancer.key(&input(&headers), || unreachable!())
        })
        .collect();
    let peers = |balancer: &Balancer| -> Vec<String> {
        let address = |key: &HashKey| balancer.pick(&[], key, Instant::now()).unwrap().peer.address().to_string();
        keys.iter().map(address).collect()
    };
    let before = peers(&balancer);
    assert_eq!(before.iter().collect::<HashSet<_>>().len(), 3);
    upstreams.insert(upstream(change()), targets(&[("10.0.0.3:80", 10), ("10.0.0.1:80", 10), ("10.0.0.2:80", 10)]));
    assert_eq!(peers(&balancer), before);
    balancer.set_health("10.0.0.2:80", None, false).unwrap();
    for (before, after) in before.iter().zip(peers(&balancer)) {
        assert!(*before == after || before == "10.0.0.2:80");
        assert_ne!(after, "10.0.0.2:80");
    }
}

#[test]
fn a_cookie_is_given_to_those_without_one() {
    let entity = upstream(json!({ "hash_on": "cookie", "hash_on_cookie": "sticky" }));
    let fresh = || Uuid::from_u128(5);
    let mut headers = Headers::default();
    headers.append("Cookie", b"other=1; xsticky=2");
    let given = HashKey::of(&entity, &input(&headers), fresh);
    let expected = "sticky=00000000-0000-0000-0000-000000000005; Path=/; Same-Site=Lax; HttpOnly";
    assert_eq!(given.set_cookie.as_deref(), Some(expected));
    headers.append("cookie", b"a=1; sticky=00000000-0000-0000-0000-000000000005");
    let sent = HashKey::of(&entity, &input(&headers), fresh);
    assert_eq!((sent.hash, sent.set_cookie), (given.hash, None));
    let mut empty = Headers::default();
    empty.append("cookie", b"sticky=");
    assert_eq!(HashKey::of(&entity, &input(&empty), fresh).set_cookie, None);
}

#[test]
fn query_arguments_hash_decoded_and_in_any_order_and_fall_back_when_missing() {
    let entity = upstream(json!({
        "hash_on": "query_arg", "hash_on_query_arg": "who", "hash_fallback": "uri_capture", "hash_fallback_uri_capture": "id",
    }));
    let headers = Headers::default();
    let group = Capture { name: Some("id".into()), value: Some("ann".into()) };
    let captures = Captures { groups: vec![Capture::default(), group] };
    let hash =
        |query: Option<&[u8]>, captures| HashKey::of(&entity, &HashInput { query, captures, ..input(&headers) }, || unreachable!()).hash;
    assert_eq!(hash(Some(b"x=1&who=%61nn"), None), hash(Some(b"who=ann&y"), None));
    assert_eq!(hash(Some(b"who=ann&who=bob"), None), hash(Some(b"who=bob&x=1&who=ann"), None));
    assert_eq!(hash(None, Some(&captures)), hash(Some(b"who=ann"), None));
    assert_eq!(hash(Some(b"other=1"), None), hash(None, None));
    assert_ne!(hash(Some(b"who=bob"), None), hash(None, None));
}

#[tokio::test]
async fn least_connections_weighs_open_connections() {
    let (_upstreams, balancer) = balancer(json!({ "algorithm": "least-connections" }), &[("10.0.0.1:80", 10), ("10.0.0.2:80", 30)]);
    let open: Vec<_> = (0..40).map(|_| balancer.pick(&[], &HashKey::default(), Instant::now()).unwrap()).collect();
    let heavy = open.iter().filter(|picked| picked.peer.address().to_string() == "10.0.0.2:80").count();
    assert_eq!(heavy, 30);
    drop(open);
    assert!(balancer.live.load().ring.places.iter().all(|place| place.peer.connections() == 0));
}

#[tokio::test]
async fn latency_prefers_the_quicker_peer() {
    let (_upstreams, balancer) = balancer(json!({ "algorithm": "latency" }), &[("10.0.0.1:80", 10), ("10.0.0.2:80", 10)]);
    let now = Instant::now();
    for place in &balancer.live.load().ring.places {
        let slow = place.peer.address().to_string() == "10.0.0.1:80";
        balancer.observe(&place.peer, Duration::from_millis(if slow { 300 } else { 20 }), now);
    }
    assert_eq!(shares(&balancer, 20), BTreeMap::from([("10.0.0.2:80".into(), 20)]));
}

#[tokio::test]
async fn an_upstream_is_found_by_its_present_name_only() {
    let (mut upstreams, balancer) = balancer(json!({}), &[("10.0.0.1:80", 1)]);
    let before = upstreams.clone();
    upstreams.insert(upstream(json!({ "name": "new.test" })), targets(&[("10.0.0.1:80", 1)]));
    assert!(upstreams.get("up.test").is_none() && before.get("up.test").is_some());
    assert!(Arc::ptr_eq(upstreams.get("new.test").unwrap(), &balancer));
    upstreams.remove(Uuid::from_u128(ID));
    assert!(upstreams.is_empty() && upstreams.get("new.test").is_none());
}

#[tokio::test]
async fn probes_take_a_refusing_peer_out_and_a_recovered_one_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let change = json!({ "healthchecks": { "active": {
        "healthy": { "interval": 0.1, "successes": 1 },
        "unhealthy": { "interval": 0.1, "tcp_failures": 1, "http_failures": 1 },
    }}});
    let (_upstreams, balancer) = balancer(change, &[(&address.to_string(), 10)]);
    let statuses = ["500 Bad", "200 OK"];
    for (status, expected) in statuses.iter().zip(["UNHEALTHY", "HEALTHY"]) {
        while balancer.health().targets[0].health() != expected {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert_eq!(&request[..length], b"GET /status HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
            stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
            drop(stream);
            tokio::task::yield_now().await;
        }
    }
    drop(listener);
    while balancer.health().targets[0].health() == "HEALTHY" {
        tokio::task::yield_now().await;
    }
    assert_eq!(pick(&balancer), Err(BalancerError::NoPeer));
}

#[tokio::test]
async fn a_target_made_again_has_the_health_it_had_for_a_while() {
    let both = &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)];
    let (mut upstreams, balancer) = balancer(PASSIVE(), both);
    balancer.set_health("10.0.0.2:80", None, false).unwrap();
    upstreams.insert(upstream(PASSIVE()), targets(&both[..1]));
    assert_eq!(balancer.health().targets.len(), 1);
    upstreams.insert(upstream(PASSIVE()), targets(both));
    assert_eq!(balancer.health().targets[1].health(), "UNHEALTHY");
    let now = Instant::now();
    balancer.rebuild_at(Arc::new(Config::of(upstream(PASSIVE()), targets(&both[..1]))), now);
    balancer.rebuild_at(Arc::new(Config::of(upstream(PASSIVE()), targets(both))), now + REMEMBERED);
    assert_eq!(balancer.health().targets[1].health(), "HEALTHY");
}

#[tokio::test]
async fn a_failure_forgets_successes_of_an_unhealthy_peer() {
    let change = json!({ "healthchecks": { "passive": {
        "healthy": { "successes": 2 },
        "unhealthy": { "tcp_failures": 1 },
    }}});
    let (_upstreams, balancer) = balancer(change, &[("10.0.0.1:80", 1)]);
    let peer = balancer.live.load().ring.places[0].peer.clone();
    for outcome in [Outcome::ConnectFailed, Outcome::Status(200), Outcome::ConnectFailed, Outcome::Status(200)] {
        balancer.report(&peer, outcome);
        assert!(!peer.is_healthy(), "after {outcome:?}");
    }
    balancer.report(&peer, Outcome::Status(200));
    assert!(peer.is_healthy());
}

#[test]
fn cookies_go_by_their_name_in_any_case_and_header_lines_are_one_value() {
    let entity = upstream(json!({
        "hash_on": "header", "hash_on_header": "who", "hash_fallback": "cookie", "hash_on_cookie": "sticky",
    }));
    let hash = |lines: &[(&str, &str)]| {
        let mut headers = Headers::default();
        for (name, value) in lines {
            headers.append(name, value.as_bytes());
        }
        HashKey::of(&entity, &input(&headers), || unreachable!()).hash
    };
    assert_eq!(hash(&[("Cookie", "a=1; STICKY=x")]), hash(&[("Cookie", "sticky= x")]));
    assert_eq!(hash(&[("Who", "b"), ("who", "a")]), hash(&[("who", "b, a")]));
    assert_ne!(hash(&[("who", "a"), ("who", "b")]), hash(&[("who", "b"), ("who", "a")]));
}
