//! acme against a small authority that issues what it is asked for, after it has seen the proof.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use portcullis_tests::{Gateway, Redis, Upstream, eventually, free_port};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};

/// An authority over plain HTTP. It looks at requests' shape and order, and for the proof at the gateway; their signatures are
/// checked by tests of the plugin.
pub struct Directory {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    base: String,
    /// Where the proxy listens: every name is there.
    proxy: SocketAddr,
    /// A CA of this test's own.
    ca: PathBuf,
    orders: Mutex<Vec<Order>>,
    /// Whether it should turn down the next nonce, as authorities may.
    stale_once: Mutex<bool>,
}

struct Order {
    name: String,
    proven: bool,
    chain: Option<String>,
}

impl Directory {
    fn start(proxy: SocketAddr, ca: &std::path::Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let base = format!("http://{address}");
        let state = Arc::new(State { base, proxy, ca: ca.to_owned(), orders: Mutex::default(), stale_once: Mutex::new(true) });
        let serving = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = serving.clone();
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Self { address, state }
    }

    fn url(&self) -> String {
        format!("http://{}/directory", self.address)
    }

    /// How many orders there were.
    pub fn orders(&self) -> usize {
        self.state.orders.lock().unwrap().len()
    }
}

fn payload(body: &Value) -> Value {
    let text = body["payload"].as_str().unwrap();
    if text.is_empty() { Value::Null } else { serde_json::from_slice(&decode(text)).unwrap() }
}

/// Undoes base64 for URLs.
fn decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        bits = bits << 6 | ALPHABET.iter().position(|known| *known == byte).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

impl State {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let (method, path) = (line.split(' ').next().unwrap().to_owned(), line.split(' ').nth(1).unwrap().to_owned());
            let mut length = 0;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                if header.trim().is_empty() {
                    break;
                }
                if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (status, location, text) = self.answer(&method, &path, &body);
            let location = location.map_or_else(String::new, |at| format!("Location: {}{at}\r\n", self.base));
            let head = format!(
                "HTTP/1.1 {status} X\r\nReplay-Nonce: n{}\r\n{location}Content-Length: {}\r\n\r\n",
                self.orders.lock().unwrap().len(),
                text.len()
            );
            let body = if method == "HEAD" { "" } else { &text };
            if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Option<String>, String) {
        let base = &self.base;
        let number = |path: &str| path.rsplit('/').next().unwrap().parse::<usize>().unwrap();
        let mut orders = self.orders.lock().unwrap();
        match (method, path) {
            ("GET", "/directory") => {
                let names = json!({"newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"), "newOrder": format!("{base}/order")});
                (200, None, names.to_string())
            }
            ("HEAD", "/nonce") => (200, None, String::new()),
            ("POST", "/account") => {
                if std::mem::take(&mut *self.stale_once.lock().unwrap()) {
                    return (400, None, json!({"type": "urn:ietf:params:acme:error:badNonce", "detail": "stale"}).to_string());
                }
                assert_eq!(payload(body)["contact"], json!(["mailto:op@ship.test"]));
                (201, Some("/account/1".to_owned()), "{}".to_owned())
            }
            ("POST", "/order") => {
                let name = payload(body)["identifiers"][0]["value"].as_str().unwrap().to_owned();
                orders.push(Order { name, proven: false, chain: None });
                let at = orders.len() - 1;
                let order = json!({"status": "pending", "authorizations": [format!("{base}/authz/{at}")], "finalize": format!("{base}/finalize/{at}")});
                (201, Some(format!("/order/{at}")), order.to_string())
            }
            ("POST", path) if path.starts_with("/authz/") => {
                let at = number(path);
                let status = if orders[at].proven { "valid" } else { "pending" };
                let challenge = json!({"type": "http-01", "token": format!("token-{at}"), "url": format!("{base}/challenge/{at}")});
                (200, None, json!({"status": status, "challenges": [{"type": "dns-01"}, challenge]}).to_string())
            }
            ("POST", path) if path.starts_with("/challenge/") => {
                let at = number(path);
                let (name, proxy) = (orders[at].name.clone(), self.proxy);
                let mut proof = TcpStream::connect(proxy).unwrap();
                let ask = format!("GET /.well-known/acme-challenge/token-{at} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
                proof.write_all(ask.as_bytes()).unwrap();
                let mut answer = String::new();
                proof.read_to_string(&mut answer).unwrap();
                orders[at].proven = answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("token-{at}."));
                (200, None, "{}".to_owned())
            }
            ("POST", path) if path.starts_with("/finalize/") => {
                let at = number(path);
                assert!(orders[at].proven);
                orders[at].chain = Some(self.sign(&decode(payload(body)["csr"].as_str().unwrap())));
                (200, None, "{}".to_owned())
            }
            ("POST", path) if path.starts_with("/order/") => {
                let at = number(path);
                let order = json!({"status": "valid", "certificate": format!("{base}/certificate/{at}")});
                (200, None, order.to_string())
            }
            ("POST", path) if path.starts_with("/certificate/") => (200, None, orders[number(path)].chain.clone().unwrap()),
            _ => (404, None, json!({"detail": "no such place"}).to_string()),
        }
    }

    fn sign(&self, csr: &[u8]) -> String {
        let file = self.ca.join("request.der");
        std::fs::write(&file, csr).unwrap();
        let output = Command::new("openssl")
            .args(["x509", "-req", "-inform", "DER", "-days", "90", "-copy_extensions", "copy", "-in"])
            .arg(&file)
            .arg("-CA")
            .arg(self.ca.join("ca.pem"))
            .arg("-CAkey")
            .arg(self.ca.join("ca.key"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn authority(directory: &std::path::Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "Ship CA");
    let certificate = parameters.self_signed(&key).unwrap();
    std::fs::write(directory.join("ca.pem"), certificate.pem()).unwrap();
    std::fs::write(directory.join("ca.key"), key.serialize_pem()).unwrap();
}

/// The certificate that a client is shown for a name, in DER.
fn shown(gateway: &Gateway, name: &str) -> Vec<u8> {
    let (config, witness) = crate::tls_and_http2::settings("http/1.1");
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(config, server).unwrap();
    let mut stream = TcpStream::connect(gateway.proxy_tls()).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).unwrap();
    }
    let certificate = witness.0.lock().unwrap();
    certificate.clone()
}

