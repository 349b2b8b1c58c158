//! Entities on their own: made, read, replaced, changed, removed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_store::Key;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::kit::Gateway;

#[tokio::test]
async fn a_row_is_made_with_defaults_and_read_by_id_and_by_name() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/services", json!({ "name": "a", "host": "a.test" })).await.expect(201);
    assert_eq!((&made.body["port"], &made.body["protocol"], &made.body["tags"]), (&json!(80), &json!("http"), &Value::Null));
    for path in ["a".to_owned(), made.id(), made.id().to_uppercase()] {
        assert_eq!(gateway.get(&format!("/services/{path}")).await.expect(200).body, made.body);
    }
    gateway.get("/services/A").await.expect(404);
    gateway.get("/services/00000000-0000-0000-0000-000000000000").await.expect(404);
}

#[tokio::test]
async fn names_that_cannot_be_are_refused_before_looking() {
    let gateway = Gateway::start().await;
    let reply = gateway.get("/services/at%40sign").await.expect(400);
    assert_eq!((&reply.body["code"], &reply.body["name"]), (&json!(10), &json!("invalid unique name")));
    let reply = gateway.get("/ca_certificates/not-a-uuid").await.expect(400);
    let message = "invalid primary key: '{id=\"expected a valid UUID\"}'";
    assert_eq!(
        reply.body,
        json!({ "code": 1, "name": "invalid primary key", "message": message, "fields": { "id": "expected a valid UUID" } })
    );
    gateway.delete("/ca_certificates/not-a-uuid").await.expect(400);
}

#[tokio::test]
async fn a_taken_name_is_a_conflict_and_a_taken_id_is_not_allowed() {
    let gateway = Gateway::start().await;
    let id = "c0ffee00-0000-4000-8000-00000000000a";
    gateway.post("/services", json!({ "id": id, "name": "taken", "host": "a.test" })).await.expect(201);
    let reply = gateway.post("/services", json!({ "name": "taken", "host": "b.test" })).await.expect(409);
    let message = "UNIQUE violation detected on '{name=\"taken\"}'";
    assert_eq!(reply.body, json!({ "code": 5, "name": "unique constraint violation", "message": message, "fields": { "name": "taken" } }));
    let reply = gateway.post("/services", json!({ "id": id, "name": "taken", "host": "b.test" })).await.expect(400);
    assert_eq!((&reply.body["code"], &reply.body["fields"]), (&json!(3), &json!({ "id": id })));
    gateway.post("/services", json!({ "name": "free", "host": "b.test" })).await.expect(201);
    gateway.patch("/services/free", json!({ "name": "taken" })).await.expect(409);
    gateway.put("/services/c0ffee00-0000-4000-8000-00000000000b", json!({ "name": "taken", "host": "b.test" })).await.expect(409);
}

#[tokio::test]
async fn no_row_is_made_under_no_id() {
    let gateway = Gateway::start().await;
    let refused = gateway.post("/services", json!({ "id": null, "host": "a.test" })).await.expect(400);
    let message = "primary key violation on key '{id=\"userdata: NULL\"}'";
    assert_eq!(refused.body, json!({ "code": 3, "name": "primary key violation", "message": message, "fields": { "id": null } }));
    let refused = gateway.put("/services/a", json!({ "id": null, "host": "a.test" })).await.expect(400);
    assert_eq!((&refused.body["code"], &refused.body["fields"]), (&json!(3), &json!({ "name": "a" })));
    // What else is wrong is told first, and what is there already keeps its id.
    assert_eq!(gateway.post("/services", json!({ "id": null })).await.expect(400).body["code"], 2);
    let made = gateway.post("/services", json!({ "name": "a", "host": "a.test" })).await.expect(201);
    let kept = gateway.put("/services/a", json!({ "id": null, "host": "b.test" })).await.expect(200);
    assert_eq!(kept.id(), made.id());
}

