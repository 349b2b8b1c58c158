//! Many operations in one transaction.

use serde_json::{Value, json};

use crate::kit::{Gateway, Reply};

async fn bulk(gateway: &Gateway, operations: Value) -> Reply {
    gateway.post("/bulk", json!({ "operations": operations })).await
}

fn statuses(reply: &Reply) -> Vec<u64> {
    reply.body["results"].as_array().unwrap().iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

/// Index and status of what failed.
fn failures(reply: &Reply) -> Vec<(u64, u64)> {
    let errors = reply.body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {}", reply.text));
    errors.iter().map(|error| (error["index"].as_u64().unwrap(), error["status"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn later_operations_see_what_earlier_ones_did() {
    let gateway = Gateway::start().await;
    gateway.post("/consumers", json!({ "username": "old" })).await.expect(201);
    let reply = bulk(
        &gateway,
        json!([
            { "method": "POST", "path": "/services", "body": { "name": "a", "host": "a.test" } },
            { "method": "POST", "path": "/routes", "body": { "name": "r", "paths": ["/r"], "service": { "name": "a" } } },
            { "method": "PUT", "path": "/services/a/routes/s", "body": { "paths": ["/s"] } },
            { "method": "PATCH", "path": "/services/a/", "body": { "port": 8080 } },
            { "method": "POST", "path": "/routes/r/plugins", "body": { "name": "limit", "config": { "minute": 5 } } },
            { "method": "DELETE", "path": "/routes/s" },
            { "method": "DELETE", "path": "/consumers/old" },
        ]),
    )
    .await
    .expect(200);
    assert_eq!(statuses(&reply), [201, 201, 200, 200, 201, 204, 204]);
    let results = &reply.body["results"];
    assert_eq!(results[3]["body"]["port"], 8080);
    assert_eq!(results[1]["body"]["service"]["id"], results[0]["body"]["id"]);
    assert_eq!(results[5], json!({ "status": 204 }));
    let service = gateway.get("/services/a").await.expect(200);
    assert_eq!(service.body, results[3]["body"]);
    assert_eq!(service.header("etag"), results[3]["etag"].as_str());
    assert_eq!(gateway.get("/services/a/routes").await.column("name"), ["r"]);
    assert_eq!(gateway.get("/routes/r/plugins").await.column("name"), ["limit"]);
    gateway.get("/consumers/old").await.expect(404);
    assert_eq!(gateway.facts.taken_up.load(std::sync::atomic::Ordering::SeqCst), 2, "all of it is one change");
}

#[tokio::test]
async fn every_failing_operation_is_told_and_nothing_is_changed() {
    let gateway = Gateway::start().await;
    gateway.post("/services", json!({ "name": "taken", "host": "a.test" })).await.expect(201);
    let reply = bulk(
        &gateway,
        json!([
            { "method": "POST", "path": "/services", "body": { "name": "new", "host": "a.test" } },
            { "method": "POST", "path": "/services", "body": { "name": "taken", "host": "a.test" } },
            { "method": "PATCH", "path": "/services/taken", "body": { "port": 70000 } },
            { "method": "PATCH", "path": "/services/taken", "body": { "port": 7 } },
            { "method": "DELETE", "path": "/services/none/routes/x" },
            { "method": "POST", "path": "/services", "body": { "name": "new", "host": "b.test" } },
        ]),
    )
    .await
    .expect(400);
    assert_eq!(failures(&reply), [(1, 409), (2, 400), (4, 404), (5, 409)]);
    assert_eq!(reply.body["name"], "bulk operations failed");
    assert_eq!(reply.body["message"], "4 of 6 operations failed, nothing was changed");
    let alone = gateway.post("/services", json!({ "name": "taken", "host": "a.test" })).await.expect(409).body;
    assert_eq!(reply.body["errors"][0], json!({ "index": 1, "method": "POST", "path": "/services", "status": 409, "body": alone }));
    assert_eq!(reply.body["errors"][1]["body"]["fields"], json!({ "port": "value should be between 0 and 65535" }));
    assert_eq!(gateway.get("/services").await.column("name"), ["taken"]);
    assert_eq!(gateway.get("/services/taken").await.body["port"], 80);
}

#[tokio::test]
async fn what_is_no_operation_on_an_entity_is_refused() {
    let gateway = Gateway::start().await;
    let reply = bulk(
        &gateway,
        json!([
            "x", {}, { "method": "GET", "path": "/services" }, { "method": "POST", "path": "services" },
            { "method": "POST", "path": "/services", "body": [] }, { "method": "POST", "path": "/services", "header": 1 },
            { "method": "POST", "path": "/bulk", "body": { "operations": [] } }, { "method": "DELETE", "path": "/cache" },
            { "method": "PUT", "path": "/upstreams/u/targets/t/healthy" }, { "method": "DELETE", "path": "/services" },
            { "method": "DELETE", "path": "/nothing" }, { "method": "DELETE", "path": "/services/%zz" },
        ]),
    )
    .await
    .expect(400);
    let told = failures(&reply);
    assert_eq!(told.iter().map(|(at, _)| *at).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    assert_eq!(told.iter().map(|(_, status)| *status).collect::<Vec<_>>(), [400, 400, 400, 400, 400, 400, 400, 400, 400, 405, 404, 400]);
    let method = &reply.body["errors"][2]["body"];
    assert_eq!(method["fields"], json!({ "method": "expected one of: POST, PUT, PATCH, DELETE" }));
    assert_eq!(reply.body["errors"][6]["body"], json!({ "message": "only entities can be changed in bulk" }));
}

#[tokio::test]
async fn a_list_of_operations_has_a_form_and_a_limit() {
    let gateway = Gateway::start().await;
    for (body, fields) in [
        (json!({}), json!({ "operations": "required field missing" })),
        (json!({ "operations": {} }), json!({ "operations": "expected an array" })),
        (json!({ "operations": [], "x": 1 }), json!({ "x": "unknown field" })),
        (json!({ "operations": vec![Value::Null; 1001] }), json!({ "operations": "length must be at most 1000" })),
    ] {
        assert_eq!(gateway.post("/bulk", body).await.expect(400).body["fields"], fields);
    }
    gateway.form("POST", "/bulk", "operations=1").await.expect(415);
    gateway.get("/bulk").await.expect(405);
    assert_eq!(bulk(&gateway, json!([])).await.expect(200).body, json!({ "results": [] }));
    let many: Vec<Value> =
        (0..1000).map(|at| json!({ "method": "POST", "path": "/consumers", "body": { "username": format!("c{at}") } })).collect();
    assert!(statuses(&bulk(&gateway, many.into()).await.expect(200)).iter().all(|status| *status == 201));
    assert_eq!(gateway.get("/consumers?size=1000").await.body["data"].as_array().unwrap().len(), 1000);
}

#[tokio::test]
async fn operations_may_have_conditions() {
    let gateway = Gateway::start().await;
    let read = gateway.post("/services", json!({ "name": "a", "host": "a.test" })).await.expect(201);
    let tag = read.header("etag").unwrap();
    let twice = |first: &str, second: &str| {
        json!([
            { "method": "PATCH", "path": "/services/a", "if_match": first, "body": { "port": 81 } },
            { "method": "PATCH", "path": "/services/a", "if_match": second, "body": { "port": 82 } },
        ])
    };
    assert_eq!(failures(&bulk(&gateway, twice(tag, tag)).await.expect(400)), [(1, 412)]);
    bulk(&gateway, twice(tag, "*")).await.expect(200);
    assert_eq!(gateway.get("/services/a").await.body["port"], 82);
}

#[tokio::test]
async fn lists_that_compete_are_served_one_after_the_other() {
    let gateway = std::sync::Arc::new(Gateway::start().await);
    gateway.post("/services", json!({ "name": "a", "host": "a.test", "port": 1 })).await.expect(201);
    let writers: Vec<_> = (0..12)
        .map(|at| {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                // Half of them want the same name; single writes come in between.
                let name = format!("n{}", if at % 2 == 0 { 0 } else { at });
                let operations = json!([
                    { "method": "POST", "path": "/services", "body": { "name": name, "host": "x.test" } },
                    { "method": "PATCH", "path": "/services/a", "body": { "tags": [name] } },
                ]);
                gateway.post("/consumers", json!({ "username": format!("c{at}") })).await.expect(201);
                bulk(&gateway, operations).await.status
            })
        })
        .collect();
    let mut done = 0;
    for writer in writers {
        match writer.await.unwrap() {
            200 => done += 1,
            other => assert_eq!(other, 400),
        }
    }
    assert_eq!(done, 7);
    assert_eq!(gateway.get("/services").await.column("name").len(), 8);
}

#[tokio::test]
async fn certificates_come_with_their_names() {
    let gateway = Gateway::start().await;
    let pair = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
    let body = json!({ "cert": pair.cert.pem(), "key": pair.signing_key.serialize_pem(), "snis": ["x.test", "y.test"] });
    let made = json!({ "method": "POST", "path": "/certificates", "body": body });
    let again = json!({ "method": "PATCH", "path": "/certificates/x.test", "body": { "snis": ["x.test", "z.test"] } });
    let reply = bulk(&gateway, json!([made, again])).await.expect(200);
    assert_eq!(reply.body["results"][1]["body"]["snis"], json!(["x.test", "z.test"]));
    let shown = gateway.get("/certificates/z.test").await.expect(200);
    assert_eq!(shown.header("etag"), reply.body["results"][1]["etag"].as_str());
    assert_eq!(gateway.get("/snis").await.column("name").len(), 2);
}

#[tokio::test]
async fn without_a_database_nothing_is_changed_in_bulk() {
    let gateway = Gateway::dbless().await;
    let reply = bulk(&gateway, json!([])).await.expect(405);
    assert_eq!(
        reply.body,
        json!({
            "code": 12, "name": "operation unsupported", "message": "cannot apply bulk operations when not using a database",
        })
    );
}
