//! Why a document was refused, in the shapes that ask for it: an error body, a flat list, indented text.

use portcullis_schema::violation::ENTITY;
use portcullis_schema::{ApiError, Catalog, Record};
use serde_json::{Map, Value, json};

/// Every complaint about a document.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// A tree that mirrors the document, in Kong's shape: some complaints are filed under names instead of places.
    pub(super) fields: Record,
    /// The same complaints, each at its place.
    pub(super) placed: Record,
    /// What was read, as far as it was understood: what flattened errors quote.
    pub(super) input: Record,
    /// `(entity, child, field of the child)` of entities that may stand inside others.
    pub(super) nesting: Vec<(String, String, String)>,
    /// Whether there was a document at all.
    pub(super) readable: bool,
}

impl Refusal {
    /// A document that could not be read.
    pub(super) fn unreadable(what: &str) -> Self {
        let complaint = format!("failed parsing declarative configuration: {what}");
        let fields = Record::from_iter([("error".to_owned(), Value::String(complaint))]);
        Self { placed: fields.clone(), fields, input: Record::new(), nesting: Vec::new(), readable: false }
    }

    pub(super) fn nesting_of(catalog: &Catalog) -> Vec<(String, String, String)> {
        let of = |child: &portcullis_schema::Schema| {
            let child_name = child.name.to_string();
            child.foreigns().map(|(field, entity, _)| (entity.to_owned(), child_name.clone(), field.to_owned())).collect::<Vec<_>>()
        };
        catalog.entities.iter().flat_map(|child| of(child)).collect()
    }

    /// Code 14 with the tree of complaints.
    pub fn error(&self) -> ApiError {
        ApiError::invalid_declarative(self.fields.clone())
    }

    /// The body under `flatten_errors`: one entry for each entity that is wrong, and a tree of only what belongs to none.
    pub fn flattened_body(&self) -> Value {
        if !self.readable {
            return self.error().body();
        }
        let mut left = Record::new();
        let mut flat = Vec::new();
        let mut kinds: Vec<_> = self.placed.iter().collect();
        kinds.sort_by_key(|(kind, _)| std::cmp::Reverse(kind.as_str()));
        for (kind, complaints) in kinds {
            let (Value::Array(complaints), Some(Value::Array(items))) = (complaints, self.input.get(kind)) else {
                left.insert(kind.clone(), complaints.clone());
                continue;
            };
            for (item, complaint) in items.iter().zip(complaints).rev().filter(|(_, complaint)| !complaint.is_null()) {
                match item {
                    Value::Object(item) => self.flatten(kind, item, complaint, None, &mut flat),
                    _ => {
                        left.insert(kind.clone(), Value::Array(complaints.clone()));
                    }
                }
            }
        }
        let mut body = ApiError::invalid_declarative(left).body();
        // Kong writes an empty list as a map.
        body["flattened_errors"] = if flat.is_empty() { json!({}) } else { Value::Array(flat) };
        body
    }