#[tokio::test]
async fn put_makes_or_replaces_at_an_id_or_a_name() {
    let gateway = Gateway::start().await;
    let id = "c0ffee00-0000-4000-8000-000000000001";
    let path = format!("/services/{id}");
    gateway.put(&path, json!({ "name": "one", "host": "one.test", "retries": 1, "tags": ["x"] })).await.expect(200);
    let replaced = gateway.put(&path, json!({ "host": "two.test", "id": "c0ffee00-0000-4000-8000-000000000009" })).await.expect(200);
    let fields = ["id", "name", "retries", "tags"].map(|field| replaced.body[field].clone());
    assert_eq!(fields, [json!(id), Value::Null, json!(5), Value::Null]);

    let made = gateway.put("/services/named", json!({ "host": "n.test", "port": 8080 })).await.expect(200);
    let again = gateway.put("/services/named", json!({ "name": "other", "host": "m.test" })).await.expect(200);
    assert_eq!((again.id(), &again.body["name"], &again.body["port"]), (made.id(), &json!("named"), &json!(80)));
    gateway.get("/services/other").await.expect(404);
    gateway.put("/services/put%20bad", json!({ "host": "b.test" })).await.expect(400);
}

#[tokio::test]
async fn patch_merges_and_null_unsets() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/consumers", json!({ "username": "pp", "custom_id": "c", "tags": ["a"] })).await.expect(201);
    let changed = gateway.patch("/consumers/pp", json!({ "custom_id": null })).await.expect(200);
    assert_eq!((changed.id(), &changed.body["custom_id"], &changed.body["tags"]), (made.id(), &Value::Null, &json!(["a"])));
    let refused = gateway.patch("/consumers/pp", json!({ "username": null })).await.expect(400);
    assert!(refused.body["message"].as_str().unwrap().contains("when updating, at least one of these fields must be non-empty"));
    let absent = gateway.patch("/consumers/absent", json!({ "custom_id": "x" })).await.expect(404);
    let message = "could not find the entity with '{username=\"absent\"}'";
    assert_eq!(absent.body, json!({ "code": 6, "name": "not found", "message": message, "fields": { "username": "absent" } }));
}

#[tokio::test]
async fn two_changes_at_once_both_stay() {
    let gateway = Gateway::start().await;
    gateway.post("/services", json!({ "name": "s", "host": "a.test" })).await.expect(201);
    for round in 0..10 {
        let one = gateway.patch("/services/s", json!({ "retries": round }));
        let other = gateway.patch("/services/s", json!({ "port": 1000 + round }));
        let (one, other) = tokio::join!(one, other);
        one.expect(200);
        other.expect(200);
        let row = gateway.get("/services/s").await.body;
        assert_eq!((&row["retries"], &row["port"]), (&json!(round), &json!(1000 + round)));
    }
}

#[tokio::test]
async fn deleting_is_idempotent_at_the_top_level() {
    let gateway = Gateway::start().await;
    gateway.post("/services", json!({ "name": "s", "host": "a.test" })).await.expect(201);
    assert_eq!(gateway.delete("/services/s").await.expect(204).text, "");
    gateway.delete("/services/s").await.expect(204);
    gateway.get("/services/s").await.expect(404);
}

#[tokio::test]
async fn what_is_referenced_stays_and_what_hangs_on_it_goes_along() {
    let gateway = Gateway::start().await;
    gateway.post("/services", json!({ "name": "s", "host": "a.test" })).await.expect(201);
    gateway.post("/routes", json!({ "name": "r", "paths": ["/"], "service": { "name": "s" } })).await.expect(201);
    let kept = gateway.delete("/services/s").await.expect(400);
    assert_eq!(kept.body["message"], "an existing 'routes' entity references this 'services' entity");
    gateway.post("/consumers", json!({ "username": "c" })).await.expect(201);
    let key = gateway.post("/consumers/c/key-auth", json!({ "key": "k" })).await.expect(201);
    gateway.delete("/consumers/c").await.expect(204);
    gateway.get(&format!("/key-auths/{}", key.id())).await.expect(404);
}

