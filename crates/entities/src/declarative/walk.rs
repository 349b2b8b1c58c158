//! Prepares every entity of a document by its schema, lifting nested ones out of their parents.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use portcullis_schema::{Catalog, Given, Op, Record, Schema};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ids::{self, Names, Parent, endpoint_name, id_of};
use super::{Refusal, old_paths};

/// One entity of the document, complete but for references by name.
pub(super) struct Entry {
    pub schema: Arc<Schema>,
    pub record: Record,
    /// `(field, entity, as written)`.
    pub references: Vec<(String, &'static str, Value)>,
    pub place: Place,
}

/// Where an entity stands in the document: in which list, and inside of what.
#[derive(Clone)]
pub(super) struct Place {
    /// The kind of entity, by its place in the catalog.
    pub kind: usize,
    pub at: usize,
    inside: Option<Arc<Place>>,
}

impl Place {
    /// Lists and places in them, from the top.
    pub fn path(&self, catalog: &Catalog) -> Vec<(String, usize)> {
        let mut path = Vec::new();
        let mut next = Some(self);
        while let Some(place) = next {
            path.push((catalog.entities[place.kind].name.to_string(), place.at));
            next = place.inside.as_deref();
        }
        path.reverse();
        path
    }
}

/// Every entity of a document, children before their parents.
pub(super) struct Entries {
    pub entries: Vec<Entry>,
    /// The document with ids filled in, if it may have to be quoted.
    pub input: Record,
    /// Whether values are computed on the way in, or are so already.
    pub transform: bool,
}

/// Keys of the document that are no entities.
const META: [&str; 4] = ["_format_version", "_transform", "_comment", "_ignore"];
const VERSIONS: [&str; 3] = ["1.1", "2.1", "3.0"];
/// Items of a list that are worth a second thread.
const MANY: usize = 4096;
/// Threads that one list is worth.
const MOST_PARTS: usize = 8;

/// Uses the document up, unless it is to be `quoted` in a refusal.
pub(super) fn walk(catalog: &Catalog, mut input: Record, now: f64, quoted: bool) -> Result<Entries, Box<Refusal>> {
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
    let nesting = Refusal::nesting_of(catalog);
    let kinds: Vec<Kind> = catalog.entities.iter().map(|schema| Kind::new(catalog, schema, &nesting)).collect();
    let mut names = Names::new();
    if needs_names(&kinds, &input) {
        note_names(&kinds, &input, &mut names);
    }
    let mut walker = Walker {
        catalog,
        kinds: &kinds,
        // Some transformations look at what an entity references, which is known at the end only.
        given: Given { op: Op::Insert, existing: None, now, transform: false, resolved: false },
        old_paths: matches!(version.as_str(), Some("1.1" | "2.1")),
        names: &names,
        entries: Vec::new(),
    };
    let transform = input.get("_transform") != Some(&Value::Bool(false));
    let kept = if quoted { input.clone() } else { Record::new() };
    let mut annotated = kept.clone();
    for (kind, schema) in catalog.entities.iter().enumerate().filter(|(_, schema)| !schema.read_only) {
        let Some(list) = input.remove(schema.name.as_ref()) else { continue };
        let annotated = annotated.get_mut(schema.name.as_ref());
        let walked = match list {
            Value::Array(items) if !quoted && items.len() >= MANY => walker.walk_in_parts(kind, items),
            list => walker.walk_list(kind, list, annotated, None, None),
        };
        if let Err(complaint) = walked {
            fields.insert(schema.name.to_string(), complaint);
        }
    }
    if fields.is_empty() {
        return Ok(Entries { entries: walker.entries, input: annotated, transform });
    }
    Err(Box::new(Refusal { placed: fields.clone(), fields, input: kept, nesting, readable: true }))
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

/// What is asked of a kind of entity again and again, found out once.
struct Kind {
    schema: Arc<Schema>,
    namespace: Uuid,
    has_id: bool,
    /// Kinds that may stand inside, with the field by which each references this one.
    children: Vec<Child>,
    foreigns: Vec<(String, &'static str)>,
    transient: Vec<String>,
    needs_names: bool,
}

struct Child {
    name: String,
    kind: usize,
    field: String,
}

impl Kind {
    fn new(catalog: &Catalog, schema: &Arc<Schema>, nesting: &[(String, String, String)]) -> Self {
        let inside = nesting.iter().filter(|(outer, _, _)| *outer == schema.name);
        let child = |(_, name, field): &(String, String, String)| {
            let kind = catalog.entities.iter().position(|schema| schema.name == *name)?;
            Some(Child { name: name.clone(), kind, field: field.clone() })
        };
        Self {
            namespace: ids::namespace(schema),
            has_id: schema.field("id").is_some(),
            children: inside.filter_map(child).collect(),
            foreigns: schema.foreigns().map(|(field, entity, _)| (field.to_owned(), entity)).collect(),
            transient: schema.fields.iter().filter(|(_, field)| field.transient).map(|(name, _)| name.to_string()).collect(),
            needs_names: ids::may_need_names(schema),
            schema: Arc::clone(schema),
        }
    }
}

/// Whether the id of anything in here is made of a reference by name.
fn needs_names(kinds: &[Kind], holder: &Record) -> bool {
    let lists = holder.iter().filter_map(|(key, value)| Some((key, value.as_array()?)));
    let mut lists = lists.filter_map(|(key, items)| Some((kinds.iter().find(|kind| kind.schema.name == *key)?, items)));
    lists.any(|(kind, items)| {
        items.iter().filter_map(Value::as_object).any(|item| {
            let by_name = |(field, _): &(String, &str)| item.get(field).is_some_and(Value::is_string);
            kind.needs_names && !item.contains_key("id") && kind.foreigns.iter().any(by_name) || needs_names(kinds, item)
        })
    })
}

/// Ids of everything that has a name, so that references by name can be part of other ids.
fn note_names(kinds: &[Kind], holder: &Record, names: &mut Names) {
    for Kind { schema, namespace, .. } in kinds {
        let Some(Value::Array(items)) = holder.get(schema.name.as_ref()) else { continue };
        for item in items.iter().filter_map(Value::as_object) {
            if let (Some(name), Value::String(id)) = (endpoint_name(schema, item), id_of(schema, namespace, item, None, 0, names)) {
                names.entry(schema.name.to_string()).or_default().insert(name.to_owned(), id);
            }
            note_names(kinds, item, names);
        }
    }
}

struct Walker<'a> {
    catalog: &'a Catalog,
    /// In the catalog's order.
    kinds: &'a [Kind],
    given: Given<'static>,
    old_paths: bool,
    names: &'a Names,
    entries: Vec<Entry>,
}

impl Walker<'_> {
    /// Walks a long list in parts side by side. Only whether there are complaints is answered then: who wants to know them reads
    /// the document again, to quote it.
    fn walk_in_parts(&mut self, kind: usize, mut items: Vec<Value>) -> Result<(), Value> {
        let size = items.len().div_ceil(thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_PARTS));
        let mut parts = Vec::new();
        while items.len() > size {
            let from = (items.len() - 1) / size * size;
            parts.push((from, items.split_off(from)));
        }
        let Walker { catalog, kinds, given, old_paths, names, .. } = *self;
        let walk = |from, items| {
            let mut walker = Walker { catalog, kinds, given, old_paths, names, entries: Vec::new() };
            walker.walk_items(kind, from, items, None, None, None).map(|()| walker.entries)
        };
        let walked = thread::scope(|scope| {
            let walk = &walk;
            let others: Vec<_> = parts.into_iter().rev().map(|(from, items)| scope.spawn(move || walk(from, items))).collect();
            let own = walk(0, items);
            // One that couldn't finish leaves the whole document to the second reading.
            let others = others.into_iter().map(|other| other.join().unwrap_or_else(|_| Err(Value::Null)));
            std::iter::once(own).chain(others).collect::<Result<Vec<_>, _>>()
        })?;
        walked.into_iter().for_each(|entries| self.entries.extend(entries));
        Ok(())
    }

