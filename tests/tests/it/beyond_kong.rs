//! Plugins that Kong does not have: rewrite, https-redirect, access-control.

use portcullis_tests::{Answer, Gateway, Upstream};
use serde_json::{Value, json};

fn with(upstream: &Upstream, name: &str, config: Value) -> Gateway {
    let gateway = Gateway::build().set("plugins", format!("bundled,{name}")).start();
    gateway.lead_to(upstream);
    gateway.admin().post("/services/up/plugins", json!({"name": name, "config": config}));
    gateway
}

fn ask(gateway: &Gateway, method: &str, target: &str, headers: &str) -> Answer {
    gateway.ask(format!("{method} {target} HTTP/1.1\r\nHost: shop.test\r\n{headers}Connection: close\r\n\r\n"))
}

#[test]
fn the_first_rule_that_matches_rewrites_a_request() {
    let upstream = Upstream::start();
    let rules = json!([
        {"path": "^/shop/(?<kind>books|films)/([0-9]+)$", "set_path": "/v2/${kind}/item-$2", "set_query": {"from": "gateway"}},
        {"headers": {"X-Beta": "^yes$"}, "set_host": "beta.internal", "remove_headers": ["X-Beta"], "set_headers": {"X-Was": "beta"}},
        {"path": "^/shop/", "set_path": "/late"},
    ]);
    let gateway = with(&upstream, "rewrite", json!({"rules": rules}));
    let echoed = |target: &str, headers: &str| ask(&gateway, "GET", target, headers).json();
    assert_eq!(echoed("/shop/books/17?page=2", "X-Beta: yes\r\n")["target"], "/v2/books/item-17?page=2&from=gateway");
    let beta = echoed("/shop/toys/1", "X-Beta: yes\r\n");
    assert_eq!((&beta["target"], &beta["headers"]["host"]), (&json!("/shop/toys/1"), &json!("beta.internal")));
    assert_eq!((&beta["headers"]["x-beta"], &beta["headers"]["x-was"]), (&Value::Null, &json!("beta")));
    assert_eq!(echoed("/shop/toys/1", "")["target"], "/late");
    assert_eq!(echoed("/other", "")["target"], "/other");
}

#[test]
fn clients_without_tls_are_sent_to_it() {
    let upstream = Upstream::start();
    let config = json!({"hosts": ["*.test"], "port": 8443, "status_code": 308, "exclude_paths": ["/.well-known/"]});
    let gateway = with(&upstream, "https-redirect", config);
    let sent = ask(&gateway, "POST", "/cart?id=7", "");
    assert_eq!((sent.status, sent.header("location")), (308, Some("https://shop.test:8443/cart?id=7")));
    assert!(upstream.seen().is_empty());
    assert_eq!(ask(&gateway, "GET", "/.well-known/acme-challenge/x", "").status, 200);
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").status, 200);
}

#[test]
fn rules_decide_who_gets_in_and_can_be_changed_alone() {
    let upstream = Upstream::start();
    let rules = json!([
        {"name": "no deletes", "action": "deny", "methods": ["DELETE"]},
        {"name": "ann", "action": "allow", "consumers": ["ann"]},
        {"name": "deck", "action": "allow", "groups": ["crew"], "paths": ["/deck"]},
    ]);
    let gateway = with(&upstream, "access-control", json!({"explain": true, "rules": rules, "message": "not you"}));
    let admin = gateway.admin();
    admin.post("/services/up/plugins", json!({"name": "key-auth"}));
    for name in ["ann", "bob", "cyd"] {
        admin.post("/consumers", json!({"username": name}));
        admin.post(&format!("/consumers/{name}/key-auth"), json!({"key": name}));
    }
    admin.post("/consumers/bob/acls", json!({"group": "crew"}));
    let decided = |method: &str, target: &str, key: &str| {
        let answer = ask(&gateway, method, target, &format!("apikey: {key}\r\n"));
        (answer.status, answer.header("x-access-control-rule").map(str::to_owned))
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(decided("GET", "/hold-nothing", "ann"), (200, said("allow; rule 2 (ann)")));
    assert_eq!(decided("DELETE", "/echo", "ann"), (403, said("deny; rule 1 (no deletes)")));
    assert_eq!(decided("GET", "/deck/1", "bob"), (200, said("allow; rule 3 (deck)")));
    assert_eq!(decided("GET", "/bridge/../deck/1", "cyd"), (403, said("deny; default")));
    let refused = ask(&gateway, "GET", "/bridge", "apikey: bob\r\n");
    assert_eq!((refused.status, &refused.json()["message"]), (403, &json!("not you")));

    let plugins = admin.get("/services/up/plugins");
    let plugin = plugins["data"].as_array().unwrap().iter().find(|plugin| plugin["name"] == "access-control").unwrap();
    let path = format!("/plugins/{}", plugin["id"].as_str().unwrap());
    let patched = admin.patch(&path, json!({"config": {"rules": [{"action": "allow", "consumers": ["cyd"]}]}}));
    assert_eq!((&patched["config"]["message"], &patched["config"]["explain"]), (&json!("not you"), &json!(true)));
    assert_eq!(decided("GET", "/bridge", "cyd"), (200, said("allow; rule 1")));
    assert_eq!(decided("GET", "/bridge", "ann"), (403, said("deny; default")));
}
