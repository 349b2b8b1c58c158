//! Prepares every entity of a document by its schema, lifting nested ones out of their parents.

use std::sync::Arc;

use portcullis_schema::{Catalog, Given, Op, Record, Schema};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ids::{Names, Parent, endpoint_name, id_of};
use super::{Refusal, old_paths};

/// One entity of the document, complete but for references by name.
pub(super) struct Entry {
    pub schema: Arc<Schema>,
    pub record: Record,
    /// `(field, entity, as written)`.
    pub references: Vec<(String, &'static str, Value)>,
    /// Where it stands: lists and places in them, from the top.
    pub path: Vec<(String, usize)>,
}

/// Every entity of a document, children before their parents, and the document with ids filled in.
pub(super) struct Entries {
    pub entries: Vec<Entry>,
    pub input: Record,
    /// Whether values are computed on the way in, or are so already.
    pub transform: bool,
}

/// Keys of the document that are no entities.
const META: [&str; 4] = ["_format_version", "_transform", "_comment", "_ignore"];
const VERSIONS: [&str; 3] = ["1.1", "2.1", "3.0"];

pub(super) fn walk(catalog: &Catalog, mut input: Record, now: f64) -> Result<Entries, Box<Refusal>> {
    let mut fields = Record::new();
    let mut complain = |key: &str, complaint: &str| fields.insert(key.to_owned(), complaint.into());
    let version = input.get("_format_version").cloned().unwrap_or(Value::Null);
    match &version {
        Value::Null => _ = complain("_format_version", "required field missing"),
        Value::String(text) if VERSIONS.contains(&text.as_str()) => {}
        Value::String(_) => _ = complain("_format_version", "expected one of: 1.1, 2.1, 3.0"),
        _ => _ = complain("_format_version", "expected a string"),
    }
    if input.get("_transform").is_some_and(|value| !value.is_null() && !value.is_boolean()) {
        complain("_transform", "expected a boolean");
    }
    for (key, complaint) in remarks(&input) {
        complain(key, complaint);
    }
    let known = |key: &str| catalog.entity(key).is_some_and(|schema| !schema.read_only);
    for key in input.keys().filter(|key| !META.contains(&key.as_str()) && !known(key)) {
        complain(key, "unknown field");
    }
    let mut walker = Walker {
        catalog,
        nesting: Refusal::nesting_of(catalog),
        // Some transformations look at what an entity references, which is known at the end only.
        given: Given { op: Op::Insert, existing: None, now, transform: false },
        old_paths: matches!(version.as_str(), Some("1.1" | "2.1")),
        names: Names::new(),
        entries: Vec::new(),
    };
    walker.note_names(&input);
    let mut annotated = input.clone();
    for schema in catalog.entities.iter().filter(|schema| !schema.read_only) {
        let Some(list) = input.get_mut(schema.name.as_ref()) else { continue };
        if let Err(complaint) = walker.walk_list(schema, list, &mut annotated[schema.name.as_ref()], None, &[]) {
            fields.insert(schema.name.to_string(), complaint);
        }
    }
    if fields.is_empty() {
        let transform = input.get("_transform") != Some(&Value::Bool(false));
        return Ok(Entries { entries: walker.entries, input: annotated, transform });
    }
    Err(Box::new(Refusal { placed: fields.clone(), fields, input, nesting: walker.nesting, readable: true }))
}

/// What is wrong with the remarks of a document or an entity.
fn remarks(record: &Record) -> Vec<(&'static str, &'static str)> {
    let wrong = |key: &str, fits: fn(&Value) -> bool| record.get(key).is_some_and(|value| !value.is_null() && !fits(value));
    let mut found = Vec::new();
    if wrong("_comment", Value::is_string) {
        found.push(("_comment", "expected a string"));
    }
    if wrong("_ignore", Value::is_array) {
        found.push(("_ignore", "expected an array"));
    }
    found
}

struct Walker<'a> {
    catalog: &'a Catalog,
    nesting: Vec<(String, String, String)>,
    given: Given<'static>,
    old_paths: bool,
    names: Names,
    entries: Vec<Entry>,
}

