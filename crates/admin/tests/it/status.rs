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
    gateway.status("GET", "/upstreams/u/health", None).await.expect(200);
    gateway.status("GET", "/upstreams/u/targets", None).await.expect(200);
    let reply = gateway.status("GET", "/status", None).await;
    assert_eq!((reply.header("access-control-allow-origin"), reply.header("x-kong-admin-latency")), (Some("*"), None));
}

#[tokio::test]
async fn without_a_database_an_empty_node_is_not_ready() {
    let gateway = Gateway::dbless().await;
    let reply = gateway.status("GET", "/status/ready", None).await.expect(503);
    assert_eq!(reply.body, json!({ "message": "no configuration available (empty configuration present)" }));
    let body = gateway.status("GET", "/status", None).await.expect(200).body;
    assert_eq!((&body["configuration_hash"], body.get("database")), (&json!("0".repeat(32)), None));
}
