//! Entities in the document: a schema for answers, one for POST and PUT, one for PATCH, and the operations on them.

use http::Method;
use portcullis_schema::{Catalog, Field, Record, Schema};
use serde_json::{Map, Value, json};

use super::fields::{Fields, Use};
use super::{json_content, schema_ref, with_errors};
use crate::table::{Endpoint, Scope};

/// The schemas of every entity that the API serves. An entity whose `config` depends on a name is one of several objects.
pub fn schemas(catalog: &Catalog, into: &mut Map<String, Value>) {
    for schema in catalog.entities.iter().filter(|schema| schema.admin_api) {
        for (of, suffix) in [(Use::Read, ""), (Use::Write, ".write"), (Use::Change, ".change")] {
            let name = format!("{}{suffix}", schema.name);
            let kinds = kinds(catalog, schema);
            if kinds.is_empty() || of == Use::Change {
                into.insert(name, object(catalog, schema, of, None));
                continue;
            }
            let mut mapping = Map::new();
            for kind in kinds {
                let one = format!("{name}.{kind}");
                mapping.insert(kind.to_owned(), format!("#/components/schemas/{one}").into());
                into.insert(one, object(catalog, schema, of, Some(kind)));
            }
            let choices: Vec<Value> = mapping.values().map(|target| json!({ "$ref": target })).collect();
            let discriminator = json!({ "propertyName": schema.config_by, "mapping": mapping });
            into.insert(name, json!({ "oneOf": choices, "discriminator": discriminator }));
        }
        into.insert(format!("{}.page", schema.name), page(schema));
    }
}

/// The names that pick the `config` of an entity.
fn kinds<'a>(catalog: &'a Catalog, schema: &Schema) -> Vec<&'a str> {
    match (schema.config_by, schema.name.as_ref()) {
        (None, _) => Vec::new(),
        (Some(_), "vaults") => catalog.vaults.keys().map(String::as_str).collect(),
        (Some(_), _) => catalog.plugins.keys().map(String::as_str).collect(),
    }
}

fn object(catalog: &Catalog, schema: &Schema, of: Use, kind: Option<&str>) -> Value {
    let named = schema.config_by.zip(kind);
    let input = Record::from_iter(named.map(|(by, kind)| (by.to_owned(), kind.into())));
    let mut fields = catalog.fields_for(schema, &input, None).into_owned();
    for (name, field) in &mut fields {
        if let Some((by, kind)) = named
            && *name == by
        {
            *field = Field { default: None, rules: Vec::new(), ..field.clone() }.required().eq(kind);
        }
    }
    let mut object = Fields { catalog, of }.object(&fields, &schema.shorthands);
    if schema.ttl {
        let ttl = json!({ "type": ["integer", "null"], "minimum": 0, "maximum": 100_000_000, "description": "Seconds to live." });
        object["properties"]["ttl"] = ttl;
    }
    object
}

fn page(schema: &Schema) -> Value {
    json!({
        "type": "object",
        "description": "A part of a list, and where it goes on.",
        "required": ["data", "next"],
        "properties": {
            "data": { "type": "array", "items": schema_ref(&schema.name) },
            "next": { "type": ["string", "null"], "description": "Path and query of the next page; null on the last." },
            "offset": { "type": "string", "description": "Where the next page starts." },
        },
        "additionalProperties": false,
    })
}

/// One verb of a path that is served from a schema.
pub fn operation(method: &Method, endpoint: &Endpoint, scope: &Scope) -> Value {
    let schema = &scope.schema;
    let name = schema.name.as_ref();
    let collection = endpoint.verb(&Method::POST).is_some() || endpoint.pattern.ends_with("/all") || schema.read_only;
    let row = |description: &str| {
        let etag = json!({ "ETag": { "$ref": "#/components/headers/ETag" } });
        json!({ "description": description, "headers": etag, "content": json_content(schema_ref(name)) })
    };
    let mut answers = Map::new();
    let mut operation = json!({});
    let summary = match *method {
        Method::GET if collection => {
            answers.insert(
                "200".to_owned(),
                json!({ "description": "A page.", "content": json_content(schema_ref(&format!("{name}.page"))) }),
            );
            operation["parameters"] = json!([parameter("Size"), parameter("Offset"), parameter("Tags")]);
            format!("List {name}")
        }
        Method::GET => {
            answers.insert("200".to_owned(), row("The row."));
            answers.insert("304".to_owned(), json!({ "description": "The row has one of the tags of `If-None-Match`." }));
            operation["parameters"] = json!([parameter("IfNoneMatch")]);
            format!("Show one of the {name}")
        }
        _ if schema.read_only => format!("Refused: {name} can only be read"),
        Method::POST => {
            answers.insert("201".to_owned(), row("The new row."));
            operation["requestBody"] = body(&format!("{name}.write"));
            format!("Make one of the {name}")
        }
        Method::PUT if endpoint.verb(&Method::GET).is_none() => {
            answers.insert("204".to_owned(), json!({ "description": "Done." }));
            format!("Mark one of the {name} by hand")
        }
        Method::PUT => {
            answers.insert("200".to_owned(), row("The row as it is now."));
            operation["requestBody"] = body(&format!("{name}.write"));
            operation["parameters"] = json!([parameter("IfMatch")]);
            format!("Make or replace one of the {name}")
        }
        Method::PATCH => {
            answers.insert("200".to_owned(), row("The row as it is now."));
            operation["requestBody"] = body(&format!("{name}.change"));
            operation["parameters"] = json!([parameter("IfMatch")]);
            format!("Change one of the {name}: records are merged, null unsets")
        }
        _ => {
            answers.insert("204".to_owned(), json!({ "description": "It is gone, or was not there." }));
            operation["parameters"] = json!([parameter("IfMatch")]);
            format!("Remove one of the {name}")
        }
    };
    operation["summary"] = summary.into();
    operation["responses"] = with_errors(answers, *method != Method::GET);
    operation
}

fn parameter(name: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{name}") })
}

fn body(schema: &str) -> Value {
    let mut content = json_content(schema_ref(schema));
    let form = json!({ "type": "object", "description": "Fields as text; `a.b` names a field of a record, `a[]` an element of a list." });
    content["application/x-www-form-urlencoded"] = json!({ "schema": form });
    json!({ "required": true, "content": content })
}
