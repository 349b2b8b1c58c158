//! `/openapi.json`: the Admin API as an OpenAPI 3.1 document, made from the same schemas and the same table that serve it.
//!
//! - `fields`: a field and its rules as a JSON Schema
//! - `rows`: entities: their schemas, and the operations of collections and items
//! - `plain`: the endpoints that are written by hand

mod fields;
mod plain;
mod rows;

use bytes::Bytes;
use http::{Method, StatusCode};
use portcullis_schema::Catalog;
use serde_json::{Map, Value, json};

use crate::Call;
use crate::answer::{Answer, JSON, Outcome};
use crate::rows::Admin;
use crate::table::{Endpoint, Handle, Table, WholeHandler};

pub const PATH: &str = "/openapi.json";

const SHOW: WholeHandler = |admin, table, call| Box::pin(async { show(admin, table, call) });

pub fn endpoints(table: &mut Table) {
    table.set(Method::GET, PATH, Handle::Whole(SHOW));
}

fn show(admin: &Admin, table: &Table, _call: &Call) -> Outcome {
    let made = || Bytes::from(document(&admin.catalog, table, &admin.node.version()).to_string());
    let body = admin.document.get_or_init(made).clone();
    Ok(Answer { content_type: Some(JSON), body, ..Answer::empty(StatusCode::OK) })
}

fn document(catalog: &Catalog, table: &Table, version: &str) -> Value {
    let mut schemas = shared_schemas();
    rows::schemas(catalog, &mut schemas);
    let paths: Map<String, Value> = table.served().map(|endpoint| (endpoint.pattern.clone(), path(catalog, endpoint))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portcullis Admin API",
            "version": version,
            "description": "Configures the gateway. Compatible with the Admin API of Kong; entity tags, /bulk and this document are additions.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas, "parameters": parameters(), "headers": headers(), "responses": responses() },
    })
}

fn path(catalog: &Catalog, endpoint: &Endpoint) -> Value {
    let mut item = Map::new();
    let parameters = path_parameters(catalog, endpoint);
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), parameters.into());
    }
    for (method, handle) in &endpoint.verbs {
        let known = plain::operation(method, &endpoint.pattern);
        let mut operation = match (&endpoint.scope, handle) {
            _ if known.is_some() => known.unwrap_or_default(),
            (Some(scope), Handle::Scoped(_)) => rows::operation(method, endpoint, scope),
            _ => plain::unknown(),
        };
        operation["operationId"] = operation_id(method, &endpoint.pattern).into();
        operation["tags"] = json!([endpoint.pattern.split('/').nth(1).filter(|segment| !segment.is_empty()).unwrap_or("node")]);
        item.insert(method.as_str().to_ascii_lowercase(), operation);
    }
    item.into()
}

/// `get_services_by_services`: unique, and a name that generators of clients can use.
fn operation_id(method: &Method, pattern: &str) -> String {
    let mut id = method.as_str().to_ascii_lowercase();
    for segment in pattern.split('/').filter(|segment| !segment.is_empty()) {
        let name = segment.trim_matches(['{', '}']);
        id.push_str(if name.len() == segment.len() { "_" } else { "_by_" });
        id.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    }
    if pattern == "/" { format!("{id}_node") } else { id }
}

fn path_parameters(catalog: &Catalog, endpoint: &Endpoint) -> Vec<Value> {
    let names = endpoint.pattern.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name: &str| {
        let description = match catalog.entity(name) {
            Some(schema) => match schema.endpoint_key {
                Some(key) => format!("The id or the {key} of one of the {name}."),
                None => format!("The id of one of the {name}."),
            },
            None => format!("The {}.", name.replace('_', " ")),
        };
        json!({
            "name": name, "in": "path", "required": true, "description": description, "schema": { "type": "string", "minLength": 1 },
        })
    };
    names.map(parameter).collect()
}

/// A JSON body.
fn json_content(schema: Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn schema_ref(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The answers that any operation may give beside its own.
fn with_errors(mut answers: Map<String, Value>, writes: bool) -> Value {
    let always = [("400", "BadRequest"), ("404", "NotFound"), ("503", "Unavailable")];
    let on_writes =
        [("405", "NotAllowed"), ("409", "Conflict"), ("412", "PreconditionFailed"), ("413", "TooLarge"), ("415", "UnsupportedMediaType")];
    let on_writes = on_writes.into_iter().filter(|_| writes);
    for (status, name) in always.into_iter().chain(on_writes) {
        answers.entry(status).or_insert_with(|| json!({ "$ref": format!("#/components/responses/{name}") }));
    }
    answers.into()
}

fn shared_schemas() -> Map<String, Value> {
    let fields = json!({ "description": "What is wrong with which field; keys mirror the record." });
    let message = |description: &str| json!({ "type": "string", "description": description });
    let error = json!({
        "type": "object",
        "description": "Why a request was refused, in Kong's words.",
        "required": ["message"],
        "properties": {
            "message": message("All complaints as one text."),
            "name": message("The kind of error."),
            "code": { "type": "integer", "minimum": 1, "description": "Kong's number of that kind." },
            "fields": fields,
            "options": fields,
        },
    });
    let said = json!({ "type": "object", "required": ["message"], "properties": { "message": message("What was done.") } });
    Map::from_iter([("Error".to_owned(), error), ("Message".to_owned(), said)])
}

fn parameters() -> Value {
    let header =
        |name: &str, description: &str| json!({ "name": name, "in": "header", "description": description, "schema": { "type": "string" } });
    let query =
        |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "description": description, "schema": schema });
    json!({
        "IfMatch": header("If-Match", "Entity tags, or `*`: the request is refused with 412 unless the row has one of them."),
        "IfNoneMatch": header("If-None-Match", "Entity tags, or `*`: if the row has one of them, it is not sent again (304)."),
        "Size": query("size", "How many rows a page has.", json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 })),
        "Offset": query("offset", "Where the page starts: `offset` of the page before.", json!({ "type": "string" })),
        "Tags": query("tags", "Only rows with all of these tags (`a,b`) or any of them (`a/b`).", json!({ "type": "string", "minLength": 1 })),
    })
}

fn headers() -> Value {
    json!({ "ETag": {
        "description": "Changes with the row. A remaining time to live is not part of it.",
        "schema": { "type": "string", "pattern": "^\"[0-9a-f]{32}\"$" },
    } })
}

fn responses() -> Value {
    let error = |description: &str| json!({ "description": description, "content": json_content(schema_ref("Error")) });
    let page = || json!({ "schema": { "type": "string" } });
    let mut bad = error("The request makes no sense, or the record breaks its schema.");
    bad["content"]["text/html"] = page();
    // Plugins' own endpoints say it without a body, which becomes nginx' page, as in Kong.
    let mut absent = error("There is no such row or path.");
    absent["content"]["text/html"] = page();
    json!({
        "BadRequest": bad,
        "NotFound": absent,
        "NotAllowed": error("The path has no such method, or this node has no database to write to."),
        "Conflict": error("Another row has that value of a unique field."),
        "PreconditionFailed": error("The row is not as `If-Match` expects it. Nothing was changed."),
        "TooLarge": error("The body is too large."),
        "UnsupportedMediaType": { "description": "The body is of a type that is not taken.", "content": { "text/html": page() } },
        "Unavailable": error("The store cannot be reached. Try again."),
    })
}
