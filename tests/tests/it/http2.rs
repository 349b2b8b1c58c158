//! HTTP/2 from clients, into the same pipeline.

use crate::tls::{certificate, client};
use bytes::Bytes;
use h2::client::SendRequest;
use portcullis_tests::{Gateway, Upstream};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

async fn connect(gateway: &Gateway) -> SendRequest<Bytes> {
    let trusted = certificate(gateway, &["one.test"]);
    let connector = TlsConnector::from(client(&trusted, &[&rustls::version::TLS13], &["h2"]));
    let stream = TcpStream::connect(gateway.proxy_tls).await.unwrap();
    let stream = connector.connect(ServerName::try_from("one.test").unwrap(), stream).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

async fn call(send: &mut SendRequest<Bytes>, method: &str, path: &str, body: &'static [u8]) -> (u16, Vec<u8>) {
    let request = http::Request::builder().method(method).uri(format!("https://one.test{path}")).body(()).unwrap();
    let (response, mut stream) = send.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(Bytes::from_static(body), true).unwrap();
    }
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    let mut incoming = response.into_body();
    let mut whole = Vec::new();
    while let Some(piece) = incoming.data().await {
        let piece = piece.unwrap();
        incoming.flow_control().release_capacity(piece.len()).unwrap();
        whole.extend_from_slice(&piece);
    }
    (status, whole)
}

#[tokio::test]
async fn requests_go_the_same_way_as_over_http_1() {
    let (gateway, upstream) = (Gateway::start(), Upstream::start());
    gateway.route("a", upstream.address);
    let mut send = connect(&gateway).await;
    let (status, body) = call(&mut send, "POST", "/a/x?y=1", b"hello").await;
    let echo: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!((&echo["method"], &echo["target"], &echo["body"]), (&"POST".into(), &"/x?y=1".into(), &"hello".into()));
    assert_eq!(call(&mut send, "GET", "/nowhere", b"").await.0, 404);
    assert_eq!(call(&mut send, "GET", "/a/chunked/3", b"").await.1.len(), 3000);
}

#[tokio::test]
async fn streams_do_not_wait_for_each_other() {
    let (gateway, upstream) = (Gateway::start(), Upstream::start());
    gateway.route("a", upstream.address);
    let send = connect(&gateway).await;
    let slow = tokio::spawn({
        let mut send = send.clone();
        async move { call(&mut send, "GET", "/a/delay/2000", b"").await.0 }
    });
    let started = std::time::Instant::now();
    let mut send = send;
    for _ in 0..20 {
        assert_eq!(call(&mut send, "GET", "/a/x", b"").await.0, 200);
    }
    assert!(!slow.is_finished(), "20 requests took {:?}", started.elapsed());
    assert_eq!(slow.await.unwrap(), 200);
}

#[tokio::test]
async fn a_body_larger_than_every_window_comes_through() {
    let (gateway, upstream) = (Gateway::start(), Upstream::start());
    gateway.route("a", upstream.address);
    let mut send = connect(&gateway).await;
    let (status, body) = call(&mut send, "GET", "/a/bytes/10000000", b"").await;
    assert_eq!((status, body.len()), (200, 10_000_000));
}
