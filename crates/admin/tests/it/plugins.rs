//! Plugins and the schemas they come with.

use serde_json::{Value, json};

use crate::kit::Gateway;

#[tokio::test]
async fn one_instance_of_a_plugin_fits_in_one_place() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/plugins", json!({ "name": "limit", "config": { "minute": 1 } })).await.expect(201);
    assert_eq!((&made.body["config"]["limit_by"], &made.body["route"]), (&json!("consumer"), &Value::Null));
    let taken = gateway.post("/plugins", json!({ "name": "limit" })).await.expect(409);
    assert_eq!(taken.body["message"], "UNIQUE violation detected on '{consumer=null,name=\"limit\",route=null,service=null}'");
    gateway.post("/services", json!({ "name": "s", "host": "a.test" })).await.expect(201);
    gateway.post("/services/s/plugins", json!({ "name": "limit" })).await.expect(201);
}

#[tokio::test]
async fn settings_merge_and_lists_are_replaced() {
    let gateway = Gateway::start().await;
    let made =
        gateway.post("/plugins", json!({ "name": "limit", "config": { "minute": 1, "hour": 9, "names": ["a", "b"] } })).await.expect(201);
    let path = format!("/plugins/{}", made.id());
    let changed = gateway
        .patch(&path, json!({ "config": { "minute": 2, "hour": null, "names": ["c"], "redis": { "host": "r" } } }))
        .await
        .expect(200);
    let config = &changed.body["config"];
    assert_eq!([&config["minute"], &config["hour"], &config["names"]], [&json!(2), &Value::Null, &json!(["c"])]);
    assert_eq!(config["redis"], json!({ "host": "r", "port": 6379 }));
    let formed = gateway.form("PATCH", &path, "config.minute=30&enabled=false").await.expect(200);
    assert_eq!((&formed.body["config"]["minute"], &formed.body["enabled"]), (&json!(30), &json!(false)));
    let unknown = gateway.patch(&path, json!({ "config": { "bogus": 1 } })).await.expect(400);
    assert_eq!(unknown.body["fields"], json!({ "config": { "bogus": "unknown field" } }));
    let absent = gateway.patch("/plugins/none", json!({ "enabled": false })).await.expect(404);
    assert_eq!(absent.body, json!({ "message": "Not found" }));
}

#[tokio::test]
async fn scopes_that_a_plugin_does_not_take_are_refused() {
    let gateway = Gateway::start().await;
    gateway.post("/consumers", json!({ "username": "c" })).await.expect(201);
    let refused = gateway.post("/plugins", json!({ "name": "who", "consumer": { "username": "c" } })).await.expect(400);
    assert_eq!(refused.body["fields"], json!({ "consumer": "value must be null" }));
    let unknown = gateway.post("/plugins", json!({ "name": "no-such" })).await.expect(400);
    assert!(unknown.body["fields"]["name"].as_str().unwrap().starts_with("plugin 'no-such' not enabled"));
}

#[tokio::test]
async fn protocols_must_meet_those_of_the_route_or_service() {
    let gateway = Gateway::start().await;
    gateway.post("/services", json!({ "name": "s", "host": "a.test" })).await.expect(201);
    gateway.post("/services/s/plugins", json!({ "name": "limit", "protocols": ["grpc"] })).await.expect(201);
    gateway.post("/services/s/routes", json!({ "name": "r", "paths": ["/"], "protocols": ["http"] })).await.expect(201);
    let refused = gateway.post("/routes/r/plugins", json!({ "name": "limit", "protocols": ["grpc"] })).await.expect(400);
    assert_eq!(refused.body["fields"], json!({ "protocols": "must match the associated route's protocols" }));
    let refused = gateway.post("/services/s/plugins", json!({ "name": "who", "protocols": ["grpc"] })).await.expect(400);
    assert_eq!(refused.body["fields"]["protocols"], "must match the protocols of at least one route pointing to this Plugin's service");
    gateway.post("/routes/r/plugins", json!({ "name": "limit", "protocols": ["grpc", "http"] })).await.expect(201);
}

#[tokio::test]
async fn the_root_names_the_plugins_in_use_as_they_come_and_go() {
    let gateway = Gateway::start().await;
    let enabled = async || gateway.get("/").await.expect(200).body["plugins"]["enabled_in_cluster"].clone();
    assert_eq!(enabled().await, json!([]));
    gateway.post("/services", json!({ "name": "s", "host": "a.test" })).await.expect(201);
    let one = gateway.post("/plugins", json!({ "name": "limit" })).await.expect(201);
    let other = gateway.post("/services/s/plugins", json!({ "name": "limit" })).await.expect(201);
    gateway.post("/plugins", json!({ "name": "who", "enabled": false })).await.expect(201);
    assert_eq!(enabled().await, json!(["limit", "who"]));
    gateway.delete(&format!("/plugins/{}", one.id())).await.expect(204);
    assert_eq!(enabled().await, json!(["limit", "who"]));
    gateway.delete(&format!("/plugins/{}", other.id())).await.expect(204);
    assert_eq!(enabled().await, json!(["who"]));
}

#[tokio::test]
async fn schemas_are_shown_and_can_be_tried_on_a_record() {
    let gateway = Gateway::start().await;
    let services = gateway.get("/schemas/services").await.expect(200);
    assert!(services.body["fields"].as_array().is_some_and(|fields| fields.iter().any(|field| field.get("retries").is_some())));
    gateway.get("/schemas/plugins/limit").await.expect(200);
    let older = gateway.get("/plugins/schema/limit").await.expect(200);
    assert!(older.body["fields"].as_array().is_some_and(|fields| fields.iter().any(|field| field.get("minute").is_some())));
    for (path, message) in [
        ("/schemas/no-such", "No entity named 'no-such'"),
        ("/schemas/key-sets", "No entity named 'key-sets'"),
        ("/schemas/plugins/no-such", "No plugin named 'no-such'"),
        ("/plugins/schema/no-such", "No plugin named 'no-such'"),
        ("/schemas/vaults/no-such", "No vault named 'no-such'"),
        ("/schemas/filters/no-such", "Filter 'no-such' not found"),
    ] {
        assert_eq!(gateway.get(path).await.expect(404).body, json!({ "message": message }));
    }
    let fine = gateway.post("/schemas/services/validate", json!({ "host": "a.test" })).await.expect(200);
    assert_eq!(fine.body, json!({ "message": "schema validation successful" }));
    gateway.post("/schemas/services/validate", json!({})).await.expect(400);
    gateway.post("/schemas/plugins/validate", json!({ "name": "limit", "config": { "minute": "x" } })).await.expect(400);
    gateway.get("/schemas/services/validate").await.expect(405);
    assert_eq!(gateway.get("/plugins/enabled").await.expect(200).body, json!({ "enabled_plugins": ["limit", "who"] }));
    assert_eq!(gateway.get("/plugins").await.expect(200).body["data"], json!([]));
}
