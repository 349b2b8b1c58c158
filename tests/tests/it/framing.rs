//! HTTP/1.1 as clients and upstreams really speak it.

use portcullis_tests::{Connection, Gateway, Upstream, get, wait_until};

fn proxied() -> (Gateway, Upstream) {
    let (gateway, upstream) = (Gateway::with(&[("nginx_main_worker_processes", "1")]), Upstream::start());
    gateway.route("a", upstream.address);
    (gateway, upstream)
}

fn request(line: &str, headers: &str, body: &str) -> String {
    format!("{line}\r\nHost: test\r\n{headers}\r\n{body}")
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (gateway, _upstream) = proxied();
    let mut connection = gateway.connect();
    let all: String = [
        request("GET /a/bytes/1024 HTTP/1.1", "", ""),
        request("POST /a/one HTTP/1.1", "Content-Length: 5\r\n", "hello"),
        request("GET /a/chunked/3 HTTP/1.1", "", ""),
        request("POST /a/two HTTP/1.1", "Transfer-Encoding: chunked\r\n", "5\r\nworld\r\n0\r\n\r\n"),
        request("GET /a/three HTTP/1.1", "", ""),
    ]
    .concat();
    connection.send(all.as_bytes());
    assert_eq!(connection.response().body.len(), 1024);
    assert_eq!(connection.response().json()["body"], "hello");
    assert_eq!(connection.response().body.len(), 3000);
    assert_eq!(connection.response().json()["body"], "world");
    assert_eq!(connection.response().json()["target"], "/three");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let (gateway, _upstream) = proxied();
    let mut connection = gateway.connect();
    for byte in request("POST /a/x HTTP/1.1", "Content-Length: 5\r\n", "hello").bytes() {
        connection.send(&[byte]);
    }
    assert_eq!(connection.response().json()["body"], "hello");
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let (gateway, _upstream) = proxied();
    let mut connection = gateway.connect();
    connection.send(request("POST /a/x HTTP/1.1", "Content-Length: 5\r\nExpect: 100-continue\r\n", "").as_bytes());
    assert_eq!(connection.head().unwrap().status, 100);
    connection.send(b"hello");
    assert_eq!(connection.response().json()["body"], "hello");
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    let (gateway, _upstream) = proxied();
    let mut connection = gateway.connect();
    connection.send(request("GET /a/x HTTP/1.1", "Connection: close\r\n", "").as_bytes());
    connection.finish_sending();
    assert_eq!(connection.response().status, 200);
}

#[test]
fn http_1_0_gets_no_chunks_and_a_closed_connection() {
    let (gateway, _upstream) = proxied();
    let mut connection = gateway.connect();
    connection.send(request("GET /a/chunked/3 HTTP/1.0", "", "").as_bytes());
    let answer = connection.response();
    assert_eq!((answer.status, answer.body.len()), (200, 3000));
    assert_eq!(answer.header("transfer-encoding"), None);
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let (gateway, _upstream) = proxied();
    let mut connection = gateway.connect();
    connection.send(request("POST /a/early HTTP/1.1", "Content-Length: 1000000\r\n", &"x".repeat(1000)).as_bytes());
    let answer = connection.response();
    assert_eq!((answer.status, answer.text().as_str()), (413, "early"));
}

#[test]
fn a_pooled_connection_that_the_upstream_closes_costs_no_request() {
    let (gateway, _upstream) = proxied();
    let mut connection = gateway.connect();
    for number in 0..20 {
        connection.send(request("GET /a/last HTTP/1.1", "", "").as_bytes());
        assert_eq!(connection.response().status, 200, "request {number}");
    }
}

#[test]
fn an_upstream_that_speaks_no_http_is_answered_for_with_502() {
    let (gateway, _upstream) = proxied();
    assert_eq!(get(gateway.proxy, "/a/garbage").status, 502);
    assert_eq!(get(gateway.proxy, "/a/close").status, 502);
    assert_eq!(get(gateway.proxy, "/a/x").status, 200);
}

#[test]
fn a_body_that_ends_too_soon_is_seen_to_end_too_soon() {
    let (gateway, _upstream) = proxied();
    let mut connection = gateway.connect();
    connection.send(request("GET /a/short HTTP/1.1", "", "").as_bytes());
    assert!(connection.try_response().is_err(), "a cut body must not look whole");
}

#[test]
fn a_client_that_goes_away_takes_its_upstream_request_along() {
    let (gateway, upstream) = proxied();
    let mut connection = gateway.connect();
    connection.send(request("GET /a/bytes/100000000000 HTTP/1.1", "", "").as_bytes());
    assert_eq!(connection.head().unwrap().status, 200);
    drop(connection);
    wait_until("the upstream notices", || upstream.seen().abandoned == 1);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let (gateway, upstream) = proxied();
    let mut connection = gateway.connect();
    let _ = connection.try_send(request(&format!("GET /a/{} HTTP/1.1", "p".repeat(9000)), "", "").as_bytes());
    assert_eq!(connection.response().status, 414);
    let mut connection = Connection::open(gateway.proxy);
    let _ = connection.try_send(request("GET /a HTTP/1.1", &format!("X: {}\r\n", "h".repeat(9000)), "").as_bytes());
    assert_eq!(connection.response().status, 400);
    assert!(upstream.seen().requests.is_empty());
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let gateway = Gateway::with(&[("nginx_http_client_max_body_size", "1k")]);
    let upstream = Upstream::start();
    gateway.route("a", upstream.address);
    for (headers, body) in [
        ("Content-Length: 2000\r\n", "x".repeat(2000)),
        ("Transfer-Encoding: chunked\r\n", format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000))),
    ] {
        let mut connection = gateway.connect();
        let _ = connection.try_send(request("POST /a HTTP/1.1", headers, &body).as_bytes());
        assert_eq!(connection.response().status, 413, "{headers}");
    }
    let mut connection = gateway.connect();
    connection.send(request("POST /a HTTP/1.1", "Content-Length: 1000\r\n", &"x".repeat(1000)).as_bytes());
    assert_eq!(connection.response().status, 200);
}
