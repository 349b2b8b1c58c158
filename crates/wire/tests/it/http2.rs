//! HTTP/2 clients, through the same service.

use crate::listeners::{connect_tls, server_tls};
use crate::support::{Build, Client, Gateway, run, settings};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use std::future::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite};

pub async fn gateway() -> Gateway {
    Build { listen: "127.0.0.1:0 http2".to_owned(), ..Build::default() }.start().await
}

pub async fn connect<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::task::spawn_local(connection);
    sender.ready().await.unwrap()
}

pub async fn plain(gate: &Gateway) -> SendRequest<Bytes> {
    connect(tokio::net::TcpStream::connect(gate.address).await.unwrap()).await
}

pub fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://a.test{path}")).version(http::Version::HTTP_2).body(()).unwrap()
}

pub async fn read(response: Response<h2::RecvStream>) -> (u16, HeaderMap, Vec<u8>, Option<HeaderMap>) {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    (parts.status.as_u16(), parts.headers, bytes, body.trailers().await.unwrap())
}

#[test]
fn streams_are_answered_side_by_side() {
    run(|| async {
        let gate = gateway().await;
        let sender = plain(&gate).await;
        let ask = |path: &'static str| {
            let mut sender = sender.clone();
            async move { read(sender.send_request(request("GET", path), true).unwrap().0.await.unwrap()).await }
        };
        let (small, large, own, head) = tokio::join!(ask("/3"), ask("/3000000"), ask("/own"), ask("/hop"));
        assert_eq!((small.0, small.2.len(), small.1["content-length"].to_str().unwrap()), (200, 3, "3"));
        assert_eq!(small.1["x-gate"], "1");
        assert_eq!(large.2.len(), 3_000_000);
        assert_eq!((own.2.as_slice(), own.1["x-own"].to_str().unwrap()), (b"own answer".as_slice(), "yes"));
        assert!(!head.1.contains_key("connection") && !head.1.contains_key("x-gone"));
    });
}

