//! TLS towards upstreams: whom the gateway believes, and what it shows of itself.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use portcullis_tests::Gateway;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An authority and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key, signed for these names.
    fn sign(&self, names: &[&str], common_name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

/// A server that says which server name was asked for and whether a certificate was shown.
fn start_server(certificate: CertificateDer<'static>, key: &KeyPair, clients: Option<&Authority>) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).allow_unauthenticated().build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()));
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let session = stream.get_ref().1;
                let body = format!("{} {}", session.server_name().unwrap_or("-"), session.peer_certificates().is_some());
                tokio::spawn(async move {
                    let mut bytes = vec![0; 4096];
                    let _ = stream.read(&mut bytes).await;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
    });
    told.recv().unwrap()
}

fn lead(gateway: &Gateway, server: SocketAddr, host: &str) {
    let admin = gateway.admin();
    admin.post("/upstreams", json!({"name": host}));
    admin.post(&format!("/upstreams/{host}/targets"), json!({"target": format!("127.0.0.1:{}", server.port())}));
    admin.patch(&format!("/upstreams/{host}"), json!({"host_header": host}));
    admin.post("/services", json!({"name": "s", "protocol": "https", "host": host, "port": 443, "retries": 0}));
    admin.post("/services/s/routes", json!({"name": "r", "paths": ["/"]}));
}

fn told(gateway: &Gateway) -> (u16, String) {
    let answer = gateway.get("/");
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

#[test]
fn an_upstream_is_believed_by_the_authorities_of_its_service() {
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let (certificate, key) = good.sign(&["up.test"], "x");
    let server = start_server(certificate.der().clone(), &key, None);
    let gateway = Gateway::start();
    lead(&gateway, server, "up.test");
    let admin = gateway.admin();
    assert_eq!(told(&gateway), (200, "up.test false".to_owned()));
    admin.patch("/services/s", json!({"tls_verify": true}));
    assert_eq!(told(&gateway).0, 502, "there is no authority to believe");
    let id = |authority: &Authority| admin.post("/ca_certificates", json!({"cert": authority.pem()}))["id"].clone();
    let (good, other) = (id(&good), id(&other));
    admin.patch("/services/s", json!({"ca_certificates": [other]}));
    assert_eq!(told(&gateway).0, 502);
    admin.patch("/services/s", json!({"ca_certificates": [other, good]}));
    assert_eq!(told(&gateway).0, 200);
    admin.patch("/upstreams/up.test", json!({"host_header": "elsewhere.test"}));
    assert_eq!(told(&gateway).0, 502, "the certificate is for another name");
}

#[test]
fn names_and_roots_are_judged_as_openssl_does() {
    let authority = Authority::new("authority");
    let (certificate, key) = authority.sign(&[], "plain.test");
    let server = start_server(certificate.der().clone(), &key, None);
    let gateway = Gateway::start();
    lead(&gateway, server, "plain.test");
    let admin = gateway.admin();
    let id = admin.post("/ca_certificates", json!({"cert": authority.pem()}))["id"].clone();
    admin.patch("/services/s", json!({"tls_verify": true, "ca_certificates": [id]}));
    assert_eq!(told(&gateway).0, 200, "a certificate without DNS names goes by its common name");

    let mut params = CertificateParams::new(vec!["root.test".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let server = start_server(root.der().clone(), &key, None);
    let gateway = Gateway::start();
    lead(&gateway, server, "root.test");
    let admin = gateway.admin();
    let id = admin.post("/ca_certificates", json!({"cert": root.pem()}))["id"].clone();
    admin.patch("/services/s", json!({"tls_verify": true, "ca_certificates": [id]}));
    assert_eq!(told(&gateway).0, 200, "a root may serve by itself");
}

#[test]
fn the_services_certificate_goes_before_the_upstreams() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let (certificate, key) = servers.sign(&["up.test"], "x");
    let server = start_server(certificate.der().clone(), &key, Some(&clients));
    let gateway = Gateway::start();
    lead(&gateway, server, "up.test");
    let admin = gateway.admin();
    assert_eq!(told(&gateway), (200, "up.test false".to_owned()));
    let (own, key) = clients.sign(&["gate"], "gate");
    let made = admin.post("/certificates", json!({"cert": own.pem(), "key": key.serialize_pem()}))["id"].clone();
    admin.patch("/upstreams/up.test", json!({"client_certificate": {"id": made}}));
    assert_eq!(told(&gateway), (200, "up.test true".to_owned()));
    let (stranger, key) = Authority::new("strangers").sign(&["gate"], "gate");
    let strange = admin.post("/certificates", json!({"cert": stranger.pem(), "key": key.serialize_pem()}))["id"].clone();
    admin.patch("/services/s", json!({"client_certificate": {"id": strange}}));
    assert_eq!(told(&gateway).0, 502, "the server does not know who signed it");
    admin.patch("/services/s", json!({"client_certificate": null}));
    assert_eq!(told(&gateway), (200, "up.test true".to_owned()));
}
