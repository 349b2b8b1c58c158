//! Who the client is said to be, with and without proxies in front that are trusted.

use std::io::{Read, Write};
use std::net::TcpListener;

use portcullis_tests::{Gateway, Upstream};
use serde_json::{Value, json};

/// The headers the upstream saw of a request with these lines.
fn forwarded(gateway: &Gateway, before: &str, lines: &str) -> Value {
    gateway.ask(format!("{before}GET /echo HTTP/1.1\r\nHost: gate.test\r\n{lines}\r\n")).json()["headers"].take()
}

#[test]
fn a_chain_begins_with_the_client_a_trusted_peer_names() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("trusted_ips", "127.0.0.0/8").start();
    gateway.lead_to(&upstream);
    let headers = forwarded(&gateway, "", "X-Real-IP: 9.9.9.9\r\n");
    assert_eq!((&headers["x-real-ip"], &headers["x-forwarded-for"]), (&json!("9.9.9.9"), &json!("9.9.9.9")));
    let headers = forwarded(&gateway, "", "X-Real-IP: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\n");
    assert_eq!(headers["x-forwarded-for"], "8.8.8.8, 127.0.0.1");
}

#[test]
fn a_trusted_peers_values_stand_but_empty_ones_are_left_out() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("trusted_ips", "127.0.0.0/8").start();
    gateway.lead_to(&upstream);
    let lines = "X-Forwarded-Proto: \r\nX-Forwarded-Host: \r\nX-Forwarded-Port: 99\r\nX-Forwarded-Prefix: /\r\n";
    let headers = forwarded(&gateway, "", lines);
    assert!(headers["x-forwarded-proto"].is_null() && headers["x-forwarded-host"].is_null(), "{headers}");
    assert_eq!((&headers["x-forwarded-port"], &headers["x-forwarded-prefix"]), (&json!("99"), &json!("/")));
}

#[test]
fn a_request_without_a_host_is_for_kongs_server() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    assert_eq!(gateway.ask("GET /echo HTTP/1.0\r\n\r\n").json()["headers"]["x-forwarded-host"], "kong");
}

#[test]
fn a_proxy_header_names_the_client_only_where_it_is_asked_for_and_trusted() {
    let upstream = Upstream::start();
    for (settings, expected) in [
        (&[("trusted_ips", "127.0.0.0/8"), ("real_ip_header", "proxy_protocol")][..], "10.1.2.3"),
        (&[("real_ip_header", "proxy_protocol")], "127.0.0.1"),
        (&[("trusted_ips", "127.0.0.0/8")], "127.0.0.1"),
    ] {
        let build = Gateway::build();
        let address = build.proxy();
        let build = build.set("proxy_listen", format!("{address} proxy_protocol"));
        let gateway = settings.iter().fold(build, |build, (key, value)| build.set(key, *value)).start();
        gateway.lead_to(&upstream);
        let headers = forwarded(&gateway, "PROXY TCP4 10.1.2.3 10.9.9.9 77 88\r\n", "X-Forwarded-For: 8.8.8.8\r\n");
        assert_eq!(headers["x-real-ip"], expected, "{settings:?}");
        assert_eq!(headers["x-forwarded-for"], "8.8.8.8, 127.0.0.1", "{settings:?}");
        assert_eq!(headers["x-forwarded-port"], json!(address.port().to_string()), "{settings:?}");
    }
}

#[test]
fn a_clients_request_id_passes_where_the_gateway_sends_none() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("headers_upstream", "off").start();
    gateway.lead_to(&upstream);
    assert_eq!(forwarded(&gateway, "", "X-Kong-Request-Id: theirs\r\n")["x-kong-request-id"], "theirs");
}

#[test]
fn what_an_upstream_says_to_nginx_stays_behind_and_its_own_gateways_lines_give_way_to_ours() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let upstream = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            let lines = "X-Accel-Redirect: /a\r\nX-Kong-Upstream-Status: 3\r\nX-Kong-Proxy-Latency: 77\r\nX-Other: 1\r\nConnection: close";
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n\r\n").unwrap();
        }
    });
    let seen = |headers: &str| {
        let gateway = Gateway::build().set("headers", headers).start();
        gateway.admin().post("/services", json!({ "name": "up", "url": format!("http://{address}") }));
        gateway.admin().post("/services/up/routes", json!({ "paths": ["/"] }));
        let answer = gateway.get("/");
        ["x-accel-redirect", "x-kong-upstream-status", "x-kong-proxy-latency", "x-other"].map(|name| answer.header(name).map(str::to_owned))
    };
    assert_eq!(seen("off"), [None, Some("3".to_owned()), Some("77".to_owned()), Some("1".to_owned())]);
    let [redirect, status, latency, _] = seen("X-Kong-Upstream-Status, latency_tokens");
    assert_eq!((redirect, status.as_deref()), (None, Some("200")));
    assert_ne!(latency.as_deref(), Some("77"));
    upstream.join().unwrap();
}
