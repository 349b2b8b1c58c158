//! What only the whole document can tell: whether names are unique and references lead somewhere.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use portcullis_schema::{Catalog, Record, Schema};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Refusal;
use super::ids::endpoint_name;
use super::walk::{Entries, Entry};

/// Complaints in Kong's two orders: by place in a list, or by the name of an entity.
#[derive(Default)]
struct Complaints {
    by_place: BTreeMap<usize, Value>,
    by_name: BTreeMap<String, Value>,
    nested: Record,
    placed: Record,
}

/// Everything in order, and what was there before values were computed.
pub(super) struct Settled {
    pub records: Vec<(Arc<Schema>, Vec<Record>)>,
    pub untransformed: HashMap<String, Record>,
}

pub(super) fn settle(catalog: &Catalog, entries: Entries) -> Result<Settled, Box<Refusal>> {
    let Entries { mut entries, input, transform } = entries;
    let mut untransformed = HashMap::new();
    let mut complaints: BTreeMap<String, Complaints> = BTreeMap::new();
    let ids = check_unique(catalog, &entries, &mut complaints);
    let resolved: Vec<Resolved> = entries.iter().map(|entry| resolve(catalog, entry, &ids, &mut complaints)).collect();
    for (entry, resolved) in entries.iter_mut().zip(resolved) {
        for (field, id) in resolved.found {
            entry.record.insert(field, json!({ "id": id }));
        }
        if resolved.complete && transform && !entry.schema.transforms.is_empty() {
            untransformed.extend(text(&entry.record, "id").map(|id| (id.to_owned(), entry.record.clone())));
            if let Err(found) = entry.schema.transform(&mut entry.record) {
                let of = complaints.entry(entry.schema.name.to_string()).or_default();
                let path = entry.place.path(catalog);
                place(&mut of.nested, &path, Value::Object(found.0.clone()));
                place(&mut of.placed, &path, Value::Object(found.0));
            }
        }
    }
    if complaints.values().all(|of| of.placed.is_empty()) {
        return Ok(Settled { records: grouped(catalog, entries), untransformed });
    }
    let mut fields = Record::new();
    let mut placed = Record::new();
    for (entity, of) in complaints {
        merge_into(&mut fields, of.nested);
        merge_into(&mut placed, of.placed);
        if of.by_name.is_empty() && of.by_place.is_empty() {
            continue;
        }
        let tree = if of.by_name.is_empty() {
            let mut list = vec![Value::Null; of.by_place.keys().max().map_or(0, |last| last + 1)];
            of.by_place.into_iter().for_each(|(at, complaint)| list[at] = complaint);
            Value::Array(list)
        } else {
            let places = of.by_place.into_iter().map(|(at, complaint)| ((at + 1).to_string(), complaint));
            Value::Object(of.by_name.into_iter().chain(places).collect())
        };
        merge_into(&mut fields, Record::from_iter([(entity, tree)]));
    }
    Err(Box::new(Refusal { fields, placed, input, nesting: Refusal::nesting_of(catalog), readable: true }))
}

/// What is known of one kind of entity.
#[derive(Default)]
struct Known<'a> {
    ids: HashSet<Cow<'a, str>, RandomState>,
    /// Ids by endpoint key.
    names: HashMap<&'a str, &'a str, RandomState>,
    /// Values of unique fields, by the field's place in the schema.
    values: HashSet<(usize, Cow<'a, str>), RandomState>,
}

/// What is known of every kind, by name.
type Ids<'a> = HashMap<&'a str, Known<'a>>;

fn check_unique<'a>(catalog: &Catalog, entries: &'a [Entry], complaints: &mut BTreeMap<String, Complaints>) -> Ids<'a> {
    let mut known = Ids::new();
    for entry in entries {
        let schema = &entry.schema;
        let known = known.entry(schema.name.as_ref()).or_default();
        let taken = |field: &str, value: &str| {
            Value::from(format!("uniqueness violation: '{}' entity with {field} set to '{value}' already declared", schema.name))
        };
        let id = text(&entry.record, "id");
        let name = endpoint_name(schema, &entry.record);
        if let Some(name) = name {
            if known.names.contains_key(name) {
                let complaint = taken(schema.endpoint_key.unwrap_or("name"), name);
                let of = complaints.entry(schema.name.to_string()).or_default();
                of.by_place.insert(entry.place.at, complaint.clone());
                place(&mut of.placed, &entry.place.path(catalog), complaint);
                continue;
            }
            known.names.insert(name, id.unwrap_or_default());
        }
        if let Some(id) = id
            && !known.ids.insert(lowercase(id))
        {
            let complaint = taken("primary key", id);
            let of = complaints.entry(schema.name.to_string()).or_default();
            let path = entry.place.path(catalog);
            place(&mut of.nested, &path, complaint.clone());
            place(&mut of.placed, &path, complaint);
            continue;
        }
        for (at, (field, _)) in schema.fields.iter().enumerate().filter(|(_, (_, field))| field.unique) {
            if schema.endpoint_key == Some(field.as_ref()) {
                continue;
            }
            let Some(value) = entry.record.get(field.as_ref()).filter(|value| !value.is_null()) else { continue };
            let value = value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed);
            if known.values.contains(&(at, value.clone())) {
                let complaint = taken(field, &value);
                let of = complaints.entry(schema.name.to_string()).or_default();
                of.by_name.insert(name.or(id).unwrap_or_default().to_owned(), complaint.clone());
                place(&mut of.placed, &entry.place.path(catalog), complaint);
                continue;
            }
            known.values.insert((at, value));
        }
    }
    known
}

