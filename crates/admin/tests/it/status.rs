//! The Status API.

use serde_json::json;

use crate::kit::Gateway;

#[tokio::test]
async fn a_node_is_ready_until_it_drains() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.status("GET", "/status/ready", None).await.expect(200).body, json!({ "message": "ready" }));
    gateway.status("POST", "/status/ready", Some(json!({ "status": "resting" }))).await.expect(400);
    gateway.status("POST", "/status/ready", Some(json!({ "status": "draining" }))).await.expect(204);
    assert_eq!(gateway.status("GET", "/status/ready", None).await.expect(503).body, json!({ "message": "draining" }));
}

#[tokio::test]
async fn it_reads_and_changes_no_rows() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.status("GET", "/status", None).await.expect(200).body["database"], json!({ "reachable": true }));
    gateway.status("GET", "/metrics", None).await.expect(200);
    gateway.status("GET", "/services", None).await.expect(404);
    gateway.status("POST", "/services", Some(json!({ "host": "a.test" }))).await.expect(404);
    gateway.post("/upstreams", json!({ "name": "u" })).await.expect(201);
    gateway.status("GET", "/upstreams/u/health", None).await.expect(404);
    let reply = gateway.status("GET", "/status", None).await;
    assert_eq!((reply.header("access-control-allow-origin"), reply.header("x-kong-admin-latency")), (Some("*"), None));
}

#[tokio::test]
async fn without_a_database_upstreams_can_be_read_there_too() {
    let gateway = Gateway::dbless().await;
    let upstreams = json!([{ "name": "u", "targets": [{ "target": "a.test:1" }] }]);
    gateway.post("/config", json!({ "_format_version": "3.0", "upstreams": upstreams })).await.expect(201);
    gateway.status("GET", "/upstreams/u/health", None).await.expect(200);
    for path in ["/upstreams/u/targets", "/upstreams/u/targets/all"] {
        assert_eq!(gateway.status("GET", path, None).await.expect(200).column("target"), ["a.test:1"]);
    }
    let target = gateway.status("GET", "/upstreams/u/targets/a.test:1", None).await.expect(200);
    assert_eq!(target.body["weight"], 100);
    gateway.status("PATCH", "/upstreams/u/targets/a.test:1", Some(json!({}))).await.expect(405);
}

#[tokio::test]
async fn without_a_database_an_empty_node_is_not_ready() {
    let gateway = Gateway::dbless().await;
    let reply = gateway.status("GET", "/status/ready", None).await.expect(503);
    assert_eq!(reply.body, json!({ "message": "no configuration available (empty configuration present)" }));
    let body = gateway.status("GET", "/status", None).await.expect(200).body;
    assert_eq!((&body["configuration_hash"], body.get("database")), (&json!("0".repeat(32)), None));
}
