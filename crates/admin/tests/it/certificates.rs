//! Certificates and the names they serve.

use serde_json::{Value, json};

use crate::kit::Gateway;

fn pair(name: &str) -> Value {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    json!({ "cert": made.cert.pem(), "key": made.signing_key.serialize_pem() })
}

fn with(mut pair: Value, field: &str, value: Value) -> Value {
    pair[field] = value;
    pair
}

#[tokio::test]
async fn a_certificate_is_read_by_any_name_it_serves() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/certificates", with(pair("a.test"), "snis", json!(["b.test", "a.test"]))).await.expect(201);
    assert_eq!(made.body["snis"], json!(["a.test", "b.test"]));
    for path in [made.id(), "a.test".to_owned(), "b.test".to_owned()] {
        assert_eq!(gateway.get(&format!("/certificates/{path}")).await.expect(200).body["snis"], json!(["a.test", "b.test"]));
    }
    assert_eq!(gateway.get("/snis/a.test").await.expect(200).body["certificate"], json!({ "id": made.id() }));
    assert_eq!(gateway.get("/certificates").await.expect(200).body["data"][0]["snis"], json!(["a.test", "b.test"]));
    gateway.get("/certificates/a.test/snis/b.test").await.expect(200);
    for (method, path) in [("GET", "/certificates/no.test"), ("DELETE", "/certificates/no.test"), ("GET", "/certificates/no.test/snis")] {
        assert_eq!(gateway.raw(method, path, &[], b"").await.expect(404).body, json!({ "message": "SNI not found" }));
    }
    let absent = gateway.get("/certificates/c0ffee00-0000-4000-8000-0000000000ff").await.expect(404);
    assert_eq!(absent.body["code"], 6);
}

#[tokio::test]
async fn names_given_anew_replace_the_old_ones() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/certificates", with(pair("a.test"), "snis", json!(["a.test", "b.test"]))).await.expect(201);
    let path = format!("/certificates/{}", made.id());
    let changed = gateway.patch(&path, json!({ "snis": ["b.test", "c.test"] })).await.expect(200);
    assert_eq!(changed.body["snis"], json!(["b.test", "c.test"]));
    gateway.get("/snis/a.test").await.expect(404);
    assert_eq!(gateway.patch(&path, json!({ "tags": ["x"] })).await.expect(200).body["snis"], json!(["b.test", "c.test"]));
    assert_eq!(gateway.patch("/certificates/c.test", json!({ "snis": null })).await.expect(200).body["snis"], json!([]));
}

#[tokio::test]
async fn a_name_belongs_to_one_certificate() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/certificates", with(pair("a.test"), "snis", json!(["a.test"]))).await.expect(201);
    let taken = gateway.post("/certificates", with(pair("b.test"), "snis", json!(["a.test"]))).await.expect(400);
    assert_eq!(taken.body["fields"], json!({ "snis": format!("a.test already associated with existing certificate '{}'", made.id()) }));
    let twice = gateway.post("/certificates", with(pair("b.test"), "snis", json!(["b.test", "b.test"]))).await.expect(400);
    assert_eq!(twice.body["fields"], json!({ "snis": "b.test is duplicated" }));
    assert_eq!(gateway.get("/certificates").await.expect(200).body["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_certificate_goes_with_its_names_unless_it_is_in_use() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/certificates", with(pair("a.test"), "snis", json!(["a.test"]))).await.expect(201);
    let service = json!({ "name": "s", "url": "https://a.test", "client_certificate": { "id": made.id() } });
    gateway.post("/services", service).await.expect(201);
    let kept = gateway.delete("/certificates/a.test").await.expect(400);
    assert_eq!(kept.body["fields"], json!({ "@referenced_by": "services" }));
    assert_eq!(gateway.get("/services/s/client_certificate").await.expect(200).body["snis"], Value::Null);
    gateway.get("/snis/a.test").await.expect(200);
    gateway.patch("/services/s", json!({ "client_certificate": null })).await.expect(200);
    gateway.delete("/certificates/a.test").await.expect(204);
    gateway.get("/snis/a.test").await.expect(404);
    gateway.delete(&format!("/certificates/{}", made.id())).await.expect(204);
}

#[tokio::test]
async fn put_by_a_new_name_makes_a_certificate() {
    let gateway = Gateway::start().await;
    let made = gateway.put("/certificates/new.test", pair("new.test")).await.expect(200);
    assert_eq!(made.body["snis"], json!([]));
    let id = "c0ffee00-0000-4000-8000-0000000000a2";
    let put = gateway.put(&format!("/certificates/{id}"), with(pair("b.test"), "snis", json!(["b.test"]))).await.expect(200);
    assert_eq!((put.id().as_str(), &put.body["snis"]), (id, &json!(["b.test"])));
}

#[tokio::test]
async fn a_ca_certificate_in_use_stays() {
    let gateway = Gateway::start().await;
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let cert = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let made = gateway.post("/ca_certificates", json!({ "cert": cert.pem() })).await.expect(201);
    let service = json!({ "name": "s", "url": "https://a.test", "ca_certificates": [made.id()] });
    let user = gateway.post("/services", service).await.expect(201);
    let path = format!("/ca_certificates/{}", made.id());
    let kept = gateway.delete(&path).await.expect(400);
    let message = format!("ca certificate {} is still referenced by services (id = {})", made.id(), user.id());
    assert_eq!(kept.body, json!({ "code": 19, "name": "referenced by others", "message": message }));
    gateway.patch("/services/s", json!({ "ca_certificates": null })).await.expect(200);
    gateway.delete(&path).await.expect(204);
}
