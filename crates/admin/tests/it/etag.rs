//! Tags of rows, and writes on condition.

use serde_json::{Value, json};

use crate::kit::{Gateway, Reply};

async fn when(gateway: &Gateway, method: &str, path: &str, tag: &str, body: Value) -> Reply {
    let body = if method == "DELETE" { String::new() } else { body.to_string() };
    gateway.raw(method, path, &[("content-type", "application/json"), ("if-match", tag)], body.as_bytes()).await
}

fn tag(reply: &Reply) -> String {
    let tag = reply.header("etag").unwrap_or_else(|| panic!("no tag: {}", reply.text));
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 34, "{tag}");
    tag.to_owned()
}

#[tokio::test]
async fn a_row_has_one_tag_however_it_is_asked_for_until_it_changes() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/services", json!({ "name": "a", "host": "a.test" })).await.expect(201);
    let first = tag(&made);
    assert_eq!(tag(&gateway.get("/services/a").await), first);
    assert_eq!(tag(&gateway.get(&format!("/services/{}", made.id())).await), first);
    assert_eq!(tag(&gateway.raw("HEAD", "/services/a", &[], b"").await), first);
    gateway.post("/services/a/routes", json!({ "name": "r", "paths": ["/r"] })).await.expect(201);
    assert_eq!(tag(&gateway.get("/routes/r/service").await), first);
    assert_eq!(tag(&gateway.get("/services/a/routes/r").await), tag(&gateway.get("/routes/r").await));

    let second = tag(&gateway.patch("/services/a", json!({ "port": 81 })).await.expect(200));
    assert_ne!(first, second);
    assert_eq!(tag(&gateway.get("/services/a").await), second);
    let third = tag(&gateway.put("/services/a", json!({ "host": "b.test" })).await.expect(200));
    assert_ne!(second, third);
    assert_eq!(tag(&gateway.get("/services/a").await), third);

    for untagged in ["/services", "/services/none", "/", "/tags", "/plugins/enabled", "/services/a/routes"] {
        assert_eq!(gateway.get(untagged).await.header("etag"), None, "{untagged}");
    }
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let gateway = Gateway::start().await;
    let current = tag(&gateway.post("/consumers", json!({ "username": "c" })).await.expect(201));
    let weak = format!("\"x\", W/{current}");
    for known in [current.as_str(), "*", weak.as_str()] {
        for method in ["GET", "HEAD"] {
            let reply = gateway.raw(method, "/consumers/c", &[("if-none-match", known)], b"").await.expect(304);
            assert_eq!((reply.text.as_str(), tag(&reply)), ("", current.clone()));
        }
    }
    gateway.raw("GET", "/consumers/c", &[("if-none-match", "\"x\"")], b"").await.expect(200);
    gateway.raw("GET", "/consumers/none", &[("if-none-match", "*")], b"").await.expect(404);
}

#[tokio::test]
async fn a_write_on_condition_of_another_tag_changes_nothing() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/services", json!({ "name": "a", "host": "a.test" })).await.expect(201);
    let stale = tag(&made);
    let current = tag(&when(&gateway, "PATCH", "/services/a", &stale, json!({ "port": 81 })).await.expect(200));
    let before = gateway.get("/services/a").await.body;
    for method in ["PATCH", "PUT", "DELETE"] {
        for wrong in [stale.as_str(), &format!("W/{current}"), "nonsense", "\"\""] {
            let reply = when(&gateway, method, "/services/a", wrong, json!({ "host": "x.test" })).await.expect(412);
            assert_eq!(
                reply.body,
                json!({
                    "name": "precondition failed", "fields": { "id": made.id() },
                    "message": format!("the 'services' entity with '{{id=\"{}\"}}' is not as the request expects it", made.id()),
                })
            );
        }
    }
    assert_eq!(gateway.get("/services/a").await.body, before);
    // A wrong body is told as ever once the condition holds.
    when(&gateway, "PATCH", "/services/a", &current, json!({ "port": -1 })).await.expect(400);
    let listed = format!("\"x\", {current}");
    let replaced = tag(&when(&gateway, "PUT", "/services/a", &listed, json!({ "host": "b.test" })).await.expect(200));
    when(&gateway, "DELETE", "/services/a", &current, Value::Null).await.expect(412);
    when(&gateway, "DELETE", "/services/a", &replaced, Value::Null).await.expect(204);
    when(&gateway, "DELETE", "/services/a", &replaced, Value::Null).await.expect(412);
}

