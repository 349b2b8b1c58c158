//! What is made of bodies: JSON, forms, multipart, and what is neither.

use serde_json::json;

use crate::kit::Gateway;

#[tokio::test]
async fn json_that_does_not_parse_is_refused() {
    let gateway = Gateway::start().await;
    for body in ["{\"host\": ", "", "host=x", "{'host': 'x'}", "5", "null"] {
        let reply = gateway.raw("POST", "/services", &[("content-type", "application/json")], body.as_bytes()).await.expect(400);
        assert_eq!(reply.body, json!({ "message": "Cannot parse JSON body" }), "{body}");
    }
    let empty = gateway.raw("POST", "/services", &[("content-type", "application/json")], b"[]").await.expect(400);
    assert_eq!(empty.body["fields"], json!({ "host": "required field missing" }));
}

#[tokio::test]
async fn reading_and_deleting_ignore_a_body() {
    let gateway = Gateway::start().await;
    gateway.raw("GET", "/services/none", &[("content-type", "application/json")], b"{broken").await.expect(404);
    gateway.raw("DELETE", "/services/none", &[("content-type", "application/json")], b"{broken").await.expect(204);
}

#[tokio::test]
async fn other_types_are_refused_wherever_they_are_sent() {
    let gateway = Gateway::start().await;
    for path in ["/services", "/nothing-here", "/config"] {
        gateway.raw("POST", path, &[("content-type", "text/plain")], b"x").await.expect(415);
    }
    gateway.raw("POST", "/services", &[("content-type", "text/yaml")], b"host: x").await.expect(415);
    gateway.raw("POST", "/services", &[], b"").await.expect(400);
}

#[tokio::test]
async fn whole_numbers_stay_whole_however_they_are_written() {
    let gateway = Gateway::start().await;
    let body = br#"{"host": "a.test", "host": "b.test", "port": 8.0e1, "retries": 5.0}"#;
    let reply = gateway.raw("POST", "/services", &[("content-type", "application/json; charset=utf-8")], body).await.expect(201);
    assert_eq!((&reply.body["host"], reply.body["port"].as_u64(), reply.body["retries"].as_u64()), (&json!("b.test"), Some(80), Some(5)));
}

#[tokio::test]
async fn form_fields_get_the_types_of_the_schema() {
    let gateway = Gateway::start().await;
    let form = "name=limit&config.minute=10&config.hour=100.5&config.fault_tolerant=false&config.redis.host=r.test\
                &config.redis.port=6380&enabled=false&tags[]=a&tags[]=b&config.names=one&config.headers.x-one=1";
    let made = gateway.form("POST", "/plugins", form).await.expect(201).body;
    assert_eq!(made["config"]["minute"], json!(10));
    assert_eq!(made["config"]["hour"], json!(100.5));
    assert_eq!(made["config"]["fault_tolerant"], json!(false));
    assert_eq!(made["config"]["redis"], json!({ "host": "r.test", "port": 6380 }));
    assert_eq!(made["config"]["names"], json!(["one"]));
    assert_eq!(made["config"]["headers"], json!({ "x-one": "1" }));
    assert_eq!((&made["enabled"], &made["tags"]), (&json!(false), &json!(["a", "b"])));
}

#[tokio::test]
async fn an_empty_form_field_unsets_and_a_wrong_one_is_named() {
    let gateway = Gateway::start().await;
    gateway.post("/consumers", json!({ "username": "tv", "tags": ["x"] })).await.expect(201);
    assert_eq!(gateway.form("PATCH", "/consumers/tv", "tags=").await.expect(200).body["tags"], json!(null));
    let wrong = gateway.form("POST", "/plugins", "name=limit&config.minute=lots").await.expect(400);
    assert_eq!(wrong.body["fields"], json!({ "config": { "minute": "expected a number" } }));
}

#[tokio::test]
async fn multipart_parts_are_fields() {
    let gateway = Gateway::start().await;
    let body = "--cut\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nmulti\r\n\
                --cut\r\nContent-Disposition: form-data; name=\"tags[]\"; filename=\"t\"\r\n\r\nx\r\n--cut--\r\n";
    let headers = [("content-type", "multipart/form-data; boundary=cut")];
    let made = gateway.raw("POST", "/consumers", &headers, body.as_bytes()).await.expect(201).body;
    assert_eq!((&made["username"], &made["tags"]), (&json!("multi"), &json!(["x"])));
    gateway.raw("POST", "/consumers", &headers, b"nonsense").await.expect(400);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let gateway = Gateway::with(|settings| settings.body_limit = 1000).await;
    let body = json!({ "username": "x".repeat(2000) });
    gateway.post("/consumers", body).await.expect(413);
}
