//! `X-Kong-Request-Debug`: where a request's time went.

use portcullis_tests::{Answer, Gateway, Upstream, eventually};
use serde_json::{Value, json};

fn ask(gateway: &Gateway, path: &str, headers: &str) -> Answer {
    gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n{headers}\r\n"))
}

fn told(answer: &Answer) -> Option<Value> {
    answer.header("x-kong-request-debug-output").map(|text| serde_json::from_str(text).unwrap())
}

#[test]
fn a_client_on_this_machine_is_told_without_a_token() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let limits = gateway.admin().post("/plugins", json!({"name": "rate-limiting", "config": {"hour": 1000, "policy": "local"}}));
    let answer = ask(&gateway, "/echo", "X-Kong-Request-Debug: *\r\nX-Kong-Request-Debug-Log: true\r\n");
    let output = told(&answer).unwrap();
    assert_eq!(output["request_id"], answer.header("x-kong-request-id").unwrap());
    assert!(output["workspace_id"].is_string() && output["total_time_without_upstream"].is_number());
    let child = &output["child"];
    let id = limits["id"].as_str().unwrap();
    for path in [
        "/rewrite/total_time",
        "/access/total_time",
        "/access/child/router/total_time",
        &format!("/access/child/plugins/child/rate-limiting/child/{id}/total_time"),
        "/balancer/total_time",
        "/upstream/child/time_to_first_byte/total_time",
        "/header_filter/total_time",
    ] {
        assert!(child.pointer(path).is_some_and(Value::is_number), "{path}: {output}");
    }
    // None of these headers goes any further.
    let headers = answer.json()["headers"].as_object().unwrap().clone();
    assert!(headers.keys().all(|name| !name.starts_with("x-kong-request-debug")), "{headers:?}");
    eventually("the log tells it too", || gateway.output().contains(r#"[request-debug] output: {"child":{"access""#));
    assert!(gateway.output().contains("\"streaming\""), "{}", gateway.output());
}

#[test]
fn others_need_the_token() {
    let upstream = Upstream::start();
    // Behind a trusted proxy the client is the one that the proxy names.
    let gateway = Gateway::build().set("trusted_ips", "0.0.0.0/0").set("request_debug_token", "let me see").start();
    gateway.lead_to(&upstream);
    let from_elsewhere = |more: &str| ask(&gateway, "/echo", &format!("X-Real-IP: 192.0.2.1\r\nX-Kong-Request-Debug: *\r\n{more}"));
    assert_eq!(told(&from_elsewhere("")), None);
    assert_eq!(told(&from_elsewhere("X-Kong-Request-Debug-Token: guess\r\n")), None);
    assert!(told(&from_elsewhere("X-Kong-Request-Debug-Token: let me see\r\n")).is_some());
    // Only `*` asks for it.
    assert_eq!(told(&ask(&gateway, "/echo", "X-Kong-Request-Debug: yes\r\n")), None);
    let kept = std::fs::read_to_string(gateway.prefix().join(".request_debug_token")).unwrap();
    assert_eq!(kept, "let me see");
}

#[test]
fn an_answer_of_the_gateways_own_is_told_as_far_as_it_came() {
    let gateway = Gateway::start();
    let output = told(&ask(&gateway, "/nothing", "X-Kong-Request-Debug: *\r\n")).unwrap();
    assert!(output["child"]["access"]["child"]["router"]["total_time"].is_number(), "{output}");
    assert_eq!(output["child"].get("upstream"), None);
    let silent = Gateway::build().set("request_debug", "off").start();
    assert_eq!(told(&ask(&silent, "/nothing", "X-Kong-Request-Debug: *\r\n")), None);
}
