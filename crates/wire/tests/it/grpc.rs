//! HTTP/2 on both sides, as gRPC uses it: bodies both ways at once, trailers, cancelling.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::http2::{gateway, plain, read, request};
use crate::support::{Build, Gateway, run};

/// An HTTP/2 server that answers as the path says, and what happened to it.
#[derive(Default)]
struct Server {
    connections: Cell<usize>,
    cancelled: Cell<bool>,
    changed: Notify,
}

impl Server {
    async fn start() -> (Rc<Self>, SocketAddr) {
        let server = Rc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = server.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.connections.set(shared.connections.get() + 1);
                let server = shared.clone();
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::task::spawn_local(server.clone().serve(request, respond));
                    }
                });
            }
        });
        (server, address)
    }

    async fn serve(self: Rc<Self>, request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
        let path = request.uri().path().to_owned();
        let answer = Response::builder().header("content-type", "application/grpc");
        let answer = answer.header("x-te", request.headers().get("te").cloned().unwrap_or(HeaderValue::from_static("")));
        let answer = answer.header("x-authority", request.uri().authority().unwrap().as_str()).body(()).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        match path.as_str() {
            "/grpc/refused" => respond.send_reset(Reason::REFUSED_STREAM),
            "/grpc/only-trailers" => {
                let mut answer = answer;
                answer.headers_mut().insert("grpc-status", HeaderValue::from_static("5"));
                respond.send_response(answer, true).unwrap();
            }
            "/grpc/silent" => {
                std::future::poll_fn(|context| respond.poll_reset(context)).await.unwrap();
                self.cancelled.set(true);
                self.changed.notify_waiters();
            }
            _ => {
                // Every piece is sent back as it comes: the answer begins before the request ends.
                let mut sending = respond.send_response(answer, false).unwrap();
                let mut body = request.into_body();
                while let Some(Ok(piece)) = body.data().await {
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    sending.send_data(piece, false).unwrap();
                }
                if let Some(sum) = body.trailers().await.unwrap().and_then(|trailers| trailers.get("x-sum").cloned()) {
                    trailers.insert("x-sum", sum);
                }
                sending.send_trailers(trailers).unwrap();
            }
        }
    }
}

async fn before() -> (Gateway, Rc<Server>) {
    let gate = gateway().await;
    let (server, address) = Server::start().await;
    gate.service.http2.set(Some(address));
    (gate, server)
}

fn call(path: &str) -> Request<()> {
    let mut call = request("POST", path);
    call.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    call
}

#[test]
fn unary_calls_come_back_with_their_trailers_on_one_connection() {
    run(|| async {
        let (gate, server) = before().await;
        let mut sender = plain(&gate).await;
        for size in [0usize, 5, 1 << 20] {
            let (response, mut body) = sender.send_request(call("/grpc/echo"), false).unwrap();
            body.reserve_capacity(size);
            let mut sent = 0;
            while sent < size {
                let capacity = std::future::poll_fn(|context| body.poll_capacity(context)).await.unwrap().unwrap();
                let length = capacity.min(size - sent);
                sent += length;
                body.send_data(Bytes::from(vec![b'x'; length]), false).unwrap();
            }
            body.send_data(Bytes::new(), true).unwrap();
            let (status, headers, bytes, trailers) = read(response.await.unwrap()).await;
            assert_eq!((status, bytes.len()), (200, size));
            assert_eq!(headers["x-authority"], "a.test");
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
            sender = sender.ready().await.unwrap();
        }
        assert_eq!(server.connections.get(), 1);
    });
}

#[test]
fn messages_pass_both_ways_while_both_sides_are_open() {
    run(|| async {
        let (gate, _server) = before().await;
        let mut sender = plain(&gate).await;
        let (response, mut sending) = sender.send_request(call("/grpc/chat"), false).unwrap();
        let mut receiving = response.await.unwrap().into_body();
        for turn in 0..5u8 {
            sending.send_data(Bytes::from(vec![turn; 100]), false).unwrap();
            let mut got = Vec::new();
            while got.len() < 100 {
                let piece = receiving.data().await.unwrap().unwrap();
                receiving.flow_control().release_capacity(piece.len()).unwrap();
                got.extend_from_slice(&piece);
            }
            assert_eq!(got, [turn; 100]);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("5"));
        sending.send_trailers(trailers).unwrap();
        assert!(receiving.data().await.is_none());
        assert_eq!(receiving.trailers().await.unwrap().unwrap()["x-sum"], "5");
    });
}

#[test]
fn an_answer_of_trailers_only_stays_one() {
    run(|| async {
        let (gate, _server) = before().await;
        let mut sender = plain(&gate).await;
        let response = sender.send_request(call("/grpc/only-trailers"), true).unwrap().0.await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "5");
        assert!(response.body().is_end_stream());
    });
}

#[test]
fn a_cancelled_call_is_cancelled_upstream() {
    run(|| async {
        let (gate, server) = before().await;
        let mut sender = plain(&gate).await;
        let (response, mut sending) = sender.send_request(call("/grpc/silent"), false).unwrap();
        sending.send_data(Bytes::from_static(b"hello"), false).unwrap();
        while gate.service.pools.connects() == 0 {
            tokio::task::yield_now().await;
        }
        sending.send_reset(Reason::CANCEL);
        drop(response);
        while !server.cancelled.get() {
            server.changed.notified().await;
        }
        gate.service.outcome("client gone").await;
    });
}

#[test]
fn an_upstream_that_says_nothing_times_out() {
    run(|| async {
        let gate =
            Build { listen: "127.0.0.1:0 http2".to_owned(), read_timeout: std::time::Duration::from_millis(100), ..Build::default() };
        let gate = gate.start().await;
        let (_server, address) = Server::start().await;
        gate.service.http2.set(Some(address));
        let mut sender = plain(&gate).await;
        let response = sender.send_request(call("/grpc/silent"), true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), 504);
    });
}

#[test]
fn a_refused_stream_is_tried_once_more_and_then_given_up() {
    run(|| async {
        let (gate, server) = before().await;
        let mut sender = plain(&gate).await;
        assert_eq!(read(sender.send_request(call("/grpc/echo"), true).unwrap().0.await.unwrap()).await.0, 200);
        let mut sender = sender.ready().await.unwrap();
        assert_eq!(sender.send_request(call("/grpc/refused"), true).unwrap().0.await.unwrap().status(), 502);
        assert_eq!(server.connections.get(), 2);
        gate.service.outcome("retry true").await;
    });
}

#[test]
fn http_1_clients_reach_http_2_upstreams_too() {
    run(|| async {
        let (gate, _server) = before().await;
        let answer = gate.ask("POST /grpc/echo HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        assert!(answer.raw.ends_with(b"0\r\ngrpc-status: 0\r\n\r\n"), "{}", answer.raw.escape_ascii());
    });
}
