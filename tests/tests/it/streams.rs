//! TCP, TLS and UDP through `stream_listen`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use portcullis_tests::{Gateway, PATIENCE, eventually, free_port};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

/// A server that greets each connection with its number and sends back what it gets until the client ends.
fn start_echo(greeting: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let _ = stream.write_all(greeting.as_bytes());
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all);
                let _ = stream.write_all(&all);
            });
        }
    });
    address
}

fn gateway(flags: &str, settings: &[(&str, &str)]) -> (Gateway, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut build = Gateway::build().set("stream_listen", format!("{address} {flags}"));
    for (key, value) in settings {
        build = build.set(key, *value);
    }
    (build.start(), address)
}

/// Leads connections that the route's fields describe to `host:port`.
fn lead(gateway: &Gateway, name: &str, service: serde_json::Value, mut route: serde_json::Value) {
    let admin = gateway.admin();
    let mut made = service;
    made["name"] = name.into();
    admin.post("/services", made);
    route["name"] = name.into();
    admin.post(&format!("/services/{name}/routes"), route);
}

fn tcp(server: SocketAddr) -> serde_json::Value {
    json!({"protocol": "tcp", "host": "127.0.0.1", "port": server.port()})
}

/// Says `text`, ends its side, and hears the other side to its end.
fn converse(mut stream: impl Read + Write, finish: impl FnOnce(&mut dyn Write), text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    finish(&mut stream);
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn say(address: SocketAddr, text: &str) -> String {
    let stream = connect(address);
    let other = stream.try_clone().unwrap();
    converse(stream, |_| other.shutdown(std::net::Shutdown::Write).unwrap(), text)
}

#[test]
fn tcp_connections_are_led_by_where_they_were_made_to() {
    let server = start_echo("hello ");
    let (gateway, address) = gateway("", &[]);
    lead(&gateway, "a", tcp(server), json!({"protocols": ["tcp"], "destinations": [{"port": address.port()}]}));
    assert_eq!(say(address, "world"), "hello world");
    let large = "x".repeat(3 << 20);
    assert_eq!(say(address, &large).len(), large.len() + 6);
    gateway.admin().patch("/routes/a", json!({"destinations": [{"port": 1}]}));
    assert_eq!(connect(address).read(&mut [0; 8]).unwrap_or(0), 0, "nobody is led anywhere any more");
}

#[test]
fn a_target_that_refuses_is_passed_over() {
    let server = start_echo("hello ");
    let (gateway, address) = gateway("", &[]);
    let admin = gateway.admin();
    admin.post("/upstreams", json!({"name": "both"}));
    for port in [free_port(), server.port()] {
        admin.post("/upstreams/both/targets", json!({"target": format!("127.0.0.1:{port}")}));
    }
    let service = json!({"protocol": "tcp", "host": "both", "port": 80});
    lead(&gateway, "a", service, json!({"protocols": ["tcp"], "destinations": [{"port": address.port()}]}));
    for _ in 0..4 {
        assert_eq!(say(address, "world"), "hello world");
    }
}

#[test]
fn plugins_that_know_streams_have_their_turn_and_log() {
    let server = start_echo("hello ");
    let (gateway, address) = gateway("", &[]);
    lead(&gateway, "a", tcp(server), json!({"protocols": ["tcp"], "destinations": [{"port": address.port()}]}));
    let log = std::env::temp_dir().join(format!("portcullis-streams-{}", std::process::id()));
    let admin = gateway.admin();
    let protocols = json!(["tcp", "tls"]);
    let logged = json!({"name": "file-log", "protocols": protocols, "config": {"path": log, "reopen": true}});
    admin.post("/routes/a/plugins", logged);
    assert_eq!(say(address, "world"), "hello world");
    let denied = json!({"name": "ip-restriction", "protocols": protocols, "config": {"deny": ["127.0.0.0/8"]}});
    admin.post("/routes/a/plugins", denied);
    assert_eq!(connect(address).read(&mut [0; 8]).unwrap_or(0), 0);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    eventually("both connections are logged", || lines().len() == 2);
    let entries: Vec<serde_json::Value> = lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries[0]["session"]["sent"], 11);
    assert_eq!(entries[0]["session"]["received"], 5);
    assert_eq!(entries[0]["session"]["status"], 200);
    assert_eq!(entries[0]["tries"][0]["port"], server.port());
    assert_eq!(entries[1]["session"]["status"], 403);
    std::fs::remove_file(log).unwrap();
}

#[test]
fn the_client_is_announced_where_that_is_asked_for() {
    let server = start_echo("");
    let (gateway, address) = gateway("proxy_protocol", &[("nginx_sproxy_proxy_protocol", "on")]);
    lead(&gateway, "a", tcp(server), json!({"protocols": ["tcp"], "sources": [{"ip": "10.1.2.3"}]}));
    let echoed = say(address, "PROXY TCP4 10.1.2.3 10.9.9.9 77 88\r\nworld");
    assert_eq!(echoed, "PROXY TCP4 10.1.2.3 10.9.9.9 77 88\r\nworld");
}

#[test]
fn tls_is_ended_here_or_passed_through_as_the_route_says() {
    let server = start_echo("hello ");
    let (gateway, address) = gateway("ssl", &[]);
    lead(&gateway, "ended", tcp(server), json!({"protocols": ["tls"], "snis": ["ended.test"]}));
    let own = rcgen::generate_simple_self_signed(vec!["ended.test".to_owned()]).unwrap();
    let pair = json!({"cert": own.cert.pem(), "key": own.signing_key.serialize_pem(), "snis": ["ended.test"]});
    gateway.admin().post("/certificates", pair);
    // What is passed through ends at the other gateway, which has a certificate of its own.
    let (inner, inside) = self::gateway("ssl", &[]);
    lead(&inner, "inner", tcp(start_echo("inner ")), json!({"protocols": ["tls"], "snis": ["passed.test"]}));
    let other = rcgen::generate_simple_self_signed(vec!["passed.test".to_owned()]).unwrap();
    let pair = json!({"cert": other.cert.pem(), "key": other.signing_key.serialize_pem(), "snis": ["passed.test"]});
    inner.admin().post("/certificates", pair);
    lead(&gateway, "passed", tcp(inside), json!({"protocols": ["tls_passthrough"], "snis": ["passed.test"]}));
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    roots.add(other.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(versions.with_root_certificates(roots).with_no_client_auth());
    for (name, answer) in [("ended.test", "hello world"), ("passed.test", "inner world")] {
        let session = ClientConnection::new(config.clone(), name.try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(session, connect(address));
        stream.write_all(b"world").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        assert_eq!(all, answer, "{name}");
    }
}

#[test]
fn datagrams_are_answered_to_whom_they_came_from() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = server.recv_from(&mut bytes) {
            bytes[..length].reverse();
            let _ = server.send_to(&bytes[..length], from);
        }
    });
    let (gateway, address) = gateway("udp", &[]);
    let service = json!({"protocol": "udp", "host": "127.0.0.1", "port": to.port()});
    lead(&gateway, "a", service, json!({"protocols": ["udp"], "destinations": [{"port": address.port()}]}));
    let clients = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()];
    for (text, back) in [("abc", "cba"), ("de", "ed")] {
        for client in &clients {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send_to(text.as_bytes(), address).unwrap();
        }
        for client in &clients {
            let mut bytes = [0; 64];
            let (length, from) = client.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..length], from), (back.as_bytes(), address));
        }
    }
}
