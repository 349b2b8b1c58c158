//! The API's own description.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kit::Gateway;

async fn document(gateway: &Gateway) -> Value {
    gateway.get("/openapi.json").await.expect(200).body
}

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// A path with something in the place of its parameters.
fn filled(pattern: &str) -> String {
    pattern.split('/').map(|segment| if segment.starts_with('{') { "any" } else { segment }).collect::<Vec<_>>().join("/")
}

/// The verbs that the document lists for a path, as `Allow` would.
fn listed(item: &Value) -> String {
    let mut verbs: Vec<String> = METHODS.iter().filter(|method| item.get(method).is_some()).map(|method| method.to_uppercase()).collect();
    verbs.push("OPTIONS".to_owned());
    if verbs.contains(&"GET".to_owned()) {
        verbs.push("HEAD".to_owned());
    }
    verbs.sort_unstable();
    verbs.join(", ")
}

#[tokio::test]
async fn every_path_of_the_document_is_served_with_these_verbs() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let mut compared = 0;
    for (pattern, item) in document["paths"].as_object().unwrap() {
        let reply = gateway.raw("OPTIONS", &filled(pattern), &[], b"").await;
        match reply.status {
            204 => {
                assert_eq!(reply.header("allow"), Some(listed(item).as_str()), "{pattern}");
                compared += 1;
            }
            // Guards answer before any verb: no database, no such certificate, no WASM.
            status => assert!(status == 400 || reply.body["message"] == "SNI not found", "{pattern}: {status} {}", reply.text),
        }
    }
    assert!(compared > 60, "only {compared} paths were compared");
}

#[tokio::test]
async fn every_served_path_is_in_the_document() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let endpoints = gateway.get("/endpoints").await.expect(200);
    let endpoints = endpoints.body["data"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
    let mut served = BTreeSet::from(["/robots.txt", "/bulk", "/openapi.json"].map(str::to_owned));
    for pattern in endpoints {
        assert!(!served.contains(&pattern), "{pattern} is not one of Kong's");
        let reply = gateway.raw("OPTIONS", &filled(&pattern), &[], b"").await;
        if reply.status != 404 || reply.body["message"] == "SNI not found" {
            served.insert(pattern);
        }
    }
    assert_eq!(document["paths"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>(), served);
}

/// Calls `visit` with every object in a document.
fn walk(value: &Value, visit: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            visit(fields);
            fields.values().for_each(|value| walk(value, visit));
        }
        Value::Array(list) => list.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_holds_together() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = 0;
    walk(&document, &mut |object| {
        if let Some(Value::String(target)) = object.get("$ref") {
            assert!(document.pointer(&target[1..]).is_some(), "{target} leads nowhere");
            references += 1;
        }
    });
    assert!(references > 100);

    let mut ids = BTreeSet::new();
    for (pattern, item) in document["paths"].as_object().unwrap() {
        let in_path: Vec<&str> = pattern.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect();
        let declared = item.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
        assert_eq!(declared.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect::<Vec<_>>(), in_path, "{pattern}");
        for method in METHODS.iter().filter_map(|method| item.get(method)) {
            assert!(ids.insert(method["operationId"].as_str().unwrap().to_owned()), "{} twice", method["operationId"]);
            assert_ne!(method["summary"], "An endpoint of a plugin", "{pattern} is not described");
            for (status, answer) in method["responses"].as_object().unwrap() {
                assert!(status.parse::<u16>().is_ok() && (answer.get("$ref").is_some() || answer["description"].is_string()));
            }
        }
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{name}");
    }
}

#[tokio::test]
async fn schemas_say_what_fields_may_hold() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let schemas = &document["components"]["schemas"];
    let service = &schemas["services.write"];
    assert_eq!(service["required"], json!(["host"]));
    assert_eq!(service["additionalProperties"], false);
    let port = &service["properties"]["port"];
    assert_eq!(
        (&port["type"], &port["minimum"], &port["maximum"], &port["default"]),
        (&json!("integer"), &json!(0), &json!(65535), &json!(80))
    );
    assert!(port["description"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(service["properties"]["protocol"]["enum"].as_array().unwrap().len(), 8);
    assert_eq!(service["properties"]["retries"]["type"], json!(["integer", "null"]));
    assert_eq!(service["properties"]["url"]["type"], json!(["string", "null"]));
    let reference = &schemas["routes.write"]["properties"]["service"];
    assert_eq!(reference["properties"].as_object().unwrap().keys().collect::<Vec<_>>(), ["id", "name"]);
    assert_eq!(schemas["services.change"].get("required"), None);
    // In answers: what is always there, and nothing that is only taken.
    let shown = &schemas["services"];
    assert!(shown["required"].as_array().unwrap().contains(&json!("id")));
    assert_eq!(shown["properties"].get("url"), None);
    assert_eq!(schemas["keyauth_credentials"]["properties"]["ttl"]["maximum"], 100_000_000);
}

#[tokio::test]
async fn a_plugin_is_one_of_those_by_name() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let schemas = &document["components"]["schemas"];
    let plugins = &schemas["plugins.write"];
    assert_eq!(plugins["discriminator"]["propertyName"], "name");
    assert_eq!(plugins["oneOf"].as_array().unwrap().len(), gateway.catalog.plugins.len());
    let limit = &schemas["plugins.write.limit"];
    assert_eq!(limit["properties"]["name"]["const"], "limit");
    assert_eq!(limit["properties"]["config"]["properties"]["minute"]["exclusiveMinimum"], 0);
    assert_eq!(schemas["plugins.write.who"]["properties"]["consumer"]["type"], "null");
}

#[tokio::test]
async fn the_document_is_there_without_a_database_too() {
    let gateway = Gateway::dbless().await;
    assert!(document(&gateway).await["paths"]["/bulk"]["post"]["responses"]["405"].is_object());
}