fn issuer(certificate: &[u8]) -> String {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).unwrap();
    certificate.issuer().iter_common_name().next().map_or_else(String::new, |name| name.as_str().unwrap().to_owned())
}

fn with_acme(storage: &str) -> (Gateway, Directory, Upstream, tempfile::TempDir) {
    with_acme_in(json!({"storage": storage}))
}

fn with_acme_in(storage: Value) -> (Gateway, Directory, Upstream, tempfile::TempDir) {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let ca = tempfile::TempDir::new().unwrap();
    authority(ca.path());
    let directory = Directory::start(gateway.proxy(), ca.path());
    let mut config = json!({"account_email": "op@ship.test", "api_uri": directory.url(), "domains": ["*.ship.test"], "cert_type": "ecc"});
    config.as_object_mut().unwrap().extend(storage.as_object().unwrap().clone());
    gateway.admin().post("/plugins", json!({"name": "acme", "config": config}));
    (gateway, directory, upstream, ca)
}

#[test]
fn a_handshake_for_a_name_without_certificate_makes_an_order() {
    let (mut gateway, directory, _upstream, _ca) = with_acme("kong");
    assert_ne!(issuer(&shown(&gateway, "deck.ship.test")), "Ship CA");
    eventually("the certificate is served", || issuer(&shown(&gateway, "deck.ship.test")) == "Ship CA");
    assert_eq!(directory.orders(), 1);
    shown(&gateway, "deck.other.test");

    let listed = gateway.admin().get("/acme/certificates");
    let certificate = &listed["data"][0];
    assert_eq!(
        (&certificate["host"], &certificate["issuer_cn"], &certificate["pubkey_type"]),
        (&json!("deck.ship.test"), &json!("Ship CA"), &json!("id-ecPublicKey"))
    );
    assert_eq!(gateway.admin().get("/acme/certificates/deck.ship.test")["data"]["valid"], true);

    // What is kept in the database is served from the first handshake after a restart on.
    gateway.signal("TERM");
    gateway.wait();
    gateway.start_again();
    eventually("the kept certificate is served", || issuer(&shown(&gateway, "deck.ship.test")) == "Ship CA");
    assert_eq!(directory.orders(), 1);
}

