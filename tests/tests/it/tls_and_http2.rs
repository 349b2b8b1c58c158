//! TLS listeners, certificates by SNI, and HTTP/2 with and without TLS.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use portcullis_tests::{Client, Gateway, PATIENCE, Upstream, get};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

/// Takes every certificate and remembers it.
#[derive(Debug, Default)]
pub struct Witness(pub Mutex<Vec<u8>>);

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = certificate.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// How clients of one kind of key or version are told apart.
fn settings_of(provider: rustls::crypto::CryptoProvider) -> (Arc<ClientConfig>, Arc<Witness>) {
    let witness = Arc::<Witness>::default();
    let versions = ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let config = versions.dangerous().with_custom_certificate_verifier(witness.clone()).with_no_client_auth();
    (Arc::new(config), witness)
}

/// A client's settings that speak one protocol, and the witness of its handshakes.
pub fn settings(protocol: &str) -> (Arc<ClientConfig>, Arc<Witness>) {
    let witness = Arc::<Witness>::default();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = versions.dangerous().with_custom_certificate_verifier(witness.clone()).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    (Arc::new(config), witness)
}

/// A connection over TLS and the certificate that was shown.
pub fn connect(address: SocketAddr, name: &str) -> (Client<StreamOwned<ClientConnection, TcpStream>>, Vec<u8>) {
    connect_with(settings("http/1.1"), address, name)
}

fn connect_with(
    (config, witness): (Arc<ClientConfig>, Arc<Witness>),
    address: SocketAddr,
    name: &str,
) -> (Client<StreamOwned<ClientConnection, TcpStream>>, Vec<u8>) {
    let session = ClientConnection::new(config, name.to_owned().try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    let shown = witness.0.lock().unwrap().clone();
    (Client::over(stream), shown)
}

/// A client over TLS that speaks HTTP/1.1.
pub fn https(address: SocketAddr, name: &str) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    connect(address, name).0
}

/// A client over TLS that speaks HTTP/2, and what drives its connection.
pub async fn http2(address: SocketAddr, name: &str) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(settings("h2").0);
    let stream = connector.connect(name.to_owned().try_into().unwrap(), socket).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(async move {
        // How it ends shows in the answers.
        let _ = connection.await;
    });
    (sender, driver)
}

fn common_name(certificate: &[u8]) -> String {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).unwrap();
    certificate.subject().iter_common_name().next().map(|name| name.as_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn https_is_answered_with_the_default_certificate() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let (mut client, certificate) = connect(gateway.proxy_tls(), "gate.test");
    let echo = client.get("/echo").json();
    assert_eq!(echo["headers"]["x-forwarded-proto"], "https");
    assert_eq!(echo["headers"]["x-forwarded-port"], json!(gateway.proxy_tls().port().to_string()));
    assert_eq!(common_name(&certificate), "localhost");
    assert_eq!(client.get("/bytes/100000").body.len(), 100_000);
}

#[test]
fn certificates_are_chosen_by_name_from_the_next_handshake_on() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let (admin, address) = (gateway.admin(), gateway.proxy_tls());
    let own = rcgen::generate_simple_self_signed(vec!["shop.test".to_owned()]).unwrap();
    let before = connect(address, "shop.test").1;
    assert_ne!(before, own.cert.der().to_vec());
    let body = json!({"cert": own.cert.pem(), "key": own.signing_key.serialize_pem(), "snis": ["shop.test", "*.shop.test"]});
    let made = admin.post("/certificates", body);
    for name in ["shop.test", "a.shop.test"] {
        assert_eq!(connect(address, name).1, own.cert.der().to_vec(), "{name}");
    }
    assert_eq!(connect(address, "other.test").1, before);
    let (mut client, _) = connect(address, "shop.test");
    assert_eq!(client.get("/bytes/5").body, b"xxxxx");
    admin.delete(&format!("/certificates/{}", made["id"].as_str().unwrap()));
    assert_eq!(connect(address, "shop.test").1, before);
}

#[test]
fn of_two_certificates_each_client_gets_the_one_it_can_verify() {
    let gateway = Gateway::start();
    let pair = |algorithm| {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["two.test".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap(), key)
    };
    let (elliptic, elliptic_key) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (rsa, rsa_key) = pair(&rcgen::PKCS_RSA_SHA256);
    let body = json!({
        "cert": rsa.pem(), "key": rsa_key.serialize_pem(),
        "cert_alt": elliptic.pem(), "key_alt": elliptic_key.serialize_pem(),
        "snis": ["two.test"],
    });
    gateway.admin().post("/certificates", body);
    for (suites, certificate) in [("ECDHE_RSA", &rsa), ("ECDHE_ECDSA", &elliptic)] {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| suite.suite().as_str().unwrap().contains(suites));
        assert_eq!(connect_with(settings_of(provider), gateway.proxy_tls(), "two.test").1, certificate.der().to_vec(), "{suites}");
    }
    assert_eq!(connect(gateway.proxy_tls(), "two.test").1, elliptic.der().to_vec());
}

#[test]
fn sessions_are_resumed() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let (config, witness) = settings("http/1.1");
    for kind in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let (mut client, _) = connect_with((config.clone(), witness.clone()), gateway.proxy_tls(), "gate.test");
        assert_eq!(client.get("/bytes/3").body, b"xxx");
        assert_eq!(client.stream.conn.handshake_kind(), Some(kind));
    }
}

