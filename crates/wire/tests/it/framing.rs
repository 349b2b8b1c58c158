//! Requests and responses in every framing, on connections that stay.

use crate::support::{Gateway, run};
use tokio::io::AsyncWriteExt;

const HOST: &str = "Host: x.test\r\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{HOST}\r\n")
}

#[test]
fn a_request_is_answered_and_the_connections_stay() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        for length in [2usize, 1024, 102_400, 0, 128] {
            client.send(get(&format!("/{length}"))).await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.body.len()), (200, length));
            assert_eq!(answer.header("connection"), Some("keep-alive"));
            assert_eq!(answer.header("x-gate"), Some("1"));
        }
        assert_eq!(gate.upstream.connections.get(), 1);
        assert_eq!(gate.service.pools.idle(), 1);
        assert_eq!(gate.service.peers.borrow()[0].listener, 3);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        let requests = [
            get("/1024"),
            get("/204"),
            format!("HEAD /1024 HTTP/1.1\r\n{HOST}\r\n"),
            get("/chunked"),
            get("/304"),
            format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello"),
            get("/own"),
            get("/7"),
        ];
        client.send(requests.concat()).await;
        let mut seen = Vec::new();
        for method in ["GET", "GET", "HEAD", "GET", "GET", "POST", "GET", "GET"] {
            let answer = client.answer_to(method).await;
            if method == "POST" {
                assert!(answer.text().ends_with("\r\n\r\nhello"));
            }
            seen.push((answer.status, if method == "POST" { 0 } else { answer.body.len() }));
        }
        let chunked: usize = (1..50).map(|size| size * 37).sum();
        assert_eq!(seen, [(200, 1024), (204, 0), (200, 0), (200, chunked), (304, 0), (200, 0), (200, 10), (200, 7)]);
    });
}

#[test]
fn a_message_cut_at_every_byte_reads_the_same() {
    run(|| async {
        let gate = Gateway::start().await;
        let message = format!(
            "POST /echo?q HTTP/1.1\r\n{HOST}X-A:  b \r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n{}",
            get("/3")
        );
        let mut client = gate.client().await;
        client.stream.set_nodelay(true).unwrap();
        for cut in 1..message.len() {
            for part in [&message[..cut], &message[cut..]] {
                client.send(part).await;
                // The gateway's turn, so that the parts arrive apart.
                tokio::task::yield_now().await;
            }
            let answer = client.answer().await;
            assert!(answer.text().contains("X-A:  b\r\n"), "{}", answer.text());
            assert!(answer.text().ends_with("5;x=y\r\nhello\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n"), "{cut}: {}", answer.text());
            assert_eq!(client.answer().await.body.len(), 3, "{cut}");
        }
    });
}

#[test]
fn a_request_that_drips_in_is_understood() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.stream.set_nodelay(true).unwrap();
        for byte in format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello").bytes() {
            client.send([byte]).await;
            tokio::task::yield_now().await;
        }
        assert!(client.answer().await.text().ends_with("\r\n\r\nhello"));
    });
}

#[test]
fn chunked_responses_are_relayed_as_they_came() {
    run(|| async {
        let gate = Gateway::start().await;
        let answer = gate.ask(get("/chunked")).await;
        let raw = String::from_utf8(answer.raw.clone()).unwrap();
        assert!(raw.starts_with("25;n=\"1\"\r\n"), "{raw}");
        assert!(raw.ends_with("0\r\nX-Trailer: yes\r\n\r\n"));
    });
}

#[test]
fn http_1_0_clients_get_plain_bodies_and_a_close() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send("GET /chunked HTTP/1.0\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(answer.body.len(), (1..50).map(|size| size * 37).sum::<usize>());
        let mut client = gate.client().await;
        client.send("GET /5 HTTP/1.0\r\n\r\n").await;
        assert_eq!(client.answer().await.body.len(), 5);
        assert!(client.is_closed().await);
    });
}

#[test]
fn http_1_0_clients_may_ask_to_stay() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        for _ in 0..2 {
            client.send("GET /5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
            let answer = client.answer().await;
            assert_eq!(answer.header("connection"), Some("keep-alive"));
        }
    });
}

#[test]
fn bodies_that_end_with_the_connection_become_chunked() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        for _ in 0..2 {
            client.send(get("/until-close")).await;
            let answer = client.answer().await;
            assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
            assert_eq!(answer.body, b"until-close-body");
        }
    });
}

#[test]
fn a_client_that_asks_for_it_is_closed_on() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send(format!("GET /3 HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")).await;
        assert_eq!(client.answer().await.header("connection"), Some("close"));
        assert!(client.is_closed().await);
    });
}

#[test]
fn connection_bound_lines_stay_with_their_connection() {
    run(|| async {
        let gate = Gateway::start().await;
        let answer = gate.ask(get("/hop")).await;
        assert_eq!(answer.head, "HTTP/1.1 200 OK\r\nX-Stay: 1\r\nContent-Length: 0\r\nX-Gate: 1\r\nConnection: keep-alive\r\n");
        let answer = gate.ask(format!("GET /hop HTTP/1.1\r\n{HOST}TE: trailers\r\n\r\n")).await;
        assert!(answer.head.contains("Trailer: X-Sum\r\n"));
    });
}

#[test]
fn interim_responses_pass_but_continue_does_not() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send(get("/interim")).await;
        let (status, head) = client.head().await;
        assert_eq!(status, 103);
        assert!(head.contains("Link: </a>"));
        let answer = client.answer().await;
        assert!(answer.head.starts_with("HTTP/1.1 200 Fine\r\n"), "{}", answer.head);
        assert_eq!(answer.body, b"ok");
        let mut old = gate.client().await;
        old.send("GET /interim HTTP/1.0\r\n\r\n").await;
        assert_eq!(old.answer().await.status, 200);
    });
}

#[test]
fn bare_line_feeds_of_an_upstream_are_mended() {
    run(|| async {
        let answer = Gateway::start().await.ask(get("/bare-lf")).await;
        assert_eq!(answer.head, "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\nX-Gate: 1\r\nConnection: keep-alive\r\n");
    });
}

#[test]
fn filters_see_decoded_bodies_that_are_framed_anew() {
    run(|| async {
        let gate = Gateway::start().await;
        let answer = gate.ask(get("/shout/5")).await;
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.body, b"XXXXX!");
        let answer = gate.ask(get("/shout/chunked")).await;
        assert!(answer.body.starts_with(b"CCC") && answer.body.ends_with(b"C!"));
        let answer = gate.ask("GET /shout/100000 HTTP/1.0\r\n\r\n").await;
        assert_eq!(answer.body.len(), 100_001);
        let answer = gate.ask(get("/shout/0")).await;
        assert_eq!(answer.body, b"!");
    });
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send(format!("GET /ws HTTP/1.1\r\n{HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nahead")).await;
        let (status, head) = client.head().await;
        assert_eq!(status, 101);
        assert!(head.contains("Upgrade: websocket\r\n") && head.contains("Connection: upgrade\r\n"), "{head}");
        assert_eq!(client.take(13).await, b"hello-wsahead");
        client.send("ping").await;
        assert_eq!(client.take(4).await, b"ping");
        client.stream.shutdown().await.unwrap();
        assert!(client.is_closed().await);
        gate.service.outcome("tunnel Ok((17, 9))").await;
    });
}

#[test]
fn switching_protocols_unasked_is_no_answer() {
    run(|| async {
        assert_eq!(Gateway::start().await.ask(get("/ws")).await.status, 502);
    });
}