#[test]
fn uploads_arrive_chunked_or_with_their_length() {
    run(|| async {
        let gate = gateway().await;
        let mut sender = plain(&gate).await;
        let mut with_length = request("POST", "/echo");
        with_length.headers_mut().insert("content-length", 5.into());
        let (response, mut body) = sender.send_request(with_length, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let text = String::from_utf8(read(response.await.unwrap()).await.2).unwrap();
        assert!(text.contains("content-length: 5\r\n") && text.ends_with("\r\n\r\nhello"), "{text}");
        assert!(text.starts_with("POST /echo HTTP/1.1\r\nhost: a.test\r\n"), "{text}");

        let mut sender = sender.ready().await.unwrap();
        let (response, mut body) = sender.send_request(request("POST", "/echo"), false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        body.send_trailers(trailers).unwrap();
        let text = String::from_utf8(read(response.await.unwrap()).await.2).unwrap();
        assert!(text.contains("Transfer-Encoding: chunked\r\n"), "{text}");
        assert!(text.ends_with("5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{text}");

        let mut sender = sender.ready().await.unwrap();
        let (response, mut body) = sender.send_request(request("POST", "/read"), false).unwrap();
        body.send_data(Bytes::from_static(b"read me"), true).unwrap();
        assert_eq!(read(response.await.unwrap()).await.2, b"read me");
    });
}

#[test]
fn an_upload_nobody_reads_stops_and_goes_on() {
    const SIZE: usize = 16 << 20;
    run(|| async {
        let gate = gateway().await;
        let mut sender = plain(&gate).await;
        let mut upload = request("POST", "/hold");
        upload.headers_mut().insert("content-length", SIZE.into());
        let (response, mut body) = sender.send_request(upload, false).unwrap();
        let mut sent = 0;
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        while sent < SIZE {
            body.reserve_capacity(piece.len());
            let capacity =
                tokio::time::timeout(std::time::Duration::from_millis(500), poll_fn(|context| body.poll_capacity(context))).await;
            match capacity {
                Ok(capacity) => {
                    let length = capacity.unwrap().unwrap().min(piece.len()).min(SIZE - sent);
                    sent += length;
                    body.send_data(piece.slice(..length), sent == SIZE).unwrap();
                }
                Err(_) => {
                    assert!(sent < SIZE, "the whole upload was taken in");
                    gate.upstream.release();
                }
            }
        }
        gate.upstream.release();
        assert_eq!(response.await.unwrap().status(), 200);
        assert_eq!(gate.upstream.received.get(), SIZE);
    });
}

#[test]
fn chunked_responses_come_with_their_trailers() {
    run(|| async {
        let gate = gateway().await;
        let mut sender = plain(&gate).await;
        let response = sender.send_request(request("GET", "/chunked"), true).unwrap().0.await.unwrap();
        let (status, headers, body, trailers) = read(response).await;
        assert_eq!((status, body.len()), (200, (1..50).map(|size| size * 37).sum::<usize>()));
        assert!(!headers.contains_key("transfer-encoding"));
        assert_eq!(trailers.unwrap()["x-trailer"], "yes");
        let response = sender.send_request(request("GET", "/shout/3"), true).unwrap().0.await.unwrap();
        assert_eq!(read(response).await.2, b"XXX!");
        for (path, status) in [("/204", 204), ("/304", 304), ("/until-close", 200), ("/bad", 502)] {
            let response = sender.send_request(request("GET", path), true).unwrap().0.await.unwrap();
            assert_eq!(response.status(), status, "{path}");
        }
    });
}

#[test]
fn what_breaks_off_resets_its_stream_only() {
    run(|| async {
        let gate = gateway().await;
        let mut sender = plain(&gate).await;
        // The reset may overtake the head.
        let mut failed = true;
        if let Ok(response) = sender.send_request(request("GET", "/short"), true).unwrap().0.await {
            let mut body = response.into_body();
            failed = false;
            while let Some(piece) = body.data().await {
                failed |= piece.is_err();
            }
        }
        assert!(failed);
        let response = sender.send_request(request("GET", "/3"), true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), 200);
    });
}

#[test]
fn a_stream_that_is_reset_ends_the_upstreams_work() {
    run(|| async {
        let gate = gateway().await;
        let mut sender = plain(&gate).await;
        let (response, mut stream) = sender.send_request(request("GET", "/hang"), true).unwrap();
        gate.upstream.until(|upstream| upstream.requests.get() == 1).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        gate.service.outcome("client gone").await;
        gate.upstream.until(|upstream| upstream.closed.get() == 1).await;
    });
}

#[test]
fn refusals_are_answered_on_their_stream() {
    run(|| async {
        let gate = Build {
            listen: "127.0.0.1:0 http2".to_owned(),
            settings: portcullis_wire::Settings { max_body_size: 10, ..settings() },
            ..Build::default()
        }
        .start()
        .await;
        let mut sender = plain(&gate).await;
        for (method, path, status) in [("GET", "/%zz", 400), ("TRACE", "/", 405), ("get", "/", 400)] {
            let response = sender.send_request(request(method, path), true).unwrap().0.await.unwrap();
            assert_eq!(response.status(), status, "{method} {path}");
        }
        let (response, mut body) = sender.send_request(request("POST", "/echo"), false).unwrap();
        body.send_data(Bytes::from_static(b"eleven byte"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 413);
        let response = sender.send_request(request("GET", "/3"), true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), 200);
    });
}

#[test]
fn a_listener_for_http_2_serves_http_1_too() {
    run(|| async {
        let gate = gateway().await;
        assert_eq!(gate.ask("GET /3 HTTP/1.1\r\nHost: a\r\n\r\n").await.body.len(), 3);
    });
}

#[test]
fn alpn_chooses_the_protocol() {
    run(|| async {
        let (tls, _) = server_tls("alpn", true);
        let gate = Build { listen: "127.0.0.1:0 ssl http2".to_owned(), tls: Some(tls), ..Build::default() }.start().await;
        let mut sender = connect(connect_tls(gate.address, "a.test", &[b"h2", b"http/1.1"]).await).await;
        let response = sender.send_request(request("GET", "/100000"), true).unwrap().0.await.unwrap();
        assert_eq!(read(response).await.2.len(), 100_000);
        let mut client = Client::new(connect_tls(gate.address, "a.test", &[b"http/1.1"]).await);
        client.send("GET /3 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    });
}

#[test]
fn draining_lets_streams_end() {
    run(|| async {
        let gate = gateway().await;
        let mut sender = plain(&gate).await;
        let mut held = request("POST", "/hold");
        held.headers_mut().insert("content-length", 1.into());
        let (response, mut body) = sender.send_request(held, false).unwrap();
        body.send_data(Bytes::from_static(b"x"), true).unwrap();
        gate.upstream.until(|upstream| upstream.requests.get() == 1).await;
        gate.worker.drain();
        gate.upstream.release();
        assert_eq!(response.await.unwrap().status(), 200);
        gate.worker.drained().await;
    });
}

#[test]
fn a_websocket_runs_in_a_stream() {
    run(|| async {
        let gate = gateway().await;
        let mut sender = plain(&gate).await;
        let mut ask = request("CONNECT", "/ws");
        ask.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        while !sender.is_extended_connect_protocol_enabled() {
            // Said in the settings, which come with the first answer at the latest.
            read(sender.send_request(request("GET", "/own"), true).unwrap().0.await.unwrap()).await;
            sender = sender.ready().await.unwrap();
        }
        let (response, mut sending) = sender.send_request(ask, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("upgrade"));
        let mut receiving = response.into_body();
        let mut got = Vec::new();
        let large = vec![b'x'; 200_000];
        let expected = [b"hello-ws".as_slice(), &large].concat();
        let mut rest = Bytes::from(large);
        while got.len() < expected.len() {
            if !rest.is_empty() {
                sending.reserve_capacity(rest.len());
                let room = poll_fn(|context| sending.poll_capacity(context)).await.unwrap().unwrap();
                sending.send_data(rest.split_to(room.min(rest.len())), false).unwrap();
                continue;
            }
            let piece = receiving.data().await.unwrap().unwrap();
            receiving.flow_control().release_capacity(piece.len()).unwrap();
            got.extend_from_slice(&piece);
        }
        assert!(got == expected);
        sending.send_data(Bytes::new(), true).unwrap();
        while let Some(piece) = receiving.data().await {
            assert!(piece.unwrap().is_empty());
        }
        gate.service.outcome("tunnel Ok((200008, 200000))").await;
    });
}
