//! TLS from clients: which certificate, which versions, which protocol.

use portcullis_tests::{Connection, Gateway, Upstream};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use serde_json::json;
use std::sync::Arc;

/// A client that trusts this certificate only, so a handshake shows which one was sent.
pub fn client(trusted: &CertificateDer<'static>, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A self-signed certificate for these names, stored in the gateway for those SNIs.
pub fn certificate(gateway: &Gateway, names: &[&str]) -> CertificateDer<'static> {
    let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(owned).unwrap();
    let body = json!({"cert": made.cert.pem(), "key": made.signing_key.serialize_pem(), "snis": names});
    gateway.admin().post("/certificates", &body).expect(201);
    made.cert.der().clone()
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn the_sni_chooses_the_certificate() {
    let (gateway, upstream) = (Gateway::start(), Upstream::start());
    gateway.route("a", upstream.address);
    let (exact, wild) = (certificate(&gateway, &["one.test"]), certificate(&gateway, &["*.wild.test"]));
    for (name, trusted) in [("one.test", &exact), ("x.wild.test", &wild)] {
        let mut connection = Connection::open_tls(gateway.proxy_tls, name, client(trusted, BOTH, &[])).unwrap();
        connection.send(format!("GET /a HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes());
        let answer = connection.response();
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(r#"["x-forwarded-proto","https"]"#), "{}", answer.text());
    }
    assert!(Connection::open_tls(gateway.proxy_tls, "other.test", client(&exact, BOTH, &[])).is_err());
}

#[test]
fn without_a_certificate_for_the_name_a_self_signed_one_is_sent() {
    let gateway = Gateway::start();
    let folder = gateway.prefix().join("ssl");
    let file = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with("default.crt"));
    let trusted = CertificateDer::from_pem_file(file.expect("a default certificate")).unwrap();
    let mut connection = Connection::open_tls(gateway.proxy_tls, "localhost", client(&trusted, BOTH, &[])).unwrap();
    connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.response().status, 404);
}

#[test]
fn both_versions_are_spoken_and_the_protocol_is_agreed_on() {
    let gateway = Gateway::start();
    let trusted = certificate(&gateway, &["one.test"]);
    for (version, spoken) in [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)] {
        let config = client(&trusted, &[version], &["http/1.1"]);
        let connection = Connection::open_tls(gateway.proxy_tls, "one.test", config).unwrap();
        assert_eq!(connection.tls(), Some((spoken, Some("http/1.1".to_owned()))));
        let config = client(&trusted, &[version], &["h2", "http/1.1"]);
        let connection = Connection::open_tls(gateway.proxy_tls, "one.test", config).unwrap();
        assert_eq!(connection.tls(), Some((spoken, Some("h2".to_owned()))));
    }
}

#[test]
fn plain_http_on_the_tls_port_is_refused() {
    let gateway = Gateway::start();
    let mut connection = Connection::open(gateway.proxy_tls);
    connection.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(!String::from_utf8_lossy(&connection.read_to_end()).contains(" 200 "));
}
