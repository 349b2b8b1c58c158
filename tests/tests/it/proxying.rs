//! Requests on their way through, and what happens when one of the two sides fails.

use portcullis_tests::{Client, Gateway, Upstream, free_port, get};
use serde_json::json;

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    let post = "POST /echo HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 5\r\n\r\nhello".to_owned();
    let head = "HEAD /bytes/9 HTTP/1.1\r\nHost: gate.test\r\n\r\n".to_owned();
    client.send([get("/bytes/1000"), get("/status/204"), head, get("/status/304"), get("/chunked"), post, get("/bytes/7")].concat());
    let mut seen = Vec::new();
    for method in ["GET", "GET", "HEAD", "GET", "GET", "POST", "GET"] {
        let answer = client.answer_to(method);
        seen.push((answer.status, if method == "POST" { answer.json()["body"].as_str().unwrap().len() } else { answer.body.len() }));
    }
    assert_eq!(seen, [(200, 1000), (204, 0), (200, 0), (304, 0), (200, 7), (200, 5), (200, 7)]);
}

#[test]
fn connections_stay_on_both_sides() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    for _ in 0..20 {
        let answer = client.get("/bytes/10");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn the_upstream_learns_who_asked_and_for_what() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let echo = gateway.get("/echo/a%20b?c=d%2Fe").json();
    assert_eq!(echo["target"], "/echo/a%20b?c=d%2Fe");
    let headers = &echo["headers"];
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "gate.test");
    assert_eq!(headers["x-forwarded-port"], json!(gateway.proxy().port().to_string()));
    assert_eq!(headers["host"], json!(upstream.address.to_string()));
}

#[test]
fn lines_that_belong_to_a_connection_stay_with_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let lines = "Connection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nX-Public: 2\r\n";
    let echo = gateway.ask(format!("GET /echo HTTP/1.1\r\nHost: gate.test\r\n{lines}\r\n")).json();
    for gone in ["x-private", "keep-alive", "proxy-connection"] {
        assert!(echo["headers"][gone].is_null(), "{gone}: {}", echo["head"]);
    }
    assert_eq!(echo["headers"]["x-public"], "2");
}

#[test]
fn head_answers_have_a_length_and_no_body() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send("HEAD /bytes/1234 HTTP/1.1\r\nHost: gate.test\r\n\r\n");
    assert_eq!(client.answer_to("HEAD").header("content-length"), Some("1234"));
    assert_eq!(client.get("/bytes/3").body, b"xxx");
}

#[test]
fn expectations_are_met_before_the_body() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send("POST /echo HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().unwrap().0, 100);
    client.send("hello");
    assert_eq!(client.answer().json()["body"], "hello");
}

#[test]
fn chunked_bodies_and_their_trailers_pass_both_ways() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send(
        "POST /echo HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\none\r\n4\r\nfour\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let echo = client.answer().json();
    assert_eq!(echo["body"], "onefour");
    let answer = client.get("/chunked");
    assert_eq!(answer.body, b"onefour");
    assert_eq!(answer.trailers, "X-Sum: 7\r\n");
}

#[test]
fn bodies_that_end_with_the_connection_are_framed() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    for _ in 0..2 {
        let answer = client.get("/until-close");
        assert_eq!((answer.body.as_slice(), answer.header("transfer-encoding")), (&b"until-close"[..], Some("chunked")));
    }
}

#[test]
fn an_upstream_that_leaves_its_pooled_connection_costs_no_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    for _ in 0..30 {
        assert_eq!(client.get("/leave").status, 200);
    }
    assert_eq!(upstream.seen().len(), 30);
}

#[test]
fn a_target_that_refuses_is_passed_over() {
    let upstream = Upstream::start();
    let gateway = Gateway::start();
    let admin = gateway.admin();
    admin.post("/upstreams", json!({"name": "pair"}));
    admin.post("/upstreams/pair/targets", json!({"target": upstream.address.to_string()}));
    admin.post("/upstreams/pair/targets", json!({"target": format!("127.0.0.1:{}", free_port())}));
    admin.post("/services", json!({"name": "up", "url": "http://pair"}));
    admin.post("/services/up/routes", json!({"paths": ["/"], "strip_path": false}));
    for _ in 0..8 {
        assert_eq!(gateway.get("/bytes/1").status, 200);
    }
}

