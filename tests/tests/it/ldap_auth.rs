//! ldap-auth against a real LDAP server.

use portcullis_tests::{Answer, Gateway, Slapd, Upstream};
use serde_json::{Value, json};

/// `base64` of `dora:lantern`, `dora:wrong` and `eve:harbour`.
const DORA: &str = "ZG9yYTpsYW50ZXJu";
const DORA_WRONG: &str = "ZG9yYTp3cm9uZw==";
const EVE: &str = "ZXZlOmhhcmJvdXI=";

fn slapd() -> Slapd {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    Slapd::start(&[("dora", "lantern"), ("eve", "harbour")], &made.cert.pem(), &made.signing_key.serialize_pem())
}

fn before(upstream: &Upstream, port: u16, more: Value) -> Gateway {
    let gateway = Gateway::before(upstream);
    let mut config = json!({"ldap_host": "127.0.0.1", "ldap_port": port, "base_dn": "ou=crew,dc=ship,dc=test", "attribute": "uid"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    gateway.admin().post("/services/up/plugins", json!({"name": "ldap-auth", "config": config}));
    gateway
}

fn ask(gateway: &Gateway, credentials: &str) -> Answer {
    gateway.ask(format!("GET /echo HTTP/1.1\r\nHost: gate.test\r\nAuthorization: LDAP {credentials}\r\nX-Consumer-ID: forged\r\n\r\n"))
}

#[test]
fn who_knows_the_password_is_let_in() {
    let (slapd, upstream) = (slapd(), Upstream::start());
    let gateway = before(&upstream, slapd.port(), json!({"hide_credentials": true}));
    let answer = ask(&gateway, DORA);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let headers = &answer.json()["headers"];
    assert_eq!((&headers["x-credential-identifier"], &headers["x-consumer-id"]), (&json!("dora"), &Value::Null));
    assert_eq!(headers["authorization"], Value::Null);
    let refused = ask(&gateway, DORA_WRONG);
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("LDAP")));
    assert_eq!(ask(&gateway, EVE).status, 200);
}

#[test]
fn both_kinds_of_outcome_are_remembered_and_a_lost_server_fails_the_rest() {
    let (mut slapd, upstream) = (slapd(), Upstream::start());
    let gateway = before(&upstream, slapd.port(), json!({"cache_ttl": 600}));
    assert_eq!((ask(&gateway, DORA).status, ask(&gateway, DORA_WRONG).status), (200, 401));
    slapd.kill();
    assert_eq!((ask(&gateway, DORA).status, ask(&gateway, DORA_WRONG).status), (200, 401));
    let failed = ask(&gateway, EVE);
    assert_eq!((failed.status, &failed.json()["message"]), (500, &json!("An unexpected error occurred")));
}

#[test]
fn connections_are_encrypted_from_the_start_or_by_start_tls() {
    let (slapd, upstream) = (slapd(), Upstream::start());
    for (port, mode) in [(slapd.tls_port(), json!({"ldaps": true})), (slapd.port(), json!({"start_tls": true}))] {
        let gateway = before(&upstream, port, mode.clone());
        // Twice over one connection: the second login finds the first one's kept.
        assert_eq!((ask(&gateway, DORA).status, ask(&gateway, EVE).status, ask(&gateway, DORA_WRONG).status), (200, 200, 401), "{mode}");
    }
}

#[test]
fn a_certificate_nobody_vouches_for_is_refused_if_it_is_looked_at() {
    let (slapd, upstream) = (slapd(), Upstream::start());
    let gateway = before(&upstream, slapd.tls_port(), json!({"ldaps": true, "verify_ldap_host": true}));
    assert_eq!(ask(&gateway, DORA).status, 500);
}
