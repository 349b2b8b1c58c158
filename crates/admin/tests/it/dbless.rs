//! Without a database: rows are read, and written only as a whole.

use portcullis_schema::Op;
use portcullis_store::{ChangeSet, Operation};
use serde_json::{Value, json};

use crate::kit::Gateway;

async fn with(rows: &[(&str, Value)]) -> Gateway {
    let gateway = Gateway::dbless().await;
    let mut operations = vec![Operation::Clear];
    for (entity, row) in rows {
        let schema = gateway.catalog.entity(entity).unwrap();
        let Value::Object(row) = row.clone() else { panic!("rows are objects") };
        let row = gateway.catalog.prepare(schema, row, Op::Insert, None, 1_700_000_000.0).unwrap();
        operations.push(Operation::Insert(schema.clone(), row));
    }
    gateway.store.apply(ChangeSet { operations }).await.unwrap();
    gateway
}

const SERVICE: &str = "88888888-0000-4000-8000-000000000001";

#[tokio::test]
async fn writes_are_checked_first_and_then_refused() {
    let service = json!({ "id": SERVICE, "name": "s", "host": "a.test" });
    let gateway = with(&[("services", service), ("routes", json!({ "name": "r", "paths": ["/"], "service": { "id": SERVICE } }))]).await;
    let row = json!({ "host": "a.test" });
    let item = format!("/services/{SERVICE}");
    for (method, path, body, message) in [
        ("POST", "/services", row.clone(), "cannot create 'services' entities when not using a database"),
        ("PUT", "/services/s", row.clone(), "cannot create or update 'services' entities by 'name' when not using a database"),
        ("PUT", item.as_str(), row.clone(), "cannot create or update 'services' entities when not using a database"),
        ("PATCH", "/services/s", json!({ "retries": 3 }), "cannot update 'services' entities by 'name' when not using a database"),
        ("DELETE", "/services/s", json!({}), "cannot remove 'services' entities by 'name' when not using a database"),
        ("DELETE", "/services/s/routes/r", json!({}), "cannot remove 'routes' entities by 'name' when not using a database"),
        ("PATCH", "/routes/r/service", json!({ "retries": 1 }), "cannot update 'services' entities when not using a database"),
    ] {
        let reply = gateway.json(method, path, body).await.expect(405);
        assert_eq!(reply.body, json!({ "code": 12, "name": "operation unsupported", "message": message }), "{method} {path}");
    }
    gateway.post("/services", json!({ "name": "n" })).await.expect(400);
    gateway.patch("/services/s", json!({ "retries": "many" })).await.expect(400);
    gateway.patch("/services/none", json!({ "retries": 3 })).await.expect(404);
    gateway.delete("/services/none").await.expect(204);
    gateway.get("/services/s").await.expect(200);
}

#[tokio::test]
async fn children_named_within_their_parent_are_refused_without_a_name() {
    let upstream = "88888888-0000-4000-8000-000000000005";
    let target = json!({ "target": "127.0.0.1:9871", "upstream": { "id": upstream } });
    let gateway = with(&[("upstreams", json!({ "id": upstream, "name": "u" })), ("targets", target)]).await;
    let path = "/upstreams/u/targets/127.0.0.1:9871";
    for (method, verb) in [("PATCH", "update"), ("PUT", "update"), ("DELETE", "remove")] {
        let reply = gateway.json(method, path, json!({ "weight": 5 })).await.expect(405);
        assert_eq!(reply.body["message"], format!("cannot {verb} 'targets' entities when not using a database"));
    }
    gateway.delete("/upstreams/u/targets/none").await.expect(404);
    assert_eq!(gateway.get("/upstreams/u/targets").await.expect(200).column("target"), ["127.0.0.1:9871"]);
}

#[tokio::test]
async fn the_log_level_of_the_cluster_cannot_be_changed() {
    let gateway = Gateway::dbless().await;
    let reply = gateway.put("/debug/cluster/log-level/debug", json!({})).await.expect(405);
    assert_eq!(reply.body, json!({ "message": "cannot change log level when not using a database" }));
}

#[tokio::test]
async fn a_document_replaces_everything_and_reads_back() {
    let gateway = Gateway::dbless().await;
    let service = json!({ "name": "s", "host": "a.test", "routes": [{ "name": "r", "paths": ["/"] }] });
    let document = json!({ "_format_version": "3.0", "services": [service] });
    let reply = gateway.post("/config", document).await.expect(201);
    let of = |kind: &str| reply.body[kind].as_object().unwrap().values().next().unwrap().clone();
    assert_eq!(of("routes")["service"]["id"], of("services")["id"]);
    let text = gateway.get("/config").await.expect(200).body["config"].clone();

    gateway.post("/config", json!({ "_format_version": "3.0" })).await.expect(201);
    gateway.get("/services/s").await.expect(404);
    gateway.post("/config", json!({ "config": text })).await.expect(201);
    assert_eq!(gateway.get("/routes/r").await.expect(200).body["id"], of("routes")["id"]);
}

#[tokio::test]
async fn a_wrong_document_changes_nothing() {
    let gateway = with(&[("services", json!({ "id": SERVICE, "name": "s", "host": "a.test" }))]).await;
    let wrong = json!({ "_format_version": "3.0", "services": [{ "name": "t" }] });
    let body = gateway.post("/config", wrong.clone()).await.expect(400).body;
    assert_eq!((&body["code"], &body["fields"]), (&json!(14), &json!({ "services": [{ "host": "required field missing" }] })));
    let body = gateway.post("/config?flatten_errors=on", wrong).await.expect(400).body;
    assert_eq!((&body["fields"], &body["flattened_errors"][0]["entity_name"]), (&json!({}), &json!("t")));
    gateway.post("/config", json!({ "config": "" })).await.expect(400);
    let reply = gateway.raw("POST", "/config", &[("content-type", "text/yaml")], b"").await.expect(400);
    assert_eq!(reply.body, json!({ "message": "expected a declarative configuration" }));
    gateway.get("/services/s").await.expect(200);
}

#[tokio::test]
async fn only_a_text_is_recognized_as_the_running_document() {
    let gateway = Gateway::dbless().await;
    let text = "_format_version: '3.0'\nconsumers: [{username: c}]\n";
    let yaml = [("content-type", "text/yaml")];
    gateway.raw("POST", "/config?check_hash=1", &yaml, text.as_bytes()).await.expect(201);
    gateway.raw("POST", "/config?check_hash=1", &yaml, text.as_bytes()).await.expect(304);
    gateway.post("/config?check_hash=1", json!({ "config": text })).await.expect(304);
    gateway.raw("POST", "/config?check_hash=true", &yaml, text.as_bytes()).await.expect(201);
    let document = json!({ "_format_version": "3.0", "consumers": [{ "username": "c" }] });
    gateway.post("/config?check_hash=1", document.clone()).await.expect(201);
    gateway.post("/config?check_hash=1", document).await.expect(201);
}
