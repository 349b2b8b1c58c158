//! Wrong settings and wrong requests to the Admin API: said clearly, and nothing changes.

use std::net::TcpListener;

use portcullis_tests::{Gateway, Upstream};
use serde_json::json;

#[test]
fn wrong_settings_are_all_named_and_nothing_starts() {
    let build = Gateway::build().set("nginx_main_worker_processes", "many").set("log_level", "loud").set("proxy_listen", "127.0.0.1:port");
    let outcome = build.run(&["start"]);
    assert_eq!(outcome.code, Some(1));
    for part in ["nginx_main_worker_processes", "log_level", "proxy_listen"] {
        assert!(outcome.output.contains(part), "{part} is not named: {}", outcome.output);
    }
    assert!(!build.prefix().join("portcullis.db").exists());
    assert!(!build.prefix().join("pids").exists());
}

#[test]
fn a_wrong_file_is_refused_and_a_missing_one_too() {
    let build = Gateway::build();
    let file = build.prefix().join("wrong.conf");
    std::fs::write(&file, "upstream_keepalive_pool_size = some\nmem_cache_size = big\n").unwrap();
    let file = file.display().to_string();
    let outcome = build.run(&["start", "-c", &file]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.output);
    assert!(outcome.output.contains("upstream_keepalive_pool_size"), "{}", outcome.output);
    assert_eq!(build.run(&["check", &file]).code, Some(1));
    let outcome = build.run(&["start", "-c", "/nowhere/kong.conf"]);
    assert_eq!((outcome.code, outcome.output.contains("/nowhere/kong.conf")), (Some(1), true), "{}", outcome.output);
    assert_eq!(build.run(&["fly"]).code, Some(1));
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["proxy_listen", "admin_listen", "status_listen"] {
        let outcome = Gateway::build().set(key, &address).run(&["start"]);
        assert_eq!(outcome.code, Some(1), "{key}: {}", outcome.output);
        let lines: Vec<_> = outcome.output.lines().filter(|line| line.contains(&address)).collect();
        assert_eq!(lines.len(), 1, "{key}: {}", outcome.output);
        assert!(lines[0].to_lowercase().contains("in use"), "{key}: {}", outcome.output);
    }
}

#[test]
fn wrong_bodies_are_refused_and_change_nothing() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let admin = gateway.admin();
    let before = admin.get("/services/up");
    let wrong = [
        ("POST", "/services", r#"{"name": "no host"}"#, 400),
        ("POST", "/services", r#"{"name": 1, "port": "x", "retries": -1}"#, 400),
        ("POST", "/services", r#"{"name": "up", "url": "http://a.test"}"#, 409),
        ("POST", "/services", r#"{"name": "x", "url": "http://a.test", "colour": "red"}"#, 400),
        ("POST", "/services", r#"{"name": "x""#, 400),
        ("POST", "/services", "[1, 2", 400),
        ("PATCH", "/services/up", r#"{"port": 70000}"#, 400),
        ("PATCH", "/services/up", r#"{"protocol": "gopher"}"#, 400),
        ("PATCH", "/services/other", r#"{"port": 80}"#, 404),
        ("POST", "/services/other/routes", r#"{"paths": ["/"]}"#, 404),
        ("POST", "/routes", r#"{"paths": ["no slash"]}"#, 400),
        ("POST", "/routes", r#"{"paths": ["~/(" ]}"#, 400),
        ("POST", "/services/up/plugins", r#"{"name": "no-such-plugin"}"#, 400),
        ("POST", "/services/up/plugins", r#"{"name": "rate-limiting", "config": {"minute": -5}}"#, 400),
        ("POST", "/consumers", "{}", 400),
        ("DELETE", "/services/up", "", 400),
        ("POST", "/nowhere", "{}", 404),
        ("PUT", "/services", "{}", 405),
    ];
    for (method, path, body, status) in wrong {
        let reply = admin.send(method, path, (!body.is_empty()).then_some(body));
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.body);
        assert!(reply.body["message"].is_string(), "{method} {path} {body}: {}", reply.body);
    }
    assert_eq!(admin.get("/services/up"), before);
    for (kind, count) in [("services", 1), ("routes", 1), ("plugins", 0), ("consumers", 0)] {
        assert_eq!(admin.get(&format!("/{kind}"))["data"].as_array().unwrap().len(), count, "{kind}");
    }
    assert_eq!(gateway.get("/bytes/2").body, b"xx");
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let gateway = Gateway::start();
    let body = json!({"name": "x", "host": "a.test", "port": "x", "retries": -1, "protocol": "gopher"});
    let reply = gateway.admin().send("POST", "/services", Some(&body.to_string()));
    assert_eq!(reply.status, 400);
    let fields = reply.body["fields"].as_object().unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["port", "protocol", "retries"]);
}
