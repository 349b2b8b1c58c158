//! Each plugin does the plain thing it is there for, in the real program.

use portcullis_tests::{Client, Gateway, Upstream};
use serde_json::{Value, json};

fn with(upstream: &Upstream, plugin: &str, config: Value) -> Gateway {
    let gateway = Gateway::before(upstream);
    gateway.admin().post("/services/up/plugins", json!({"name": plugin, "config": config}));
    gateway
}

#[test]
fn request_termination_answers_itself() {
    let upstream = Upstream::start();
    let gateway = with(&upstream, "request-termination", json!({"status_code": 503, "message": "back soon"}));
    let answer = gateway.get("/bytes/1");
    assert_eq!((answer.status, &answer.json()["message"]), (503, &json!("back soon")));
    assert!(upstream.seen().is_empty());
}

#[test]
fn cors_answers_preflights() {
    let upstream = Upstream::start();
    let gateway = with(&upstream, "cors", json!({"origins": ["http://a.test"], "methods": ["GET"], "max_age": 60, "credentials": true}));
    let ask = "OPTIONS /echo HTTP/1.1\r\nHost: gate.test\r\nOrigin: http://a.test\r\nAccess-Control-Request-Method: GET\r\n\r\n";
    let preflight = gateway.ask(ask);
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (200, Some("http://a.test")));
    assert_eq!(preflight.header("access-control-max-age"), Some("60"));
    assert!(upstream.seen().is_empty());
    let answer = gateway.ask("GET /echo HTTP/1.1\r\nHost: gate.test\r\nOrigin: http://a.test\r\n\r\n");
    assert_eq!((answer.status, answer.header("access-control-allow-credentials")), (200, Some("true")));
}

#[test]
fn correlation_id_is_given_to_both_sides() {
    let upstream = Upstream::start();
    let config = json!({"header_name": "X-Request", "generator": "uuid", "echo_downstream": true});
    let gateway = with(&upstream, "correlation-id", config);
    let answer = gateway.get("/echo");
    let id = answer.header("x-request").unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(answer.json()["headers"]["x-request"], id);
    let kept = gateway.ask("GET /echo HTTP/1.1\r\nHost: gate.test\r\nX-Request: mine\r\n\r\n");
    assert_eq!((kept.header("x-request"), &kept.json()["headers"]["x-request"]), (Some("mine"), &json!("mine")));
}

#[test]
fn ip_restriction_keeps_addresses_out() {
    let upstream = Upstream::start();
    let gateway = with(&upstream, "ip-restriction", json!({"deny": ["127.0.0.0/8"]}));
    assert_eq!(gateway.get("/bytes/1").status, 403);
    assert!(upstream.seen().is_empty());
}

#[test]
fn acl_lets_groups_in() {
    let upstream = Upstream::start();
    let gateway = with(&upstream, "key-auth", json!({}));
    let admin = gateway.admin();
    admin.post("/services/up/plugins", json!({"name": "acl", "config": {"allow": ["staff"]}}));
    admin.post("/consumers", json!({"username": "ann"}));
    admin.post("/consumers/ann/key-auth", json!({"key": "one"}));
    let ask = || gateway.ask("GET /echo HTTP/1.1\r\nHost: gate.test\r\napikey: one\r\n\r\n");
    assert_eq!(ask().status, 403);
    admin.post("/consumers/ann/acls", json!({"group": "staff"}));
    let answer = ask();
    assert_eq!((answer.status, &answer.json()["headers"]["x-consumer-groups"]), (200, &json!("staff")));
}

#[test]
fn answers_without_a_body_have_a_page_and_text_names_its_charset() {
    let upstream = Upstream::start();
    let gateway = with(&upstream, "request-termination", json!({"status_code": 409}));
    let answer = gateway.get("/bytes/1");
    assert_eq!((answer.status, answer.header("content-type")), (409, Some("text/html; charset=UTF-8")));
    assert!(answer.text().contains("<h1>409 Conflict</h1>"), "{}", answer.text());
    let gateway = with(&upstream, "request-termination", json!({"status_code": 200, "content_type": "text/xml", "body": "<tide/>"}));
    assert_eq!(gateway.get("/bytes/1").header("content-type"), Some("text/xml; charset=UTF-8"));
}

#[test]
fn rate_limiting_counts_down_and_refuses() {
    let upstream = Upstream::start();
    let gateway = with(&upstream, "rate-limiting", json!({"hour": 3, "policy": "local"}));
    let mut client = gateway.client();
    // The hour may turn meanwhile, so a few more are tried.
    let statuses: Vec<_> = (0..8).map(|_| client.get("/bytes/1").status).collect();
    assert_eq!(statuses[0], 200);
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn prometheus_counts_requests() {
    let upstream = Upstream::start();
    let gateway = with(&upstream, "prometheus", json!({"status_code_metrics": true}));
    for _ in 0..3 {
        gateway.get("/bytes/1");
    }
    let line = r#"kong_http_requests_total{service="up",route="all",code="200",source="service""#;
    portcullis_tests::eventually("the metrics name the requests", || {
        let metrics = Client::connect(gateway.status()).get("/metrics");
        assert_eq!(metrics.status, 200);
        metrics.text().lines().any(|at| at.starts_with(line) && at.ends_with(" 3"))
    });
}

#[test]
fn every_bundled_plugin_has_a_handler_so_that_a_strict_node_starts() {
    let gateway = Gateway::build().set("plugins_strict", "on").start();
    assert_ne!(gateway.admin().get("/")["plugins"]["available_on_server"]["aws-lambda"], Value::Null);
}