#[test]
fn failing_upstreams_are_told_apart() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let admin = gateway.admin();
    for path in ["/hangup", "/reset", "/garbage"] {
        assert_eq!(gateway.get(path).status, 502, "{path}");
    }
    admin.patch("/services/up", json!({"read_timeout": 50, "retries": 0}));
    let answer = gateway.get("/hold");
    assert_eq!(answer.status, 504);
    assert!(answer.text().starts_with("The upstream server is timing out\n"), "{}", answer.text());
    admin.patch("/services/up", json!({"port": free_port(), "retries": 1}));
    assert_eq!(gateway.get("/bytes/1").status, 502);
}

#[test]
fn a_body_that_breaks_off_is_not_passed_as_whole() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send(get("/half"));
    let (status, head) = client.head().unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("Content-Length: 10\r\n"), "{head}");
    assert_eq!(client.to_end(), b"abc");
}

#[test]
fn an_early_answer_ends_an_upload() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send("POST /early HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 1000000\r\n\r\nits beginning");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (413, "no!"));
    assert!(client.is_closed());
}

#[test]
fn a_client_that_leaves_ends_the_request_at_the_upstream() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send(get("/hold"));
    upstream.wait_for_requests(1);
    drop(client);
    upstream.wait_until_left_alone();
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send("GET /upgrade HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
    let (status, head) = client.head().unwrap();
    assert_eq!(status, 101);
    assert!(head.to_lowercase().contains("upgrade: websocket\r\n"), "{head}");
    for message in ["one", "another \0 one", "the last"] {
        client.send(message);
        assert_eq!(client.take(message.len()), message.as_bytes());
    }
    drop(client);
    upstream.wait_until_left_alone();
}

#[test]
fn interim_answers_come_before_the_answer() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send(get("/interim"));
    let mut answer = client.answer();
    if answer.status == 103 {
        answer = client.answer();
    }
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
}

#[test]
fn http_1_0_clients_get_plain_bodies_and_a_close() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send("GET /chunked HTTP/1.0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None));
    assert_eq!(answer.body, b"onefour");
    assert!(client.is_closed());
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("GET /bytes/5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.body.as_slice(), answer.header("connection")), (&b"xxxxx"[..], Some("keep-alive")));
    }
}

#[test]
fn unknown_paths_are_answered_by_the_gateway() {
    let gateway = Gateway::start();
    let answer = gateway.get("/nowhere");
    assert_eq!((answer.status, &answer.json()["message"]), (404, &json!("no Route matched with those values")));
    assert!(Client::connect(gateway.status()).get("/status").json()["server"].is_object());
}

/// A gateway whose only service is an upstream `pool` with these passive limits and one target that refuses connections.
fn before_a_refusing_target(retries: u16, unhealthy: serde_json::Value) -> Gateway {
    let gateway = Gateway::start();
    let admin = gateway.admin();
    admin.post("/upstreams", json!({"name": "pool", "healthchecks": {"passive": {"unhealthy": unhealthy}}}));
    admin.post("/upstreams/pool/targets", json!({"target": format!("127.0.0.1:{}", free_port())}));
    admin.post("/services", json!({"name": "up", "host": "pool", "retries": retries}));
    admin.post("/services/up/routes", json!({"name": "all", "paths": ["/"]}));
    gateway
}

#[test]
fn a_retry_without_anybody_left_is_answered_503() {
    let gateway = before_a_refusing_target(5, json!({"tcp_failures": 1}));
    let answer = gateway.ask("GET / HTTP/1.1\r\nHost: gate.test\r\nAccept: application/json\r\n\r\n");
    assert_eq!((answer.status, &answer.json()["message"]), (503, &json!("The upstream server is currently unavailable")));
}

#[test]
fn the_last_failure_counts_as_the_status_the_client_sees() {
    for (statuses, then) in [(json!([502]), 503), (json!([500]), 502)] {
        let gateway = before_a_refusing_target(0, json!({"tcp_failures": 1, "http_failures": 1, "http_statuses": statuses}));
        assert_eq!(gateway.get("/").status, 502);
        assert_eq!(gateway.get("/").status, then, "{statuses}");
    }
}