/// Ids are the same in either case.
fn lowercase(id: &str) -> Cow<'_, str> {
    if id.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(id.to_ascii_lowercase()) } else { Cow::Borrowed(id) }
}

/// What an entity references.
struct Resolved {
    /// Ids by field.
    found: Vec<(String, String)>,
    /// Whether everything is there.
    complete: bool,
}

/// Looks up what an entity references.
fn resolve(catalog: &Catalog, entry: &Entry, known: &Ids<'_>, complaints: &mut BTreeMap<String, Complaints>) -> Resolved {
    let mut resolved = Resolved { found: Vec::new(), complete: true };
    for (field, target, written) in &entry.references {
        let text_of = match written {
            Value::Object(reference) => reference.get("id").and_then(Value::as_str),
            other => other.as_str(),
        };
        let text_of = text_of.unwrap_or_default();
        let targets = known.get(target);
        let found = if targets.is_some_and(|targets| targets.ids.contains(&lowercase(text_of))) {
            Some(text_of)
        } else {
            targets.and_then(|targets| targets.names.get(text_of)).copied().filter(|_| written.is_string())
        };
        if let Some(id) = found {
            resolved.found.push((field.clone(), id.to_owned()));
            continue;
        }
        resolved.complete = false;
        let spelled = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
        let complaint = Value::from(format!("invalid reference '{field}: {spelled}' (no such entry in '{target}')"));
        let name = endpoint_name(&entry.schema, &entry.record).or_else(|| text(&entry.record, "id"));
        let of = complaints.entry(entry.schema.name.to_string()).or_default();
        if let Value::Array(list) = of.by_name.entry(name.unwrap_or_default().to_owned()).or_insert_with(|| json!([])) {
            list.push(complaint.clone());
        }
        place(&mut of.placed, &entry.place.path(catalog), json!({ "@entity": [complaint] }));
    }
    resolved
}

fn text<'a>(record: &'a Record, field: &str) -> Option<&'a str> {
    record.get(field).and_then(Value::as_str)
}

/// Files a complaint at its place in the document.
fn place(tree: &mut Record, path: &[(String, usize)], complaint: Value) {
    let Some(((list, at), deeper)) = path.split_first() else { return };
    let places = tree.entry(list.clone()).or_insert_with(|| json!([]));
    let Value::Array(places) = places else { return };
    if places.len() <= *at {
        places.resize(at + 1, Value::Null);
    }
    if deeper.is_empty() {
        return merge_value(&mut places[*at], complaint);
    }
    if !places[*at].is_object() {
        places[*at] = json!({});
    }
    if let Value::Object(inner) = &mut places[*at] {
        place(inner, deeper, complaint);
    }
}

fn merge_into(tree: &mut Record, other: Record) {
    for (key, value) in other {
        merge_value(tree.entry(key).or_insert(Value::Null), value);
    }
}

fn merge_value(into: &mut Value, other: Value) {
    match (into, other) {
        (Value::Object(into), Value::Object(other)) => merge_into(into, other),
        (Value::Array(into), Value::Array(other)) if into.iter().chain(&other).any(|value| value.is_null() || value.is_object()) => {
            if into.len() < other.len() {
                into.resize(other.len(), Value::Null);
            }
            into.iter_mut().zip(other).for_each(|(into, other)| merge_value(into, other));
        }
        (Value::Array(into), Value::Array(other)) => into.extend(other),
        (into, other) if !other.is_null() => *into = other,
        _ => {}
    }
}

fn grouped(catalog: &Catalog, entries: Vec<Entry>) -> Vec<(Arc<Schema>, Vec<Record>)> {
    let mut kinds: Vec<(Arc<Schema>, Vec<Record>)> = catalog.entities.iter().map(|schema| (Arc::clone(schema), Vec::new())).collect();
    for entry in entries {
        kinds[entry.place.kind].1.push(entry.record);
    }
    kinds.retain(|(_, rows)| !rows.is_empty());
    for (schema, rows) in &mut kinds {
        // Stores keep rows by id, and take them in quicker that way. Rows that reference others of their kind stay behind them.
        if schema.foreigns().all(|(_, entity, _)| entity != schema.name) {
            rows.sort_by_cached_key(|row| text(row, "id").and_then(|id| Uuid::try_parse(id).ok()));
        }
    }
    kinds
}
