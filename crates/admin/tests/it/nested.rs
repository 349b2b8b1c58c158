//! Rows below their parents, and parents through their rows.

use serde_json::{Value, json};

use crate::kit::Gateway;

async fn with_consumers() -> Gateway {
    let gateway = Gateway::start().await;
    for name in ["ac", "ad"] {
        gateway.post("/consumers", json!({ "username": name })).await.expect(201);
    }
    gateway
}

#[tokio::test]
async fn children_belong_to_the_parent_they_were_made_below() {
    let gateway = with_consumers().await;
    let parent = gateway.get("/consumers/ac").await.id();
    let made = gateway.post("/consumers/ac/key-auth", json!({ "key": "k", "consumer": { "username": "ad" } })).await.expect(201);
    assert_eq!(made.body["consumer"], json!({ "id": parent }));
    for key in ["k".to_owned(), made.id()] {
        gateway.get(&format!("/consumers/{parent}/key-auth/{key}")).await.expect(200);
        gateway.get(&format!("/consumers/ad/key-auth/{key}")).await.expect(404);
        gateway.patch(&format!("/consumers/ad/key-auth/{key}"), json!({ "tags": ["x"] })).await.expect(404);
        gateway.delete(&format!("/consumers/ad/key-auth/{key}")).await.expect(404);
    }
    assert_eq!(gateway.get("/consumers/ac/key-auth").await.expect(200).column("key"), ["k"]);
    assert_eq!(gateway.get("/consumers/ad/key-auth").await.expect(200).column("key"), [""; 0]);
    gateway.get("/consumers/none/key-auth").await.expect(404);
    gateway.post("/consumers/none/key-auth", json!({ "key": "x" })).await.expect(404);
}

#[tokio::test]
async fn put_below_a_parent_makes_or_replaces() {
    let gateway = with_consumers().await;
    let made = gateway.put("/consumers/ac/key-auth/by-name", json!({ "tags": ["x"] })).await.expect(200);
    let replaced = gateway.put("/consumers/ac/key-auth/by-name", json!({})).await.expect(200);
    assert_eq!((replaced.id(), &replaced.body["tags"], &replaced.body["key"]), (made.id(), &Value::Null, &json!("by-name")));
}

#[tokio::test]
async fn deleting_below_a_parent_tells_what_was_there() {
    let gateway = with_consumers().await;
    gateway.post("/consumers/ac/key-auth", json!({ "key": "k" })).await.expect(201);
    gateway.delete("/consumers/ac/key-auth/k").await.expect(204);
    gateway.delete("/consumers/ac/key-auth/k").await.expect(404);
}

#[tokio::test]
async fn groups_are_named_within_their_consumer() {
    let gateway = with_consumers().await;
    let made = gateway.post("/consumers/ac/acls", json!({ "group": "admins" })).await.expect(201);
    gateway.post("/consumers/ac/acls", json!({ "group": "admins" })).await.expect(409);
    gateway.post("/consumers/ad/acls", json!({ "group": "admins" })).await.expect(201);
    assert_eq!(gateway.get("/consumers/ac/acls/admins").await.expect(200).id(), made.id());
    let put = gateway.put("/consumers/ac/acls/new", json!({})).await.expect(200);
    let renamed = gateway.put("/consumers/ac/acls/new", json!({ "group": "other" })).await.expect(200);
    assert_eq!((renamed.id(), &renamed.body["group"]), (put.id(), &json!("other")));
    gateway.patch("/consumers/ac/acls/other", json!({ "group": "admins" })).await.expect(409);
    let missing = gateway.get("/consumers/ac/acls/none").await.expect(404);
    assert_eq!(missing.body["request_id"].as_str().map(str::len), Some(32));
    assert_eq!(gateway.get("/acls/admins").await.expect(400).body["code"], 1);
    gateway.delete("/consumers/ac/acls/other").await.expect(204);
    gateway.delete("/consumers/ac/acls/other").await.expect(404);
}

#[tokio::test]
async fn a_reference_leads_to_its_row() {
    let gateway = Gateway::start().await;
    gateway.post("/services", json!({ "name": "s", "host": "a.test" })).await.expect(201);
    gateway.post("/services/s/routes", json!({ "name": "r", "paths": ["/"] })).await.expect(201);
    assert_eq!(gateway.get("/routes/r/service").await.expect(200).body["name"], "s");
    assert_eq!(gateway.patch("/routes/r/service", json!({ "retries": 1 })).await.expect(200).body["retries"], 1);
    assert_eq!(gateway.put("/routes/r/service", json!({ "host": "b.test" })).await.expect(200).body["name"], Value::Null);
    gateway.delete("/routes/r/service").await.expect(405);
    gateway.get("/routes/none/service").await.expect(404);
}

#[tokio::test]
async fn putting_a_row_at_an_empty_reference_makes_and_ties_it() {
    let gateway = Gateway::start().await;
    gateway.post("/routes", json!({ "name": "r", "paths": ["/"] })).await.expect(201);
    gateway.get("/routes/r/service").await.expect(404);
    gateway.patch("/routes/r/service", json!({ "retries": 1 })).await.expect(404);
    let made = gateway.put("/routes/r/service", json!({ "host": "b.test" })).await.expect(200);
    assert_eq!(gateway.get("/routes/r").await.expect(200).body["service"], json!({ "id": made.id() }));
}

#[tokio::test]
async fn nested_lists_page_and_ignore_tags() {
    let gateway = Gateway::start().await;
    gateway.post("/services", json!({ "name": "s", "host": "a.test" })).await.expect(201);
    for at in 1..=3 {
        let path = format!("/services/s/routes/00000000-0000-4000-8000-00000000003{at}");
        gateway.put(&path, json!({ "name": format!("r{at}"), "paths": [format!("/{at}")] })).await.expect(200);
    }
    let page = gateway.get("/services/s/routes?size=2").await.expect(200);
    assert_eq!(page.column("name"), ["r1", "r2"]);
    let next = page.body["next"].as_str().unwrap();
    assert!(next.starts_with("/services/s/routes?offset="), "{next}");
    assert_eq!(gateway.get(next).await.expect(200).column("name"), ["r3"]);
    assert_eq!(gateway.get("/services/s/routes?tags=x").await.expect(200).column("name").len(), 3);
}