#[test]
fn what_is_kept_in_redis_outlives_the_node() {
    let redis = Redis::for_user("gate", "sesame");
    let place = json!({"host": "127.0.0.1", "port": redis.port(), "username": "gate", "password": "sesame", "database": 2,
        "extra_options": {"namespace": "ship:"}});
    outlives_the_node(json!({"storage": "redis", "storage_config": {"redis": place}}), || {
        let keys = redis.ask(&["--user", "gate", "--pass", "sesame", "--no-auth-warning", "-n", "2", "KEYS", "*"]);
        assert!(keys.iter().any(|key| key == "ship:kong_acme:cert_key:deck.ship.test"), "{keys:?}");
        assert!(keys.iter().all(|key| key.starts_with("ship:")), "{keys:?}");
    });
}

/// Orders a certificate, looks at where it is kept, and finds it served after a restart without another order.
pub fn outlives_the_node(storage: Value, is_kept: impl FnOnce()) {
    let (mut gateway, directory, _upstream, _ca) = with_acme_in(storage);
    let made = gateway.admin().send("POST", "/acme", Some(r#"{"host": "deck.ship.test"}"#));
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!((directory.orders(), issuer(&shown(&gateway, "deck.ship.test")).as_str()), (1, "Ship CA"));
    is_kept();
    assert_eq!(gateway.admin().get("/acme/certificates")["data"][0]["host"], "deck.ship.test");
    gateway.signal("TERM");
    gateway.wait();
    gateway.start_again();
    eventually("the kept certificate is served", || issuer(&shown(&gateway, "deck.ship.test")) == "Ship CA");
    assert_eq!(directory.orders(), 1);
}

#[test]
fn certificates_are_ordered_by_hand_and_proofs_are_answered_on_plain_http_only() {
    let (gateway, directory, upstream, _ca) = with_acme("shm");
    let admin = gateway.admin();
    let answer = admin.send("POST", "/acme", Some(r#"{"host": "mast.ship.test"}"#));
    assert_eq!((answer.status, &answer.body["message"]), (201, &json!("certificate for host mast.ship.test is created")));
    assert_eq!((directory.orders(), issuer(&shown(&gateway, "mast.ship.test")).as_str()), (1, "Ship CA"));
    let ask = |host: &str, token: &str| gateway.ask(format!("GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!((ask("mast.ship.test", "x").status, ask("mast.ship.test", "x").text().as_str()), (404, "Not found\n"));
    assert!(ask("mast.ship.test", "token-0").text().starts_with("token-0."));
    assert!(upstream.seen().is_empty());
    for (body, message) in [
        (r#"{}"#, "host must be provided and containing a single domain"),
        (r#"{"host": "a.ship.test:80"}"#, "port is not allowed in host"),
    ] {
        let refused = admin.send("POST", "/acme", Some(body));
        assert_eq!((refused.status, &refused.body["message"]), (400, &json!(message)));
    }
    assert_eq!(admin.send("PATCH", "/acme", None).status, 202);
}

#[test]
fn an_authority_that_cannot_be_reached_leaves_the_nodes_own_certificate() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let config =
        json!({"account_email": "op@ship.test", "api_uri": format!("http://127.0.0.1:{}/", free_port()), "allow_any_domain": true});
    gateway.admin().post("/plugins", json!({"name": "acme", "config": config}));
    assert_ne!(issuer(&shown(&gateway, "deck.ship.test")), "Ship CA");
    let failed = gateway.admin().send("POST", "/acme", Some(r#"{"host": "deck.ship.test"}"#));
    assert_eq!(failed.status, 500);
}