    /// Answers a sparse list of complaints if there are any. `annotated` gets the ids.
    fn walk_list(
        &mut self,
        kind: usize,
        list: Value,
        annotated: Option<&mut Value>,
        parent: Option<Parent<'_>>,
        inside: Option<&Arc<Place>>,
    ) -> Result<(), Value> {
        match list {
            Value::Null => Ok(()),
            Value::Array(items) => self.walk_items(kind, 0, items, annotated, parent, inside),
            Value::Object(fields) if fields.is_empty() => Ok(()),
            _ => Err("expected an array".into()),
        }
    }

    /// The items of a list that begin at its place `from`.
    fn walk_items(
        &mut self,
        kind: usize,
        from: usize,
        items: Vec<Value>,
        mut annotated: Option<&mut Value>,
        parent: Option<Parent<'_>>,
        inside: Option<&Arc<Place>>,
    ) -> Result<(), Value> {
        let mut complaints = Vec::new();
        for (at, item) in (from..).zip(items) {
            let place = Place { kind, at, inside: inside.cloned() };
            let annotated = annotated.as_deref_mut().map(|list| &mut list[at]);
            if let Err(complaint) = self.walk_item(item, annotated, parent, place) {
                complaints.resize(at, Value::Null);
                complaints.push(complaint);
            }
        }
        if complaints.is_empty() { Ok(()) } else { Err(Value::Array(complaints)) }
    }

