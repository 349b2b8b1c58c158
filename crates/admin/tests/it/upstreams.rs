//! Targets of an upstream and their health.

use portcullis_admin::UpstreamHealth;
use serde_json::{Value, json};

use crate::kit::{Gateway, NODE, host};

async fn with_targets(targets: &[(&str, u64)]) -> Gateway {
    let gateway = Gateway::start().await;
    gateway.post("/upstreams", json!({ "name": "u" })).await.expect(201);
    for (at, (target, weight)) in targets.iter().enumerate() {
        let row = json!({ "target": target, "weight": weight, "created_at": 1000.5 + at as f64 });
        gateway.post("/upstreams/u/targets", row).await.expect(201);
    }
    gateway
}

#[tokio::test]
async fn targets_are_listed_newest_first_and_all_of_them_by_id() {
    let gateway = with_targets(&[("10.0.0.1:80", 100), ("10.0.0.2:80", 0), ("10.0.0.3:80", 100)]).await;
    let list = gateway.get("/upstreams/u/targets").await.expect(200);
    assert_eq!(list.column("target"), ["10.0.0.3:80", "10.0.0.2:80", "10.0.0.1:80"]);
    let page = gateway.get("/upstreams/u/targets?size=2").await.expect(200);
    assert_eq!((page.column("target").len(), &page.body["offset"]), (2, &json!("2")));
    assert_eq!(gateway.get(page.body["next"].as_str().unwrap()).await.expect(200).column("target"), ["10.0.0.1:80"]);
    let mut ids = gateway.get("/upstreams/u/targets/all").await.expect(200).column("id");
    let sorted = ids.clone();
    ids.sort();
    assert_eq!((ids.len(), ids), (3, sorted));
    assert_eq!(gateway.get("/upstreams/u/targets?size=0").await.expect(200).body, json!({ "data": [], "next": null }));
    gateway.get("/upstreams/u/targets/all?size=0").await.expect(400);
    gateway.get("/upstreams/u/targets?offset=x").await.expect(400);
    gateway.get("/upstreams/absent/targets/all").await.expect(404);
}

#[tokio::test]
async fn a_target_is_named_by_its_address_within_its_upstream() {
    let gateway = with_targets(&[("10.0.0.1:80", 10)]).await;
    gateway.post("/upstreams", json!({ "name": "other" })).await.expect(201);
    let id = gateway.get("/upstreams/u/targets/10.0.0.1:80").await.expect(200).id();
    gateway.get("/upstreams/other/targets/10.0.0.1:80").await.expect(404);
    gateway.get(&format!("/upstreams/other/targets/{id}")).await.expect(404);
    gateway.get("/upstreams/u/targets/10.0.0.1").await.expect(404);
    assert_eq!(gateway.patch("/upstreams/u/targets/10.0.0.1:80", json!({ "weight": 20 })).await.expect(200).body["weight"], 20);
    let put = gateway.put(&format!("/upstreams/u/targets/{id}"), json!({ "weight": 30 })).await.expect(200);
    assert_eq!((&put.body["target"], &put.body["weight"]), (&json!("10.0.0.1:80"), &json!(30)));
    gateway.put("/upstreams/u/targets/10.9.9.9:80", json!({ "weight": 1 })).await.expect(404);
    let null = gateway.patch(&format!("/upstreams/u/targets/{id}"), json!({ "weight": null })).await.expect(400);
    assert_eq!((&null.body["code"], &null.body["fields"]), (&json!(3), &json!({ "id": id })));
    let twice = gateway.post("/upstreams/u/targets", json!({ "target": "10.0.0.1:80" })).await.expect(409);
    assert_eq!(twice.body["fields"]["target"], "10.0.0.1:80");
    gateway.delete(&format!("/upstreams/u/targets/{id}")).await.expect(204);
    gateway.delete(&format!("/upstreams/u/targets/{id}")).await.expect(404);
}

#[tokio::test]
async fn health_is_what_the_balancer_says() {
    let gateway = with_targets(&[("10.0.0.1:80", 100), ("10.0.0.2:80", 50), ("10.0.0.3:81", 0)]).await;
    let hosts = vec![host("10.0.0.1", 80, 100, true), host("10.0.0.2", 80, 50, false), host("10.0.0.3", 81, 0, true)];
    *gateway.facts.health.lock().unwrap() = Some(UpstreamHealth { checked: true, healthy: true, hosts });
    let reply = gateway.get("/upstreams/u/health").await.expect(200);
    assert_eq!(reply.column("health"), ["HEALTHCHECKS_OFF", "UNHEALTHY", "HEALTHY"]);
    assert_eq!((&reply.body["node_id"], &reply.body["next"]), (&json!(NODE), &Value::Null));
    let data = json!({
        "host": "10.0.0.2", "port": 80, "dns": "A", "nodeWeight": 50,
        "weight": { "total": 50, "available": 0, "unavailable": 50 },
        "addresses": [{ "ip": "10.0.0.2", "port": 80, "weight": 50, "health": "UNHEALTHY" }],
    });
    assert_eq!(reply.body["data"][1]["data"], data);
    let whole = gateway.get("/upstreams/u/health?balancer_health=1").await.expect(200).body;
    assert_eq!((&whole["data"]["health"], &whole["data"]["balancer_health"]), (&json!("HEALTHY"), &json!("HEALTHY")));
    assert_eq!(whole["data"]["details"]["weight"], json!({ "total": 150, "available": 100, "unavailable": 50 }));
    assert_eq!(gateway.get("/upstreams/u/health?size=1").await.expect(200).body["next"], "/upstreams/u/health?offset=1");
    gateway.get("/upstreams/absent/health").await.expect(404);
}

#[tokio::test]
async fn targets_are_marked_by_hand() {
    let gateway = with_targets(&[("10.0.0.1:80", 100)]).await;
    let path = "/upstreams/u/targets/10.0.0.1:80";
    gateway.put(&format!("{path}/unhealthy"), json!({})).await.expect(204);
    gateway.put(&format!("{path}/10.0.0.1:80/healthy"), json!({})).await.expect(204);
    let marks = gateway.facts.marks.lock().unwrap().clone();
    let address = Some("10.0.0.1:80".to_owned());
    assert_eq!(marks, [("10.0.0.1:80".to_owned(), None, false), ("10.0.0.1:80".to_owned(), address, true)]);
    gateway.post(&format!("{path}/healthy"), json!({})).await.expect(405);
    gateway.put("/upstreams/u/targets/10.9.9.9:80/healthy", json!({})).await.expect(404);
    *gateway.facts.refuse_marks.lock().unwrap() = Some("no healthchecker found for u".to_owned());
    let refused = gateway.put(&format!("{path}/healthy"), json!({})).await.expect(400);
    assert_eq!(refused.body, json!({ "message": "no healthchecker found for u" }));
}