#[tokio::test]
async fn any_tag_will_do_as_long_as_there_is_a_row() {
    let gateway = Gateway::start().await;
    let missing = when(&gateway, "PUT", "/services/a", "*", json!({ "host": "a.test" })).await.expect(412);
    assert_eq!(missing.body["fields"], json!({ "name": "a" }));
    when(&gateway, "PATCH", "/services/a", "*", json!({})).await.expect(412);
    when(&gateway, "DELETE", "/services/a", "*", Value::Null).await.expect(412);
    gateway.put("/services/a", json!({ "host": "a.test" })).await.expect(200);
    when(&gateway, "PATCH", "/services/a", "*", json!({ "port": 81 })).await.expect(200);
    when(&gateway, "PUT", "/services/a", "*", json!({ "host": "a.test" })).await.expect(200);
    when(&gateway, "DELETE", "/services/a", "*", Value::Null).await.expect(204);
}

#[tokio::test]
async fn of_many_administrators_with_the_same_tag_one_wins() {
    let gateway = std::sync::Arc::new(Gateway::start().await);
    let read = tag(&gateway.post("/services", json!({ "name": "a", "host": "a.test" })).await.expect(201));
    let writers: Vec<_> = (1..=16)
        .map(|port| {
            let (gateway, read) = (gateway.clone(), read.clone());
            let method = if port % 2 == 0 { "PATCH" } else { "PUT" };
            let body = json!({ "host": "a.test", "name": "a", "port": port });
            tokio::spawn(async move { when(&gateway, method, "/services/a", &read, body).await.status })
        })
        .collect();
    let mut answers = Vec::new();
    for writer in writers {
        answers.push(writer.await.unwrap());
    }
    answers.sort_unstable();
    assert_eq!((answers[0], &answers[1..]), (200, &[412; 15][..]));
}

#[tokio::test]
async fn conditions_hold_on_nested_paths_too() {
    let gateway = Gateway::start().await;
    gateway.post("/consumers", json!({ "username": "c" })).await.expect(201);
    let key = gateway.post("/consumers/c/key-auth", json!({ "key": "k", "ttl": 1000 })).await.expect(201);
    let path = format!("/consumers/c/key-auth/{}", key.id());
    assert_eq!(tag(&key), tag(&gateway.get(&path).await));
    when(&gateway, "PATCH", &path, "\"x\"", json!({ "key": "n" })).await.expect(412);
    when(&gateway, "PATCH", &path, &tag(&key), json!({ "key": "n" })).await.expect(200);
    when(&gateway, "DELETE", &path, &tag(&key), Value::Null).await.expect(412);
    let holder = tag(&gateway.get("/consumers/c").await);
    when(&gateway, "PATCH", "/key-auths/n/consumer", &tag(&key), json!({ "username": "d" })).await.expect(412);
    when(&gateway, "PATCH", "/key-auths/n/consumer", &holder, json!({ "username": "d" })).await.expect(200);
}

#[tokio::test]
async fn without_a_database_rows_are_tagged_and_writes_are_refused_as_ever() {
    let gateway = Gateway::dbless().await;
    let config = json!({ "_format_version": "3.0", "services": [{ "name": "a", "host": "a.test" }] });
    gateway.post("/config", config).await.expect(201);
    let current = tag(&gateway.get("/services/a").await.expect(200));
    gateway.raw("GET", "/services/a", &[("if-none-match", &current)], b"").await.expect(304);
    when(&gateway, "PATCH", "/services/a", "\"x\"", json!({ "port": 1 })).await.expect(405);
}