#[test]
fn only_the_ciphers_that_were_configured_are_spoken() {
    let one = "ECDHE-ECDSA-AES256-GCM-SHA384";
    let gateway = Gateway::build().set("ssl_cipher_suite", "custom").set("ssl_protocols", "TLSv1.2").set("ssl_ciphers", one).start();
    let (client, _) = connect(gateway.proxy_tls(), "gate.test");
    let suite = client.stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
    let gateway = Gateway::start();
    let mut client = Client::connect(gateway.proxy_tls());
    client.send(get("/"));
    let said = client.to_end();
    let said = String::from_utf8_lossy(&said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{said}");
}

#[test]
fn routes_for_https_alone_ask_for_an_upgrade() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    gateway.admin().patch("/routes/all", json!({"protocols": ["https"]}));
    let answer = gateway.get("/echo");
    assert_eq!((answer.status, answer.header("upgrade").is_some()), (426, true), "{}", answer.head);
    assert_eq!(connect(gateway.proxy_tls(), "gate.test").0.get("/echo").status, 200);
}

/// Runs a conversation in HTTP/2 over `stream`.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) {
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let small = exchange(&mut sender, "GET", "/echo?a=b", Bytes::new()).await;
    let echo: Value = serde_json::from_slice(&small).unwrap();
    assert_eq!((&echo["method"], &echo["target"]), (&json!("GET"), &json!("/echo?a=b")));
    assert_eq!(echo["headers"]["x-forwarded-host"], "gate.test");
    let posted = exchange(&mut sender, "POST", "/echo", Bytes::from_static(b"hello")).await;
    let echo: Value = serde_json::from_slice(&posted).unwrap();
    assert_eq!(echo["body"], "hello", "{}", echo["head"]);
    // A body without a length says so to the upstream, or what it holds would be its next request there.
    let inner = "GET /smuggled HTTP/1.1\r\nHost: gate.test\r\n\r\n";
    let posted = exchange(&mut sender, "POST", "/echo", Bytes::from_static(inner.as_bytes())).await;
    assert_eq!(serde_json::from_slice::<Value>(&posted).unwrap()["body"], inner);
    // Both are beyond the windows a connection begins with.
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    assert_eq!(exchange(&mut sender, "POST", "/sink", large).await, (3 << 20).to_string().as_bytes());
    assert_eq!(exchange(&mut sender, "GET", &format!("/bytes/{}", 3 << 20), Bytes::new()).await.len(), 3 << 20);
    // Many at once over the one connection.
    let mut several = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut sender = sender.clone();
        several.spawn(async move { exchange(&mut sender, "GET", "/bytes/1000", Bytes::new()).await.len() });
    }
    while let Some(length) = several.join_next().await {
        assert_eq!(length.unwrap(), 1000);
    }
    driver.abort();
}

async fn exchange(sender: &mut h2::client::SendRequest<Bytes>, method: &str, target: &str, mut body: Bytes) -> Vec<u8> {
    let request = http::Request::builder().method(method).uri(format!("http://gate.test{target}")).body(()).unwrap();
    let mut ready = sender.clone().ready().await.unwrap();
    let (answer, mut out) = ready.send_request(request, body.is_empty()).unwrap();
    while !body.is_empty() {
        out.reserve_capacity(body.len());
        let room = std::future::poll_fn(|context| out.poll_capacity(context)).await.unwrap().unwrap();
        let part = body.split_to(room.min(body.len()));
        out.send_data(part, body.is_empty()).unwrap();
    }
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200, "{method} {target}");
    let mut answer = answer.into_body();
    let mut whole = Vec::new();
    while let Some(part) = answer.data().await {
        let part = part.unwrap();
        answer.flow_control().release_capacity(part.len()).unwrap();
        whole.extend_from_slice(&part);
    }
    whole
}

fn run(conversation: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, conversation).await.expect("the conversation hangs") });
}

#[test]
fn http_2_over_tls_carries_every_kind_of_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    run(async {
        let socket = tokio::net::TcpStream::connect(gateway.proxy_tls()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(settings("h2").0);
        let stream = connector.connect("gate.test".try_into().unwrap(), socket).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        converse(stream).await;
    });
    assert!(upstream.seen().iter().all(|seen| seen.target() != "/smuggled"));
}

#[test]
fn a_reset_stream_ends_the_request_at_the_upstream() {
    let upstream = Arc::new(Upstream::start());
    let build = Gateway::build();
    let listen = format!("{} http2", build.proxy());
    let gateway = build.set("proxy_listen", listen).start();
    gateway.lead_to(&upstream);
    run(async {
        let socket = tokio::net::TcpStream::connect(gateway.proxy()).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = || http::Request::builder().uri("http://gate.test/hold").body(()).unwrap();
        let (answer, mut stream) = sender.send_request(request(), true).unwrap();
        let wait = upstream.clone();
        tokio::task::spawn_blocking(move || wait.wait_for_requests(1)).await.unwrap();
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
        let wait = upstream.clone();
        tokio::task::spawn_blocking(move || wait.wait_until_left_alone()).await.unwrap();
        assert_eq!(exchange(&mut sender, "GET", "/bytes/3", Bytes::new()).await, b"xxx");
        driver.abort();
    });
}

#[test]
fn http_2_without_tls_begins_with_prior_knowledge() {
    let upstream = Upstream::start();
    let build = Gateway::build();
    let listen = format!("{} http2", build.proxy());
    let gateway = build.set("proxy_listen", listen).start();
    gateway.lead_to(&upstream);
    run(async {
        converse(tokio::net::TcpStream::connect(gateway.proxy()).await.unwrap()).await;
    });
    // The same port goes on speaking HTTP/1.1.
    assert_eq!(gateway.get("/bytes/3").body, b"xxx");
}
