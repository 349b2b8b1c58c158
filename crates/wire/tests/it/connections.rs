//! How client connections end.

use crate::support::{Build, Gateway, run, settings};
use tokio::io::AsyncWriteExt;

const GET: &str = "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_client_that_goes_away_ends_the_upstreams_work() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        gate.upstream.until(|upstream| upstream.requests.get() == 1).await;
        drop(client);
        gate.service.outcome("client gone").await;
        gate.upstream.until(|upstream| upstream.closed.get() == 1).await;
    });
}

#[test]
fn a_client_that_stops_sending_later_counts_as_gone() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        gate.upstream.until(|upstream| upstream.requests.get() == 1).await;
        client.stream.shutdown().await.unwrap();
        gate.service.outcome("client gone").await;
    });
}

#[test]
fn a_client_that_had_finished_sending_is_answered() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send(GET).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.answer().await.body.len(), 3);
        assert!(client.is_closed().await);
    });
}

#[test]
fn what_is_pipelined_while_waiting_is_served_next() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut client = gate.client().await;
        client.send("POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
        gate.upstream.until(|upstream| upstream.requests.get() == 1).await;
        client.send(GET).await;
        gate.upstream.release();
        assert_eq!(client.answer().await.body.len(), 2);
        assert_eq!(client.answer().await.body.len(), 3);
    });
}

#[test]
fn a_connection_carries_its_share_of_requests() {
    run(|| async {
        let gate = Build { settings: portcullis_wire::Settings { keepalive_requests: 2, ..settings() }, ..Build::default() }.start().await;
        let mut client = gate.client().await;
        client.send(GET.repeat(2)).await;
        assert_eq!(client.answer().await.header("connection"), Some("keep-alive"));
        assert_eq!(client.answer().await.header("connection"), Some("close"));
        assert!(client.is_closed().await);
    });
}

#[test]
fn draining_finishes_what_runs_and_closes_what_idles() {
    run(|| async {
        let gate = Gateway::start().await;
        let mut idle = gate.client().await;
        idle.send(GET).await;
        idle.answer().await;
        let mut busy = gate.client().await;
        busy.send("POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
        gate.upstream.until(|upstream| upstream.requests.get() == 2).await;
        // Connected, and with its request on the way, but not accepted yet.
        let stream = std::net::TcpStream::connect(gate.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut late = crate::support::Client::new(tokio::net::TcpStream::from_std(stream).unwrap());
        late.send(GET).await;
        gate.worker.drain();
        assert!(idle.is_closed().await);
        let answer = late.answer().await;
        assert_eq!((answer.body.len(), answer.header("connection")), (3, Some("close")));
        gate.upstream.release();
        let answer = busy.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        gate.worker.drained().await;
        assert!(tokio::net::TcpStream::connect(gate.address).await.is_err());
    });
}

#[test]
fn connections_over_the_limit_wait_for_room() {
    run(|| async {
        let gate = Build { settings: portcullis_wire::Settings { max_connections: 1, ..settings() }, ..Build::default() }.start().await;
        let mut first = gate.client().await;
        first.send(GET).await;
        first.answer().await;
        let mut second = gate.client().await;
        second.send(GET).await;
        tokio::task::yield_now().await;
        assert_eq!(gate.worker.connections(), 1);
        drop(first);
        assert_eq!(second.answer().await.status, 200);
    });
}
