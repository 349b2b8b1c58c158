//! Messages that never become requests.

use crate::support::{Build, Gateway, run, settings};
use std::time::Duration;

async fn refused(gate: &Gateway, message: &str) -> (u16, String) {
    let mut client = gate.client().await;
    client.send(message).await;
    let answer = client.answer().await;
    assert_eq!(answer.header("connection"), Some("close"), "{message}");
    assert!(client.is_closed().await, "{message}");
    (answer.status, answer.text())
}

#[test]
fn what_cannot_be_understood_is_answered_and_closed_on() {
    run(|| async {
        let gate = Gateway::start().await;
        for (message, status) in [
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("\u{16}\u{3}\u{1}nonsense", 400),
        ] {
            assert_eq!(refused(&gate, message).await.0, status, "{message}");
        }
        assert_eq!(gate.upstream.requests.get(), 0);
    });
}

#[test]
fn bad_chunks_are_refused_though_the_upstream_is_waiting() {
    run(|| async {
        let gate = Gateway::start().await;
        for path in ["/echo", "/whole/echo", "/read"] {
            let mut client = gate.client().await;
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")).await;
            let answer = client.answer().await;
            assert!(answer.status == 400 || answer.status == 413, "{path} {}", answer.status);
            assert_eq!(answer.header("connection"), Some("close"));
            assert!(client.is_closed().await);
        }
    });
}

#[test]
fn heads_that_are_too_large_are_refused_before_they_end() {
    run(|| async {
        let gate = Gateway::start().await;
        let long = "a".repeat(70_000);
        assert_eq!(refused(&gate, &format!("GET /?{long} HTTP/1.1\r\n")).await.0, 414);
        assert_eq!(refused(&gate, &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}")).await.0, 494);
        let lines = "X: abcdefghijklmnopqrstuvwxyz\r\n".repeat(2000);
        assert_eq!(refused(&gate, &format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}")).await.0, 494);
        let lines = "X: abc\r\n".repeat(500);
        assert_eq!(gate.ask(format!("GET /3 HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).await.status, 200);
    });
}

#[test]
fn the_answer_is_read_by_clients_that_keep_sending() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send("POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n").await;
        client.send(vec![b'x'; 3_000_000]).await;
        assert_eq!(client.answer().await.status, 400);
    });
}

#[test]
fn bodies_over_the_limit_are_refused() {
    run(|| async {
        let gate = Build { settings: portcullis_wire::Settings { max_body_size: 10, ..settings() }, ..Build::default() }.start().await;
        assert_eq!(refused(&gate, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world").await.0, 413);
        assert_eq!(refused(&gate, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n").await.0, 413);
        assert_eq!(gate.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello worl").await.status, 200);
    });
}

#[test]
fn slow_heads_time_out_and_silent_connections_close() {
    run(|| async {
        let settings = portcullis_wire::Settings {
            client_header_timeout: Duration::from_millis(100),
            keepalive_timeout: Duration::from_millis(100),
            ..settings()
        };
        let gate = Build { settings, ..Build::default() }.start().await;
        assert_eq!(refused(&gate, "GET / HTTP/1.1\r\nHo").await.0, 408);
        let mut silent = gate.client().await;
        assert!(silent.is_closed().await);
        let mut idle = gate.client().await;
        idle.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(idle.answer().await.status, 200);
        assert!(idle.is_closed().await);
    });
}

#[test]
fn slow_bodies_time_out() {
    run(|| async {
        let settings = portcullis_wire::Settings { client_body_timeout: Duration::from_millis(100), ..settings() };
        let gate = Build { settings, ..Build::default() }.start().await;
        let mut client = gate.client().await;
        client.send("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await;
        assert_eq!(client.answer().await.status, 413);
        gate.service.outcome("body Timeout").await;
        let mut client = gate.client().await;
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await;
        client.answer().await;
        gate.service.outcome("timed out").await;
    });
}
