//! Request and response bodies that are large, late, early or unwanted.

use crate::support::{Build, Gateway, run, settings};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

#[test]
fn large_bodies_pass_both_ways() {
    run(|| async {
        let gate = Gateway::start().await;
        let body = "z".repeat(300_000);
        for path in ["/echo", "/whole/echo"] {
            let answer = gate.ask(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{body}")).await;
            assert!(answer.text().ends_with(&body), "{path}");
        }
        assert_eq!(gate.ask("GET /buffered/1000000 HTTP/1.1\r\nHost: a\r\n\r\n").await.body.len(), 1_000_000);
        assert_eq!(gate.ask("GET /5000000 HTTP/1.1\r\nHost: a\r\n\r\n").await.body.len(), 5_000_000);
    });
}

#[test]
fn chunked_requests_are_decoded_for_the_gateway() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        for path in ["/read", "/read"] {
            client
                .send(format!(
                    "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nT: x\r\n\r\n"
                ))
                .await;
            assert_eq!(client.answer().await.body, b"hello!");
        }
        let answer = gate.ask("POST /whole/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
        assert!(answer.text().contains("Content-Length: 5\r\n") && answer.text().ends_with("\r\n\r\nhello"));
    });
}

#[test]
fn the_gateway_says_continue_when_it_reads() {
    run(|| async {
        let gate = Gateway::start().await;
        for path in ["/echo", "/read", "/whole/echo"] {
            let mut client = gate.client().await;
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n")).await;
            assert_eq!(client.head().await.0, 100, "{path}");
            client.send("hello").await;
            assert!(client.answer().await.text().ends_with("hello"));
        }
        // Other expectations are nobody's business, and an answer that needs no body comes without an invitation.
        let answer = gate.ask("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: other\r\n\r\nhello").await;
        assert_eq!(answer.body, b"hello");
        let answer = gate.ask("POST /own HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    });
}

#[test]
fn an_unread_body_does_not_become_the_next_request() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send("POST /own HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!(answer.header("connection"), Some("keep-alive"));
        client.send("GET /3 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2000).get(..50_000).unwrap()).await;
        client.send("GET /7 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.answer().await.body.len(), 7);
        let mut client = gate.client().await;
        client.send("POST /own HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n").await;
        assert_eq!(client.answer().await.header("connection"), Some("close"));
    });
}

#[test]
fn an_answer_before_the_body_ended_is_heard() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await;
        client.send("x".repeat(1000)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text().as_str(), answer.header("connection")), (413, "early", Some("close")));
        assert!(client.is_closed().await);
    });
}

#[test]
fn an_upload_nobody_reads_stops_and_goes_on() {
    const SIZE: usize = 64 << 20;
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send(format!("POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        let piece = vec![b'x'; 1 << 20];
        let mut sent = 0;
        // What is sent before the sender has to wait lies in kernel buffers, and one buffer of the gateway's.
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(500), client.stream.write(&piece)).await {
            sent += written.unwrap();
        }
        assert!(sent < SIZE / 2, "{sent} bytes were taken in");
        gate.upstream.release();
        while sent < SIZE {
            sent += client.stream.write(&piece[..piece.len().min(SIZE - sent)]).await.unwrap();
        }
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(gate.upstream.received.get(), SIZE);
    });
}

#[test]
fn a_download_nobody_reads_stops_and_goes_on() {
    const SIZE: usize = 64 << 20;
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send(format!("GET /{SIZE} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let (status, _) = client.head().await;
        assert_eq!(status, 200);
        let body = client.take(SIZE).await;
        assert_eq!(body.len(), SIZE);
        gate.service.outcome(&format!("relay Ok({SIZE})")).await;
    });
}

#[test]
fn readers_that_do_not_read_are_dropped() {
    run(|| async {
        let settings = portcullis_wire::Settings { send_timeout: Duration::from_millis(200), ..settings() };
        let gate = Build { settings, ..Build::default() }.start().await;
        let mut client = gate.client().await;
        client.send("GET /100000000 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        gate.service.outcome("relay Err(\"client gone\")").await;
    });
}

#[test]
fn slow_readers_of_many_answers_get_them_all() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send("GET /100000 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20)).await;
        for _ in 0..20 {
            assert_eq!(client.answer().await.body.len(), 100_000);
        }
    });
}
