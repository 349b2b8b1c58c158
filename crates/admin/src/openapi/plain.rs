//! The endpoints that no schema makes. A test holds that each of them is described.

use http::Method;
use serde_json::{Map, Value, json};

use super::{json_content, schema_ref, with_errors};
use crate::bulk;

/// The operation of an endpoint that is written by hand; none for those that come from schemas or from plugins.
pub fn operation(method: &Method, pattern: &str) -> Option<Value> {
    let any = || json!({ "type": "object" });
    let said = || schema_ref("Message");
    Some(match (method.as_str(), pattern) {
        ("GET", "/") => get("About this node: version, plugins, configuration", any()),
        ("GET", "/status") => {
            let mut operation = get("How this node is doing", any());
            operation["parameters"] = json!([
                query("unit", "The unit of sizes.", json!({ "enum": ["b", "k", "m", "g"], "default": "m" })),
                query("scale", "Digits after the point.", json!({ "type": "integer", "minimum": 0, "default": 2 })),
            ]);
            operation
        }
        ("GET", "/status/dns") => {
            let mut operation = get("Statistics of the DNS client", any());
            operation["responses"]["501"] = json!({ "description": "There are none.", "content": json_content(schema_ref("Error")) });
            operation
        }
        ("GET", "/endpoints") => get("The paths that Kong has too", list_of("data")),
        ("GET", "/timers") => get("Timers of this node", any()),
        ("GET", "/metrics") => text("Metrics in the Prometheus format"),
        ("GET", "/robots.txt") => text("Keeps crawlers away"),
        ("GET", "/openapi.json") => get("This document", any()),
        ("GET", "/cache/{key}") => get("A value of this node's caches", any()),
        ("DELETE", "/cache/{key}") => done("Forget a value of this node's caches"),
        ("DELETE", "/cache") => done("Empty this node's caches"),
        ("GET", "/debug/node/log-level") => get("The log level of this node", said()),
        ("PUT", "/debug/node/log-level/{log_level}" | "/debug/cluster/log-level/{log_level}") => {
            let mut operation = get("Change the log level for a time", said());
            operation["parameters"] = json!([query(
                "timeout",
                "Seconds after which it changes back; 0 is never.",
                json!({ "type": "number", "minimum": 0, "default": 60 })
            )]);
            operation["responses"]["405"] = reference("responses/NotAllowed");
            operation["responses"]["415"] = reference("responses/UnsupportedMediaType");
            operation
        }
        ("GET", "/clustering/data-planes") => get("Data planes known to this control plane", any()),
        ("GET", "/clustering/status") => {
            let mut operation = get("Data planes by id", any());
            operation["deprecated"] = true.into();
            operation
        }
        ("GET", "/plugins/enabled") => get("Plugins that can be configured here", list_of("enabled_plugins")),
        ("GET", "/plugins/schema/{name}") => {
            let mut operation = get("The configuration of a plugin, in Kong's terms", any());
            operation["deprecated"] = true.into();
            operation
        }
        ("GET", "/schemas/{name}") => get("The fields of an entity, in Kong's terms", any()),
        ("GET", "/schemas/plugins/{name}") => get("The fields of a plugin, in Kong's terms", any()),
        ("GET", "/schemas/vaults/{name}") => get("The fields of a vault, in Kong's terms", any()),
        ("GET", "/schemas/filters/{name}") => get("The fields of a WASM filter", any()),
        ("POST", "/schemas/{db_entity_name}/validate") => post("Check a record without storing it", any(), "200", said()),
        ("POST", "/schemas/plugins/validate") => post("Check a plugin without storing it", schema_ref("plugins.write"), "200", said()),
        ("POST", "/schemas/vaults/validate") => post("Check a vault without storing it", schema_ref("vaults.write"), "200", said()),
        ("GET", "/config") => {
            let config = json!({ "type": "string", "description": "The document, in YAML." });
            get(
                "The running configuration; only without a database",
                json!({
                    "type": "object", "required": ["config"], "properties": { "config": config },
                }),
            )
        }
        ("POST", "/config") => {
            let mut operation = post("Replace the whole configuration; only without a database", any(), "201", any());
            operation["requestBody"]["content"]["application/yaml"] = json!({ "schema": { "type": "string" } });
            operation["responses"]["304"] = json!({ "description": "It is what is running (`check_hash=1`)." });
            operation["parameters"] = json!([
                query("check_hash", "1: do nothing if the document is what is running.", json!({ "enum": ["0", "1"] })),
                query("flatten_errors", "1: complaints by entity instead of as a tree.", json!({ "enum": ["0", "1"] })),
            ]);
            operation
        }
        ("GET", "/upstreams/{upstreams}/health") => {
            let mut operation = get("The health of an upstream and its targets", any());
            operation["parameters"] =
                json!([query("balancer_health", "1: the upstream as a whole instead of its targets.", json!({ "enum": ["0", "1"] }))]);
            operation
        }
        ("GET", "/upstreams/{upstreams}/targets") => {
            let mut operation = get("List targets, newest first", schema_ref("targets.page"));
            let size = json!({ "type": "number", "default": 100 });
            operation["parameters"] = json!([
                query("size", "How many rows a page has, 1000 at most.", size),
                query("offset", "How many rows to leave out.", json!({ "type": "string", "pattern": "^[0-9]+$" })),
            ]);
            operation
        }
        ("GET", filters) if filters.starts_with("/routes/{routes}/filters/") => get(
            "WASM filters of a route; only where WASM is enabled",
            json!({
                "type": "object", "required": ["filters"], "properties": { "filters": { "type": "array" } },
            }),
        ),
        ("POST", bulk::PATH) => bulk_operation(),
        _ => return None,
    })
}

