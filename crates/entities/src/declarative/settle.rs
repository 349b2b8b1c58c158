//! What only the whole document can tell: whether names are unique and references lead somewhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use portcullis_schema::{Catalog, Record, Schema};
use serde_json::{Value, json};

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
    let ids = check_unique(&entries, &mut complaints);
    for entry in &mut entries {
        if resolve(entry, &ids, &mut complaints) && transform && !entry.schema.transforms.is_empty() {
            untransformed.extend(text(&entry.record, "id").map(|id| (id, entry.record.clone())));
            if let Err(found) = entry.schema.transform(&mut entry.record) {
                let of = complaints.entry(entry.schema.name.to_string()).or_default();
                place(&mut of.nested, &entry.path, Value::Object(found.0.clone()));
                place(&mut of.placed, &entry.path, Value::Object(found.0));
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

/// Ids by `(entity, id)` and `(entity, name)`.
#[derive(Default)]
struct Ids {
    ids: HashSet<(String, String)>,
    names: HashMap<(String, String), String>,
}

fn check_unique(entries: &[Entry], complaints: &mut BTreeMap<String, Complaints>) -> Ids {
    let mut known = Ids::default();
    let mut seen: HashSet<(String, String, String)> = HashSet::new();
    for entry in entries {
        let entity = entry.schema.name.to_string();
        let taken =
            |field: &str, value: &str| format!("uniqueness violation: '{entity}' entity with {field} set to '{value}' already declared");
        let id = text(&entry.record, "id");
        let name = endpoint_name(&entry.schema, &entry.record).map(str::to_owned);
        if let Some(name) = &name {
            let key = (entity.clone(), name.clone());
            if known.names.contains_key(&key) {
                let complaint = taken(entry.schema.endpoint_key.unwrap_or("name"), name);
                let of = complaints.entry(entity.clone()).or_default();
                of.by_place.insert(entry.path.last().map_or(0, |(_, at)| *at), complaint.clone().into());
                place(&mut of.placed, &entry.path, complaint.into());
                continue;
            }
            known.names.insert(key, id.clone().unwrap_or_default());
        }
        if let Some(id) = &id
            && !known.ids.insert((entity.clone(), id.to_ascii_lowercase()))
        {
            let complaint = taken("primary key", id);
            let of = complaints.entry(entity.clone()).or_default();
            place(&mut of.nested, &entry.path, complaint.clone().into());
            place(&mut of.placed, &entry.path, complaint.into());
            continue;
        }
        for (field, _) in entry.schema.fields.iter().filter(|(_, field)| field.unique) {
            let value = entry.record.get(field.as_ref()).filter(|value| !value.is_null());
            let Some(value) = value.filter(|_| entry.schema.endpoint_key != Some(field.as_ref())) else { continue };
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !seen.insert((entity.clone(), field.to_string(), value.clone())) {
                let complaint = taken(field, &value);
                let of = complaints.entry(entity.clone()).or_default();
                of.by_name.insert(name.clone().or(id.clone()).unwrap_or_default(), complaint.clone().into());
                place(&mut of.placed, &entry.path, complaint.into());
            }
        }
    }
    known
}

/// Fills in what an entity references. False if something it references isn't there.
fn resolve(entry: &mut Entry, known: &Ids, complaints: &mut BTreeMap<String, Complaints>) -> bool {
    let mut all_found = true;
    for (field, target, written) in std::mem::take(&mut entry.references) {
        let text_of = match &written {
            Value::Object(reference) => reference.get("id").and_then(Value::as_str),
            other => other.as_str(),
        };
        let text_of = text_of.unwrap_or_default();
        let found = if known.ids.contains(&(target.to_owned(), text_of.to_ascii_lowercase())) {
            Some(text_of)
        } else {
            known.names.get(&(target.to_owned(), text_of.to_owned())).map(String::as_str).filter(|_| written.is_string())
        };
        if let Some(id) = found {
            entry.record.insert(field, json!({ "id": id }));
            continue;
        }
        all_found = false;
        let spelled = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
        let complaint = Value::from(format!("invalid reference '{field}: {spelled}' (no such entry in '{target}')"));
        let name = endpoint_name(&entry.schema, &entry.record).map(str::to_owned).or_else(|| text(&entry.record, "id"));
        let of = complaints.entry(entry.schema.name.to_string()).or_default();
        if let Value::Array(list) = of.by_name.entry(name.unwrap_or_default()).or_insert_with(|| json!([])) {
            list.push(complaint.clone());
        }
        place(&mut of.placed, &entry.path, json!({ "@entity": [complaint] }));
    }
    all_found
}

fn text(record: &Record, field: &str) -> Option<String> {
    record.get(field).and_then(Value::as_str).map(str::to_owned)
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
    let mut rows: HashMap<String, Vec<Record>> = HashMap::new();
    for entry in entries {
        rows.entry(entry.schema.name.to_string()).or_default().push(entry.record);
    }
    let of = |schema: &Arc<Schema>| rows.remove(schema.name.as_ref()).map(|rows| (Arc::clone(schema), rows));
    catalog.entities.iter().filter_map(of).collect()
}