impl Walker<'_> {
    /// Ids of everything that has a name, so that references by name can be part of other ids.
    fn note_names(&mut self, holder: &Record) {
        for schema in &self.catalog.entities {
            let Some(Value::Array(items)) = holder.get(schema.name.as_ref()) else { continue };
            for item in items.iter().filter_map(Value::as_object) {
                if let (Some(name), Value::String(id)) = (endpoint_name(schema, item), id_of(schema, item, None, 0, &self.names)) {
                    self.names.insert((schema.name.to_string(), name.to_owned()), id);
                }
                self.note_names(item);
            }
        }
    }

    /// Answers a sparse list of complaints if there are any. `annotated` gets the ids.
    fn walk_list(
        &mut self,
        schema: &Arc<Schema>,
        list: &mut Value,
        annotated: &mut Value,
        parent: Option<Parent<'_>>,
        path: &[(String, usize)],
    ) -> Result<(), Value> {
        let items = match list {
            Value::Null => return Ok(()),
            Value::Array(items) => items,
            Value::Object(fields) if fields.is_empty() => return Ok(()),
            _ => return Err("expected an array".into()),
        };
        let mut complaints = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let mut path = path.to_vec();
            path.push((schema.name.to_string(), at));
            if let Err(complaint) = self.walk_item(schema, item, &mut annotated[at], parent, path) {
                complaints.resize(at, Value::Null);
                complaints.push(complaint);
            }
        }
        if complaints.is_empty() { Ok(()) } else { Err(Value::Array(complaints)) }
    }

    fn walk_item(
        &mut self,
        schema: &Arc<Schema>,
        item: &Value,
        annotated: &mut Value,
        parent: Option<Parent<'_>>,
        path: Vec<(String, usize)>,
    ) -> Result<(), Value> {
        let mut input = match item {
            Value::Object(item) => item.clone(),
            Value::Array(list) if list.is_empty() => Record::new(),
            _ => return Err("expected a record".into()),
        };
        if !annotated.is_object() {
            *annotated = json!({});
        }
        let at = path.last().map_or(0, |(_, at)| *at);
        let mut complaints = Record::new();
        complaints.extend(remarks(&input).into_iter().map(|(key, complaint)| (key.to_owned(), complaint.into())));
        input.remove("_comment");
        input.remove("_ignore");
        let children = self.take_children(schema, &mut input);
        let id = id_of(schema, &input, parent, at, &self.names);
        for (child, field, mut list) in children {
            let parent = id.as_str().map(|id| Parent { field: &field, id });
            if let Err(complaint) = self.walk_list(&child, &mut list, &mut annotated[child.name.as_ref()], parent, &path) {
                complaints.insert(child.name.to_string(), complaint);
            }
        }
        annotated["id"] = id.clone();
        let references = self.take_references(schema, &mut input, parent, &mut complaints);
        if schema.field("id").is_some() {
            input.insert("id".to_owned(), id);
        }
        if self.old_paths && schema.name == "routes" {
            old_paths::migrate(&mut input);
        }
        match self.catalog.prepare_given(schema, input, self.given) {
            Ok(mut record) => {
                record.retain(|name, _| schema.field(name).is_none_or(|field| !field.transient));
                self.entries.push(Entry { schema: Arc::clone(schema), record, references, path });
            }
            Err(error) => {
                let found = error.fields.and_then(|fields| match fields {
                    Value::Object(fields) => Some(fields),
                    _ => None,
                });
                for (field, complaint) in found.unwrap_or_default() {
                    complaints.entry(field).or_insert_with(|| reworded(schema, item, complaint));
                }
            }
        }
        if complaints.is_empty() { Ok(()) } else { Err(Value::Object(complaints)) }
    }

    /// Lists of entities that stand inside this one, with the field by which each references it.
    fn take_children(&self, schema: &Schema, input: &mut Record) -> Vec<(Arc<Schema>, String, Value)> {
        let inside = self.nesting.iter().filter(|(outer, _, _)| *outer == schema.name);
        let taken = inside.filter_map(|(_, child, field)| {
            let list = input.remove(child)?;
            Some((Arc::clone(self.catalog.entity(child)?), field.clone(), list))
        });
        taken.collect()
    }

    /// References as written, each replaced by one that a schema accepts until all entities are known. A nested entity
    /// references its parent by where it stands, whatever it says.
    fn take_references(
        &self,
        schema: &Schema,
        input: &mut Record,
        parent: Option<Parent<'_>>,
        complaints: &mut Record,
    ) -> Vec<(String, &'static str, Value)> {
        let mut references = Vec::new();
        for (field, entity, _) in schema.foreigns() {
            let written = input.remove(field).unwrap_or(Value::Null);
            if let Some(parent) = parent.filter(|parent| parent.field == field) {
                input.insert(field.to_owned(), json!({ "id": parent.id }));
                continue;
            }
            match &written {
                Value::Null => continue,
                Value::String(text) if text.is_empty() => _ = complaints.insert(field.to_owned(), "length must be at least 1".into()),
                Value::String(_) => references.push((field.to_owned(), entity, written)),
                Value::Object(reference) if reference.contains_key("id") => {
                    input.insert(field.to_owned(), written.clone());
                    references.push((field.to_owned(), entity, written));
                    continue;
                }
                Value::Object(_) => _ = complaints.insert(field.to_owned(), json!({ "id": "missing primary key" })),
                _ => _ = complaints.insert(field.to_owned(), "expected a string".into()),
            }
            input.insert(field.to_owned(), json!({ "id": Uuid::nil() }));
        }
        references
    }
}

/// Kong's checks of a document quote the target, its Admin API doesn't.
fn reworded(schema: &Schema, item: &Value, complaint: Value) -> Value {
    match (complaint.as_str(), item.get("target").and_then(Value::as_str)) {
        (Some(text), Some(target)) if schema.name == "targets" && text.starts_with("Invalid target; ") => {
            text.replacen("Invalid target;", &format!("Invalid target ('{target}');"), 1).into()
        }
        _ => complaint,
    }
}