/// An endpoint of a plugin, of which nothing is known.
pub fn unknown() -> Value {
    let answers = Map::from_iter([
        ("200".to_owned(), json!({ "description": "Done.", "content": json_content(json!({})) })),
        ("204".to_owned(), json!({ "description": "Done." })),
    ]);
    json!({ "summary": "An endpoint of a plugin", "responses": with_errors(answers, true) })
}

fn bulk_operation() -> Value {
    let tags = json!({ "type": "string", "description": "As the header `If-Match` of a single request." });
    let item = json!({
        "type": "object",
        "required": ["method", "path"],
        "additionalProperties": false,
        "properties": {
            "method": { "enum": ["POST", "PUT", "PATCH", "DELETE"] },
            "path": { "type": "string", "pattern": "^/", "description": "Path of a collection or an item of an entity." },
            "body": { "type": ["object", "null"], "description": "What the path takes." },
            "if_match": tags,
        },
    });
    let operations = json!({
        "type": "object",
        "required": ["operations"],
        "additionalProperties": false,
        "properties": { "operations": { "type": "array", "items": item, "maxItems": bulk::MAX_OPERATIONS } },
    });
    let status = json!({ "type": "integer", "minimum": 200, "maximum": 599, "description": "The status it would have had alone." });
    let result = json!({
        "type": "object",
        "required": ["status"],
        "additionalProperties": false,
        "properties": { "status": status, "body": {}, "etag": { "type": "string" } },
    });
    let results = json!({
        "type": "object",
        "required": ["results"],
        "additionalProperties": false,
        "properties": { "results": { "type": "array", "items": result } },
    });
    let failure = json!({
        "type": "object",
        "required": ["index", "status"],
        "properties": { "index": { "type": "integer", "minimum": 0 }, "method": {}, "path": {}, "status": status, "body": {} },
    });
    let refused = json!({
        "allOf": [schema_ref("Error")],
        "properties": { "errors": { "type": "array", "items": failure, "description": "The operations that failed." } },
    });
    let answers = Map::from_iter([
        ("200".to_owned(), json!({ "description": "All was done.", "content": json_content(results) })),
        ("400".to_owned(), json!({ "description": "Something failed, nothing was changed.", "content": json_content(refused) })),
    ]);
    json!({
        "summary": "Apply operations on entities in one transaction: all or nothing",
        "description": "Operations run in order, and later ones see what earlier ones did.",
        "requestBody": { "required": true, "content": json_content(operations) },
        "responses": with_errors(answers, true),
    })
}

fn get(summary: &str, schema: Value) -> Value {
    let answer = json!({ "description": "The answer.", "content": json_content(schema) });
    json!({ "summary": summary, "responses": with_errors(Map::from_iter([("200".to_owned(), answer)]), false) })
}

fn text(summary: &str) -> Value {
    let answer = json!({ "description": "Text.", "content": { "text/plain": { "schema": { "type": "string" } } } });
    json!({ "summary": summary, "responses": with_errors(Map::from_iter([("200".to_owned(), answer)]), false) })
}

fn done(summary: &str) -> Value {
    let answer = json!({ "description": "Done." });
    json!({ "summary": summary, "responses": with_errors(Map::from_iter([("204".to_owned(), answer)]), true) })
}

fn post(summary: &str, takes: Value, status: &str, gives: Value) -> Value {
    let answer = json!({ "description": "Done.", "content": json_content(gives) });
    json!({
        "summary": summary,
        "requestBody": { "required": true, "content": json_content(takes) },
        "responses": with_errors(Map::from_iter([(status.to_owned(), answer)]), true),
    })
}

fn query(name: &str, description: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

fn reference(to: &str) -> Value {
    json!({ "$ref": format!("#/components/{to}") })
}

/// An object with one list of texts.
fn list_of(name: &str) -> Value {
    json!({
        "type": "object", "required": [name],
        "properties": { name: { "type": "array", "items": { "type": "string" } } },
    })
}
