//! gRPC through the gateway, to a server that speaks HTTP/2 with and without TLS, and what callers get when there is none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use portcullis_tests::{Gateway, PATIENCE};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

/// A server on a thread of its own that sends back what it gets, with the path, the authority and `x-` headers in headers.
fn start_server(tls: Option<rustls::ServerConfig>) -> SocketAddr {
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let acceptor = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                match &acceptor {
                    None => _ = tokio::spawn(serve(stream)),
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            tokio::spawn(serve(stream));
                        }
                    }
                }
            }
        });
    });
    told.recv().unwrap()
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let uri = request.uri().clone();
            let answer = Response::builder()
                .header("content-type", "application/grpc")
                .header("x-path", uri.path())
                .header("x-authority", uri.authority().unwrap().as_str())
                .header("x-scheme", uri.scheme_str().unwrap());
            let mut sending = respond.send_response(answer.body(()).unwrap(), false).unwrap();
            let mut body = request.into_body();
            while let Some(Ok(piece)) = body.data().await {
                body.flow_control().release_capacity(piece.len()).unwrap();
                sending.send_data(piece, false).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            sending.send_trailers(trailers).unwrap();
        });
    }
}

/// A gateway whose plain listener speaks HTTP/2, too.
fn gateway() -> Gateway {
    let build = Gateway::build();
    let listen = format!("{} http2", build.proxy());
    build.set("proxy_listen", listen).start()
}

/// One unary call: the answer's head, its body and its trailers.
fn call(gateway: &Gateway, path: &str, message: &'static [u8]) -> (Response<()>, Vec<u8>, Option<HeaderMap>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asking = async {
        let socket = tokio::net::TcpStream::connect(gateway.proxy()).await.unwrap();
        let (sender, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method("POST").uri(format!("http://gate.test{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap();
        let (answer, mut sending) = sender.ready().await.unwrap().send_request(request, false).unwrap();
        sending.send_data(Bytes::from_static(message), true).unwrap();
        let (parts, mut body) = answer.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(piece) = body.data().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        (Response::from_parts(parts, ()), bytes, body.trailers().await.unwrap())
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await.expect("the call hangs") })
}

fn lead(gateway: &Gateway, protocol: &str, server: SocketAddr) {
    let admin = gateway.admin();
    admin.post("/services", json!({"name": "g", "protocol": protocol, "host": "127.0.0.1", "port": server.port()}));
    admin.post("/services/g/routes", json!({"name": "r", "protocols": ["grpc", "grpcs"], "paths": ["/pkg.Svc"]}));
}

#[test]
fn calls_reach_a_server_without_tls_by_their_own_path() {
    let server = start_server(None);
    let gateway = gateway();
    lead(&gateway, "grpc", server);
    let (head, body, trailers) = call(&gateway, "/pkg.Svc/Say", b"\0\0\0\0\x02hi");
    assert_eq!((head.status().as_u16(), body.as_slice()), (200, b"\0\0\0\0\x02hi".as_slice()));
    assert_eq!(head.headers()["x-path"], "/pkg.Svc/Say");
    assert_eq!(head.headers()["x-authority"], format!("127.0.0.1:{}", server.port()));
    assert_eq!(head.headers()["x-scheme"], "http");
    assert!(head.headers().contains_key("x-kong-upstream-latency"));
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[test]
fn calls_reach_a_server_with_tls() {
    let own = rcgen::generate_simple_self_signed(vec!["up.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = versions.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let server = start_server(Some(config));
    let gateway = gateway();
    lead(&gateway, "grpcs", server);
    let (head, body, trailers) = call(&gateway, "/pkg.Svc/Say", b"hi");
    assert_eq!((head.status().as_u16(), body.as_slice()), (200, b"hi".as_slice()));
    assert_eq!(head.headers()["x-scheme"], "https");
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

/// A plugin that holds the whole answer sees its trailers as headers; the caller still finds its status behind the body.
#[test]
fn a_buffered_answer_keeps_its_trailers() {
    let server = start_server(None);
    let gateway = gateway();
    lead(&gateway, "grpc", server);
    let config = json!({"access": ["kong.service.request.enable_buffering()"]});
    gateway.admin().post("/routes/r/plugins", json!({"name": "pre-function", "config": config}));
    let (head, body, trailers) = call(&gateway, "/pkg.Svc/Say", b"\0\0\0\0\x02hi");
    assert_eq!((head.status().as_u16(), body.as_slice()), (200, b"\0\0\0\0\x02hi".as_slice()));
    assert_eq!(trailers.expect("there are trailers")["grpc-status"], "0");
    assert!(!head.headers().contains_key("grpc-status"));
}

#[test]
fn callers_are_told_in_their_own_terms_what_went_wrong() {
    let gateway = gateway();
    let told = |path: &str| {
        let (head, body, _) = call(&gateway, path, b"hi");
        let header = |name: &str| head.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert!(body.is_empty());
        assert_eq!(header("content-type").as_deref(), Some("application/grpc"));
        (head.status().as_u16(), header("grpc-status").unwrap(), header("grpc-message").unwrap())
    };
    assert_eq!(told("/none"), (404, "5".to_owned(), "no Route matched with those values".to_owned()));
    lead(&gateway, "grpc", SocketAddr::from(([127, 0, 0, 1], portcullis_tests::free_port())));
    let refused = told("/pkg.Svc/Say");
    assert_eq!((refused.0, refused.1.as_str()), (502, "13"));
    gateway.admin().post("/routes/r/plugins", json!({"name": "key-auth"}));
    assert_eq!(told("/pkg.Svc/Say"), (401, "16".to_owned(), "No API key found in request".to_owned()));
    gateway.admin().patch("/routes/r", json!({"protocols": ["grpcs"]}));
    let (status, code, message) = told("/pkg.Svc/Say");
    assert_eq!((status, code.as_str(), message.as_str()), (200, "1", "gRPC request matched gRPCs route"));
}
