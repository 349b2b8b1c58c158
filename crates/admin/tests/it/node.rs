//! What the node tells of itself.

use serde_json::json;

use crate::kit::{Gateway, NODE};

#[tokio::test]
async fn the_root_introduces_the_node() {
    let gateway = Gateway::start().await;
    let body = gateway.get("/?x=1").await.expect(200).body;
    assert_eq!([&body["tagline"], &body["version"], &body["edition"]], [&json!("Welcome to kong"), &json!("3.9.3"), &json!("community")]);
    assert_eq!((&body["node_id"], &body["pids"]), (&json!(NODE), &json!({ "master": 1, "workers": [2, 3] })));
    assert_eq!(body["plugins"]["available_on_server"]["limit"], json!({ "version": "3.9.3", "priority": 910 }));
    assert_eq!(body["configuration"]["pg_password"], "******");
}

#[tokio::test]
async fn status_shows_memory_in_the_unit_asked_for() {
    let gateway = Gateway::start().await;
    let body = gateway.get("/status").await.expect(200).body;
    assert_eq!((&body["database"], &body["server"]["total_requests"]), (&json!({ "reachable": true }), &json!(7)));
    assert_eq!(body["memory"]["workers_lua_vms"], json!([{ "pid": 2, "http_allocated_gc": "1.50 MiB" }]));
    let kib = gateway.get("/status?unit=K&scale=3").await.expect(200).body;
    assert_eq!(kib["memory"]["lua_shared_dicts"]["cache"], json!({ "capacity": "5120.000 KiB", "allocated_slabs": "1.000 KiB" }));
    assert_eq!(gateway.get("/status?unit=b").await.expect(200).body["memory"]["lua_shared_dicts"]["cache"]["capacity"], 5242880);
    gateway.get("/status?scale=abc").await.expect(200);
    let refused = gateway.get("/status?unit=furlong").await.expect(400);
    assert_eq!(refused.body, json!({ "message": "invalid unit 'furlong' (expected 'k/K', 'm/M', or 'g/G')" }));
    let refused = gateway.get("/status?scale=-1").await.expect(400);
    assert_eq!(refused.body, json!({ "message": "scale must be equal or greater than 0" }));
    gateway.get("/status/dns").await.expect(501);
    gateway.get("/status/ready").await.expect(404);
}

#[tokio::test]
async fn endpoints_lists_every_path() {
    let gateway = Gateway::start().await;
    let body = gateway.get("/endpoints").await.expect(200).body;
    let paths: Vec<&str> = body["data"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    for path in [
        "/",
        "/services/{services}/plugins/{plugins}",
        "/consumers/{consumers}/key-auth/{keyauth_credentials}",
        "/targets",
        "/keys/{keys}/set",
    ] {
        assert!(paths.contains(&path), "{path}");
    }
    assert!(!paths.contains(&"/robots.txt") && paths.is_sorted());
}

#[tokio::test]
async fn log_levels_can_be_changed_for_a_while() {
    let gateway = Gateway::start().await;
    let level = async || gateway.get("/debug/node/log-level").await.expect(200).body["message"].clone();
    assert_eq!(level().await, "log level: notice");
    for (path, message) in [
        ("/debug/node/log-level/loud", "unknown log level: loud"),
        ("/debug/cluster/log-level/loud", "unknown log level: loud"),
        ("/debug/node/log-level/alert?timeout=-1", "timeout must be greater than or equal to 0"),
    ] {
        assert_eq!(gateway.put(path, json!({})).await.expect(400).body["message"], message);
    }
    let changed = gateway.put("/debug/node/log-level/alert?timeout=3", json!({})).await.expect(200);
    assert_eq!(changed.body["message"], "log level changed");
    assert_eq!(level().await, "log level: alert");
    let same = gateway.put("/debug/node/log-level/alert", json!({})).await.expect(200);
    assert_eq!(same.body["message"], "log level is already alert");
    gateway.get("/debug/node/log-level/alert").await.expect(405);
}

#[tokio::test]
async fn endpoints_of_other_kinds_of_node_say_so() {
    let gateway = Gateway::start().await;
    let plane = "this endpoint is only available when Kong is configured to run as Control Plane for the cluster";
    let wasm = "this endpoint is only available when wasm is enabled";
    let off = "this endpoint is only available when Kong is configured to not use a database";
    for (method, path, message) in [
        ("GET", "/clustering/data-planes", plane),
        ("GET", "/clustering/status", plane),
        ("GET", "/filter-chains", wasm),
        ("POST", "/filter-chains", wasm),
        ("GET", "/routes/any/filters/all", wasm),
        ("GET", "/services/any/filter-chains", wasm),
        ("GET", "/config", off),
        ("POST", "/config", off),
    ] {
        let reply = gateway.raw(method, path, &[], b"").await.expect(400);
        assert_eq!(reply.body, json!({ "message": message }), "{method} {path}");
    }
    gateway.raw("POST", "/clustering/status", &[], b"").await.expect(405);
    gateway.delete("/config").await.expect(405);
}

#[tokio::test]
async fn metrics_and_robots_are_plain_text() {
    let gateway = Gateway::start().await;
    let metrics = gateway.get("/metrics").await.expect(200);
    assert_eq!((metrics.header("content-type"), metrics.text.as_str()), (Some("text/plain; charset=UTF-8"), "up 1\n"));
    assert_eq!(gateway.get("/robots.txt").await.expect(200).text, "User-agent: *\nDisallow: /");
    gateway.get("/timers").await.expect(200);
    gateway.get("/cache/none").await.expect(404);
    gateway.delete("/cache").await.expect(204);
}
