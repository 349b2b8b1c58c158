//! The main job: who calls, and how often.

use portcullis_tests::{Connection, Gateway, Response, Upstream};
use serde_json::json;

fn call(gateway: &Gateway, headers: &str) -> Response {
    let mut connection = Connection::open(gateway.proxy);
    connection.send(format!("GET /a HTTP/1.1\r\nHost: test\r\n{headers}\r\n").as_bytes());
    connection.response()
}

fn guarded(upstream: &Upstream) -> Gateway {
    let gateway = Gateway::start();
    gateway.route("a", upstream.address);
    let admin = gateway.admin();
    admin.post("/services/a/plugins", &json!({"name": "key-auth"})).expect(201);
    for name in ["ann", "ben"] {
        admin.post("/consumers", &json!({"username": name})).expect(201);
        admin.post(&format!("/consumers/{name}/key-auth"), &json!({"key": format!("key-of-{name}")})).expect(201);
    }
    gateway
}

#[test]
fn only_known_keys_pass_and_the_upstream_learns_whose_they_are() {
    let upstream = Upstream::start();
    let gateway = guarded(&upstream);
    assert_eq!(call(&gateway, "").status, 401);
    assert_eq!(call(&gateway, "apikey: wrong\r\n").status, 401);
    let served = call(&gateway, "apikey: key-of-ann\r\n");
    assert_eq!(served.status, 200);
    assert!(served.text().contains(r#"["x-consumer-username","ann"]"#), "{}", served.text());
    assert_eq!(upstream.seen().requests.len(), 1);
}

#[test]
fn a_deleted_key_no_longer_passes() {
    let upstream = Upstream::start();
    let gateway = guarded(&upstream);
    assert_eq!(call(&gateway, "apikey: key-of-ann\r\n").status, 200);
    let keys = gateway.admin().get("/consumers/ann/key-auth").expect(200);
    let id = keys["data"][0]["id"].as_str().unwrap().to_owned();
    gateway.admin().delete(&format!("/consumers/ann/key-auth/{id}")).expect(204);
    assert_eq!(call(&gateway, "apikey: key-of-ann\r\n").status, 401);
}

#[test]
fn each_consumer_has_a_rate_of_its_own_over_all_workers() {
    let upstream = Upstream::start();
    let gateway = guarded(&upstream);
    let limit = json!({"name": "rate-limiting", "config": {"hour": 3, "policy": "local"}});
    gateway.admin().post("/services/a/plugins", &limit).expect(201);
    let statuses = |key: &str| (0..5).map(|_| call(&gateway, &format!("apikey: {key}\r\n")).status).collect::<Vec<_>>();
    assert_eq!(statuses("key-of-ann"), [200, 200, 200, 429, 429]);
    assert_eq!(statuses("key-of-ben"), [200, 200, 200, 429, 429]);
    let over = call(&gateway, "apikey: key-of-ann\r\n");
    assert_eq!(over.header("ratelimit-remaining"), Some("0"));
    assert!(over.header("retry-after").is_some());
    assert_eq!(upstream.seen().requests.len(), 6);
}
