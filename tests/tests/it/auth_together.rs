//! Several authenticating plugins on one route, and what becomes of credentials whose consumers go.

use portcullis_tests::{Answer, Gateway, Upstream};
use serde_json::{Value, json};

fn gateway(upstream: &Upstream, anonymous: bool) -> Gateway {
    let gateway = Gateway::before(upstream);
    let admin = gateway.admin();
    for name in ["anna", "bert", "guest"] {
        admin.post("/consumers", json!({"username": name}));
    }
    admin.post("/consumers/anna/key-auth", json!({"key": "k"}));
    admin.post("/consumers/bert/basic-auth", json!({"username": "bert", "password": "pass:word"}));
    let config = if anonymous { json!({"anonymous": "guest"}) } else { json!({}) };
    for plugin in ["key-auth", "basic-auth"] {
        admin.post("/services/up/plugins", json!({"name": plugin, "config": config}));
    }
    gateway
}

const KEY: &str = "apikey: k\r\n";
/// `bert:pass:word`.
const PASSWORD: &str = "Authorization: Basic YmVydDpwYXNzOndvcmQ=\r\n";

fn ask(gateway: &Gateway, headers: &[&str]) -> Answer {
    gateway.ask(format!("GET /echo HTTP/1.1\r\nHost: gate.test\r\nX-Consumer-Username: forged\r\n{}\r\n", headers.concat()))
}

fn who(answer: &Answer) -> Value {
    answer.json()["headers"]["x-consumer-username"].clone()
}

#[test]
fn without_anonymous_all_of_them_have_to_agree() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, false);
    let both = ask(&gateway, &[KEY, PASSWORD]);
    assert_eq!((both.status, who(&both)), (200, json!("bert")));
    let key_only = ask(&gateway, &[KEY]);
    assert_eq!((key_only.status, key_only.header("www-authenticate")), (401, Some("Basic realm=\"service\"")));
    let password_only = ask(&gateway, &[PASSWORD]);
    assert_eq!((password_only.status, password_only.header("www-authenticate")), (401, Some("Key")));
}

#[test]
fn with_anonymous_any_of_them_will_do() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, true);
    let seen = [vec![KEY], vec![PASSWORD], vec![KEY, PASSWORD], vec![]].map(|headers| ask(&gateway, &headers));
    assert_eq!(
        seen.each_ref().map(|answer| (answer.status, who(answer))),
        [(200, json!("anna")), (200, json!("bert")), (200, json!("anna")), (200, json!("guest"))]
    );
    let anonymous = seen.each_ref().map(|answer| answer.json()["headers"]["x-anonymous-consumer"].clone());
    assert_eq!(anonymous, [Value::Null, Value::Null, Value::Null, json!("true")]);
}

#[test]
fn credentials_go_with_their_consumers_and_an_absent_anonymous_is_an_error() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, true);
    assert_eq!(who(&ask(&gateway, &[KEY])), "anna");
    gateway.admin().delete("/consumers/anna");
    assert_eq!(who(&ask(&gateway, &[KEY])), "guest");
    gateway.admin().delete("/consumers/guest");
    let failed = ask(&gateway, &[KEY]);
    assert_eq!((failed.status, &failed.json()["message"]), (500, &json!("An unexpected error occurred")));
}