#[tokio::test]
async fn references_are_resolved_by_id_or_by_any_unique_field() {
    let gateway = Gateway::start().await;
    let a = gateway.post("/services", json!({ "name": "a", "host": "a.test" })).await.expect(201);
    let route = |name: &str, service: Value| json!({ "name": name, "paths": [format!("/{name}")], "service": service });
    for (name, service) in [("r1", json!({ "id": a.id() })), ("r2", json!({ "name": "a" })), ("r3", json!({ "id": a.id(), "name": "b" }))] {
        assert_eq!(gateway.post("/routes", route(name, service)).await.expect(201).body["service"], json!({ "id": a.id() }));
    }
    let unresolved = gateway.post("/routes", route("r4", json!({ "name": "none" }))).await.expect(400);
    let complaint = "the foreign key cannot be resolved with '{name=\"none\"}' for an existing 'services' entity";
    assert_eq!((&unresolved.body["code"], &unresolved.body["fields"]), (&json!(13), &json!({ "service": { "name": complaint } })));
    let absent = "c0ffee00-0000-4000-8000-00000000000f";
    let dangling = gateway.post("/routes", route("r4", json!({ "id": absent }))).await.expect(400);
    assert_eq!((&dangling.body["code"], &dangling.body["fields"]), (&json!(4), &json!({ "service": { "id": absent } })));
    for (reference, complaint) in
        [(json!({ "id": "x" }), "expected a valid UUID"), (json!({}), "missing primary key"), (json!("a"), "missing primary key")]
    {
        let refused = gateway.post("/routes", route("r4", reference)).await.expect(400);
        assert_eq!(refused.body["fields"], json!({ "service": { "id": complaint } }));
    }
    let formed = gateway.form("POST", "/routes", "name=r5&paths[]=/5&service.name=a").await.expect(201);
    assert_eq!(formed.body["service"], json!({ "id": a.id() }));
}

#[tokio::test]
async fn a_key_may_be_given_a_time_to_live() {
    let gateway = Gateway::start().await;
    gateway.post("/consumers", json!({ "username": "c" })).await.expect(201);
    let lasting = gateway.post("/consumers/c/key-auth", json!({ "key": "long", "ttl": 1000 })).await.expect(201);
    assert!(lasting.body["ttl"].as_f64().is_some_and(|ttl| ttl > 990.0));
    assert_eq!(gateway.post("/consumers/c/key-auth", json!({ "key": "none", "ttl": 0 })).await.expect(201).body["ttl"], Value::Null);
    let refused = gateway.post("/consumers/c/key-auth", json!({ "key": "x", "ttl": -1 })).await.expect(400);
    assert_eq!(
        (&refused.body["code"], &refused.body["options"]),
        (&json!(11), &json!({ "ttl": "must be an integer between 0 and 100000000" }))
    );
    assert_eq!(gateway.patch("/consumers/c/key-auth/long", json!({ "ttl": 0 })).await.expect(200).body["ttl"], Value::Null);
}

#[tokio::test]
async fn a_consumer_is_found_by_custom_id() {
    let gateway = Gateway::start().await;
    gateway.post("/consumers", json!({ "username": "a", "custom_id": "A 1" })).await.expect(201);
    gateway.post("/consumers", json!({ "username": "b" })).await.expect(201);
    for query in ["custom_id=A%201", "custom_id=A+1"] {
        assert_eq!(gateway.get(&format!("/consumers?{query}")).await.expect(200).column("username"), ["a"]);
    }
    assert_eq!(gateway.get("/consumers?custom_id=zzz").await.expect(200).body, json!({ "data": [], "next": null }));
    for query in ["custom_id=", "custom_id", "custom_id=b&custom_id=c"] {
        let reply = gateway.get(&format!("/consumers?{query}")).await.expect(400);
        assert_eq!(reply.body, json!({ "message": "custom_id must be an unempty string" }));
    }
}

#[tokio::test]
async fn a_write_reaches_the_workers_even_if_the_client_goes_away() {
    let gateway = Gateway::start().await;
    let hold = Arc::new(Notify::new());
    *gateway.facts.hold.lock().unwrap() = Some(hold.clone());
    let mut client = TcpStream::connect(gateway.admin).await.unwrap();
    let body = json!({ "username": "u" }).to_string();
    let head = format!("POST /consumers HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all((head + &body).as_bytes()).await.unwrap();
    let consumers = gateway.catalog.entity("consumers").unwrap();
    let written = async {
        while gateway.store.get(consumers, Key::Unique("username".to_owned(), json!("u"))).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        drop(client);
        // The server hears of it while it answers another.
        gateway.get("/consumers").await.expect(200);
        while gateway.facts.taken_up.load(Ordering::SeqCst) == 0 {
            hold.notify_one();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
}
