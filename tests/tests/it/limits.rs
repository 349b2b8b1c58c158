//! Clients that are slow, large or many meet limits, and others don't notice.

use portcullis_tests::{Gateway, Upstream, get};

#[test]
fn bodies_beyond_the_limit_are_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("nginx_http_client_max_body_size", "1k").start();
    gateway.lead_to(&upstream);
    let post = |length: usize| format!("POST /sink HTTP/1.1\r\nHost: gate.test\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
    assert_eq!(gateway.ask(post(1024)).text(), "1024");
    assert_eq!(gateway.ask(post(1025)).status, 413);
    let chunks = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600)).repeat(2);
    let chunked = format!("POST /sink HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    assert_eq!(gateway.ask(chunked).status, 413);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn slow_heads_and_slow_bodies_are_given_up() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("nginx_http_client_header_timeout", "1s").set("nginx_http_client_body_timeout", "1s").start();
    gateway.lead_to(&upstream);
    let mut head = gateway.client();
    head.send("GET / HTTP/1.1\r\nHost: gate");
    let mut body = gateway.client();
    body.send("POST /echo HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 10\r\n\r\nhalf");
    for client in [&mut head, &mut body] {
        let said = client.to_end();
        let said = String::from_utf8_lossy(&said);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn idle_connections_are_closed_after_their_time() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("nginx_http_keepalive_timeout", "1s").start();
    gateway.lead_to(&upstream);
    let mut client = gateway.client();
    assert_eq!(client.get("/bytes/1").status, 200);
    assert!(client.is_closed());
}

#[test]
fn many_silent_connections_hinder_nobody() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let silent: Vec<_> = (0..300).map(|_| gateway.client()).collect();
    let mut halves: Vec<_> = (0..100).map(|_| gateway.client()).collect();
    for client in &mut halves {
        client.send("GET /bytes/2 HTTP/1.1\r\nHost: ga");
    }
    for _ in 0..20 {
        assert_eq!(gateway.get("/bytes/1").status, 200);
    }
    for client in &mut halves {
        client.send("te.test\r\n\r\n");
        assert_eq!(client.answer().body, b"xx");
    }
    let mut first = silent.into_iter().next().unwrap();
    first.send(get("/bytes/3"));
    assert_eq!(first.answer().body, b"xxx");
}