    fn walk_item(&mut self, item: Value, mut annotated: Option<&mut Value>, parent: Option<Parent<'_>>, place: Place) -> Result<(), Value> {
        let mut input = match item {
            Value::Object(item) => item,
            Value::Array(list) if list.is_empty() => Record::new(),
            _ => return Err("expected a record".into()),
        };
        if let Some(annotated) = annotated.as_deref_mut().filter(|annotated| !annotated.is_object()) {
            *annotated = json!({});
        }
        let catalog = self.catalog;
        let schema = &catalog.entities[place.kind];
        let mut complaints = Record::new();
        if input.keys().any(|key| key.starts_with('_')) {
            complaints.extend(remarks(&input).into_iter().map(|(key, complaint)| (key.to_owned(), complaint.into())));
            input.remove("_comment");
            input.remove("_ignore");
        }
        let children = self.take_children(place.kind, &mut input);
        let id = id_of(schema, &self.kinds[place.kind].namespace, &input, parent, place.at, self.names);
        if !children.is_empty() {
            let here = Arc::new(place.clone());
            for (child, list) in children {
                let Child { name, kind, field } = &self.kinds[place.kind].children[child];
                let (name, kind, field) = (name.clone(), *kind, field.clone());
                let parent = id.as_str().map(|id| Parent { field: &field, id });
                let annotated = annotated.as_deref_mut().map(|annotated| &mut annotated[name.as_str()]);
                if let Err(complaint) = self.walk_list(kind, list, annotated, parent, Some(&here)) {
                    complaints.insert(name, complaint);
                }
            }
        }
        if let Some(annotated) = annotated {
            annotated["id"] = id.clone();
        }
        let references = self.take_references(place.kind, &mut input, parent, &mut complaints);
        if self.kinds[place.kind].has_id {
            input.insert("id".to_owned(), id);
        }
        if self.old_paths && schema.name == "routes" {
            old_paths::migrate(&mut input);
        }
        match catalog.prepare_given(schema, input, self.given) {
            Ok(mut record) => {
                self.kinds[place.kind].transient.iter().for_each(|field| drop(record.remove(field)));
                self.entries.push(Entry { schema: Arc::clone(schema), record, references, place });
            }
            Err(error) => {
                let found = error.fields.and_then(|fields| match fields {
                    Value::Object(fields) => Some(fields),
                    _ => None,
                });
                for (field, complaint) in found.unwrap_or_default() {
                    complaints.entry(field).or_insert(complaint);
                }
            }
        }
        if complaints.is_empty() { Ok(()) } else { Err(Value::Object(complaints)) }
    }

    /// Lists of entities that stand inside this one, by their place among the kind's children.
    fn take_children(&self, kind: usize, input: &mut Record) -> Vec<(usize, Value)> {
        let children = &self.kinds[kind].children;
        // Entities have a few fields, while some kinds may hold a dozen others.
        let mut found: Vec<usize> = input.keys().filter_map(|key| children.iter().position(|child| child.name == *key)).collect();
        found.sort_unstable();
        found.into_iter().filter_map(|child| Some((child, input.remove(&children[child].name)?))).collect()
    }

    /// References as written, each replaced by one that a schema accepts until all entities are known. A nested entity
    /// references its parent by where it stands, whatever it says.
    fn take_references(
        &self,
        kind: usize,
        input: &mut Record,
        parent: Option<Parent<'_>>,
        complaints: &mut Record,
    ) -> Vec<(String, &'static str, Value)> {
        let mut references = Vec::new();
        for (field, entity) in &self.kinds[kind].foreigns {
            let written = input.remove(field).unwrap_or(Value::Null);
            if let Some(parent) = parent.filter(|parent| parent.field == field) {
                input.insert(field.clone(), json!({ "id": parent.id }));
                continue;
            }
            match &written {
                Value::Null => continue,
                Value::String(text) if text.is_empty() => _ = complaints.insert(field.clone(), "length must be at least 1".into()),
                Value::String(_) => references.push((field.clone(), *entity, written)),
                Value::Object(reference) if reference.contains_key("id") => {
                    input.insert(field.clone(), written.clone());
                    references.push((field.clone(), *entity, written));
                    continue;
                }
                Value::Object(_) => _ = complaints.insert(field.clone(), json!({ "id": "missing primary key" })),
                _ => _ = complaints.insert(field.clone(), "expected a string".into()),
            }
            input.insert(field.clone(), json!({ "id": Uuid::nil() }));
        }
        references
    }
}
