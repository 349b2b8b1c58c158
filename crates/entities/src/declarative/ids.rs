//! Ids of entities that a document gives none: the same document always gets the same ones.

use std::collections::HashMap;

use portcullis_schema::{OnDelete, Record, Schema};
use serde_json::Value;
use uuid::Uuid;

/// Kong's namespace of ids in declarative configuration.
const NAMESPACE: Uuid = Uuid::from_u128(0xfd02801f_0957_4a15_a55a_c8d9606f30b5);

/// The entity that another is written inside of.
#[derive(Clone, Copy)]
pub(super) struct Parent<'a> {
    /// The field of the nested entity that references it.
    pub field: &'a str,
    pub id: &'a str,
}

/// Ids by endpoint key, one map for each kind of entity, for references by name.
pub(super) type Names = HashMap<String, HashMap<String, String>>;

/// The name under which an entity can be referred to: its endpoint key, where that is unique.
pub(super) fn endpoint_name<'a>(schema: &Schema, item: &'a Record) -> Option<&'a str> {
    let key = schema.endpoint_key?;
    schema.field(key).filter(|field| field.unique)?;
    item.get(key)?.as_str()
}

/// What the ids of one kind of entity are made in.
pub(super) fn namespace(schema: &Schema) -> Uuid {
    Uuid::new_v5(&NAMESPACE, schema.name.as_bytes())
}

/// Whether ids of this kind of entity may be made of what others are called: of references by name.
pub(super) fn may_need_names(schema: &Schema) -> bool {
    schema.foreigns().any(|(field, _, _)| schema.cache_key.contains(&field))
}

/// The id given, or one made of the entity's name, else of what makes it unique, else of its place. `namespace` is that of
/// the kind.
pub(super) fn id_of(schema: &Schema, namespace: &Uuid, item: &Record, parent: Option<Parent<'_>>, at: usize, names: &Names) -> Value {
    if let Some(id) = item.get("id").filter(|id| !id.is_null()) {
        return id.clone();
    }
    let from = |text: &str| {
        Value::String(Uuid::new_v5(namespace, text.as_bytes()).hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned())
    };
    if let Some(key) = joined(schema, item, parent) {
        return from(&key);
    }
    if let Some(name) = endpoint_name(schema, item) {
        return from(name);
    }
    // A name that others may have too, below other parents, counts together with the parent.
    if let Some(name) = schema.endpoint_key.and_then(|key| item.get(key)).and_then(Value::as_str) {
        let holders = schema.foreigns().filter(|(_, _, on_delete)| *on_delete == OnDelete::Cascade);
        let holder = |(field, _, _): (&str, _, _)| match (parent, item.get(field)) {
            (Some(parent), _) if parent.field == field => Some(parent.id.to_owned()),
            (_, Some(Value::String(written))) => Some(written.clone()),
            (_, Some(Value::Object(reference))) => Some(reference.get("id")?.as_str()?.to_owned()),
            _ => None,
        };
        return from(&holders.filter_map(holder).fold(name.to_owned(), |key, holder| format!("{key}:{holder}")));
    }
    let part = |field: &&str| match (parent, item.get(*field)) {
        (Some(parent), _) if parent.field == *field => parent.id.to_owned(),
        (_, Some(Value::String(text))) => referenced(schema, field, text, names).unwrap_or(text).to_owned(),
        (_, Some(Value::Object(reference))) => reference.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    let parts: Vec<String> = schema.cache_key.iter().map(part).collect();
    if parts.iter().any(|part| !part.is_empty()) {
        return from(&parts.join(":"));
    }
    let parent = parent.map_or("", |parent| parent.id);
    let written = serde_json::to_string(item).unwrap_or_default();
    from(&format!("{parent}:{at}:{written}"))
}

/// What makes an entity unique, as Kong joins it: with its kind, in any workspace, references as they are written. None where
/// a part is generated, missing or written as an object.
fn joined(schema: &Schema, item: &Record, parent: Option<Parent<'_>>) -> Option<String> {
    if schema.cache_key.is_empty() {
        return None;
    }
    let mut key = String::with_capacity(96);
    key.push_str(&schema.name);
    key.push_str(":*");
    for name in schema.cache_key {
        let field = schema.field(name)?;
        let part = match (item.get(*name), parent) {
            _ if field.auto => return None,
            (Some(Value::String(text)), _) => text.as_str(),
            (Some(_), _) => return None,
            (None, Some(parent)) if parent.field == *name => parent.id,
            (None, _) if field.required => return None,
            (None, _) => "",
        };
        key.push(':');
        key.push_str(part);
    }
    Some(key)
}

/// The id behind a reference by name.
fn referenced<'a>(schema: &Schema, field: &str, name: &str, names: &'a Names) -> Option<&'a str> {
    let (_, entity, _) = schema.foreigns().find(|(foreign, _, _)| *foreign == field)?;
    names.get(entity)?.get(name).map(String::as_str)
}