    /// Nested entities first, each in its place, then the entity itself if anything is wrong with it.
    fn flatten(&self, kind: &str, item: &Record, complaint: &Value, parent: Option<(&str, &str)>, flat: &mut Vec<Value>) {
        let mut own = complaint.clone();
        let mut entity = item.clone();
        let id = entity.get("id").and_then(Value::as_str).filter(|id| uuid::Uuid::try_parse(id).is_ok()).map(str::to_owned);
        let mut children: Vec<_> = self.nesting.iter().filter(|(outer, _, _)| outer == kind).collect();
        children.sort_by_key(|(_, child, _)| std::cmp::Reverse(child.as_str()));
        for (_, child, field) in children {
            let items = match entity.get(child) {
                Some(Value::Array(_)) => entity.remove(child),
                _ => None,
            };
            let Some(complaints) = own.as_object_mut().and_then(|own| own.remove(child)) else { continue };
            if let (Some(Value::Array(items)), Value::Array(complaints)) = (items, &complaints) {
                for (item, complaint) in items.iter().zip(complaints).filter(|(_, complaint)| !complaint.is_null()) {
                    if let Value::Object(item) = item {
                        self.flatten(child, item, complaint, id.as_deref().map(|id| (field.as_str(), id)), flat);
                    }
                }
            } else if let Some(own) = own.as_object_mut() {
                own.insert(child.clone(), complaints);
            }
        }
        // To Kong, what stands in the place of a reference is an entity of that kind.
        for (target, _, field) in self.nesting.iter().filter(|(_, child, _)| child == kind) {
            if let (Some(Value::Object(reference)), Some(wrong)) = (item.get(field), own.get(field).filter(|wrong| wrong.is_object())) {
                self.flatten(target, reference, &wrong.clone(), None, flat);
                if let Some(own) = own.as_object_mut() {
                    own.remove(field);
                }
            }
        }
        let mut errors = Vec::new();
        collect(&own, "", &mut errors);
        if errors.is_empty() {
            return;
        }
        if let Some((field, id)) = parent {
            entity.insert(field.to_owned(), json!({ "id": id }));
        }
        let kind = kind.strip_suffix('s').unwrap_or(kind);
        let mut entry = Map::from_iter([("entity_type".to_owned(), json!(kind)), ("errors".to_owned(), Value::Array(errors))]);
        if let Some(id) = id {
            entry.insert("entity_id".to_owned(), id.into());
        }
        if let Some(name) = entity.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) {
            entry.insert("entity_name".to_owned(), name.into());
        }
        let tags = entity.get("tags").and_then(Value::as_array).filter(|tags| !tags.is_empty() && tags.iter().all(Value::is_string));
        if let Some(tags) = tags {
            entry.insert("entity_tags".to_owned(), Value::Array(tags.clone()));
        }
        let mut entity = Value::Object(entity);
        empty_lists_as_maps(&mut entity);
        entry.insert("entity".to_owned(), entity);
        flat.push(Value::Object(entry));
    }

    /// Indented lines, one a complaint, as the command line shows them.
    pub fn pretty(&self) -> String {
        if let (false, Some(what)) = (self.readable, self.fields.get("error").and_then(Value::as_str)) {
            return what.to_owned();
        }
        let mut lines = Vec::new();
        pretty(&self.fields, 0, &mut lines);
        lines.join("\n")
    }
}

/// Fields from last to first, as Kong lists them, which puts complaints about the whole entity at the end.
fn collect(complaint: &Value, path: &str, errors: &mut Vec<Value>) {
    let inside = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match complaint {
        Value::String(message) if path.is_empty() => errors.push(json!({ "type": "entity", "message": message })),
        Value::String(message) => errors.push(json!({ "type": "field", "field": path, "message": message })),
        Value::Array(list) => {
            for (at, deeper) in list.iter().enumerate().rev() {
                collect(deeper, &inside(&(at + 1).to_string()), errors);
            }
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| std::cmp::Reverse(name.as_str()));
            for (name, deeper) in fields {
                match deeper {
                    Value::Array(messages) if name == ENTITY => {
                        errors.extend(messages.iter().map(|message| json!({ "type": "entity", "message": message })));
                    }
                    _ => collect(deeper, &inside(name), errors),
                }
            }
        }
        _ => {}
    }
}

fn empty_lists_as_maps(value: &mut Value) {
    match value {
        Value::Array(list) if list.is_empty() => *value = json!({}),
        Value::Array(list) => list.iter_mut().for_each(empty_lists_as_maps),
        Value::Object(fields) => fields.values_mut().for_each(empty_lists_as_maps),
        _ => {}
    }
}

fn pretty(fields: &Record, depth: usize, lines: &mut Vec<String>) {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    for (name, complaint) in fields {
        pretty_entry(&format!("in '{name}'"), name, complaint, depth, lines);
    }
}

fn pretty_entry(place: &str, name: &str, complaint: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match complaint {
        Value::Object(inner) => {
            lines.push(format!("{indent}{place}:"));
            pretty(inner, depth + 1, lines);
        }
        Value::Array(list) => {
            lines.push(format!("{indent}{place}:"));
            for (at, deeper) in list.iter().enumerate().filter(|(_, deeper)| !deeper.is_null()) {
                pretty_entry(&format!("- in entry {} of '{name}'", at + 1), &(at + 1).to_string(), deeper, depth + 1, lines);
            }
        }
        Value::String(text) => lines.push(format!("{indent}{place}: {text}")),
        other => lines.push(format!("{indent}{place}: {other}")),
    }
}
