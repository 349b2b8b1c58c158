//! Who the client is said to be, with and without proxies in front that are trusted.

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
