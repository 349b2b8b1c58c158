//! What the schemas say about keys and references, compiled once for the stores.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_schema::{Kind, OnDelete, Record, Schema};
use serde_json::Value;
use uuid::Uuid;

use crate::Key;

/// Every entity that has rows of its own (an `id`), in dependency order.
#[derive(Debug)]
pub(crate) struct Layout {
    pub tables: Vec<Table>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub schema: Arc<Schema>,
    pub uniques: Vec<Unique>,
    pub foreigns: Vec<Foreign>,
    /// Who references this table: the table's place in the layout and which of its foreigns.
    pub children: Vec<(usize, usize)>,
    /// The fields that a complete row has, sorted by name.
    pub kept: Vec<Kept>,
    /// Fields that are accepted but never kept.
    transient: Vec<String>,
    tagged: bool,
}

/// A field of a complete row.
#[derive(Debug)]
pub(crate) struct Kept {
    pub name: String,
    /// Its value is `{"id": …}`.
    pub reference: bool,
}

/// Fields whose values no two rows share. Composite when there are several: then null is a value like any other.
#[derive(Debug)]
pub(crate) struct Unique {
    pub fields: Vec<String>,
    /// Whether rows of other workspaces count too.
    pub across_workspaces: bool,
}

#[derive(Debug)]
pub(crate) struct Foreign {
    pub field: String,
    /// The referenced table's place in the layout; none if no such entity is known.
    pub parent: Option<usize>,
    pub on_delete: OnDelete,
}

/// The value of one unique, comparable as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cell {
    Text(Box<str>),
    Id(Uuid),
    /// Several values: each a kind byte, and for text its length before it.
    Packed(Box<[u8]>),
}

/// What is kept about a row beside its record.
#[derive(Debug)]
pub(crate) struct Indexed {
    /// In the order of [`Table::uniques`].
    pub uniques: Vec<Option<Cell>>,
    /// In the order of [`Table::foreigns`].
    pub parents: Vec<Option<Uuid>>,
    pub tags: Vec<String>,
}

impl Layout {
    pub fn new(entities: &[Arc<Schema>]) -> Self {
        let stored = entities.iter().filter(|schema| schema.field("id").is_some());
        let mut tables: Vec<Table> = stored.map(Table::new).collect();
        let by_name: HashMap<String, usize> = tables.iter().enumerate().map(|(at, table)| (table.name().to_owned(), at)).collect();
        for child in 0..tables.len() {
            for at in 0..tables[child].foreigns.len() {
                let foreign = &tables[child].foreigns[at];
                let Some(Kind::Foreign { entity, .. }) = tables[child].schema.field(&foreign.field).map(|field| &field.kind) else {
                    continue;
                };
                let parent = by_name.get(*entity).copied();
                tables[child].foreigns[at].parent = parent;
                if let Some(parent) = parent {
                    tables[parent].children.push((child, at));
                }
            }
        }
        Self { tables, by_name }
    }

    pub fn place(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

impl Table {
    fn new(schema: &Arc<Schema>) -> Self {
        let mut uniques = Vec::new();
        // Kong's tables declare the cache key first, so it is the first to be complained about.
        if schema.cache_key.len() > 1 {
            let fields = schema.cache_key.iter().map(|name| (*name).to_owned()).collect();
            uniques.push(Unique { fields, across_workspaces: false });
        }
        for (name, field) in &schema.fields {
            let whole_cache_key = schema.cache_key == [name.as_ref()] && name != "id";
            if field.unique || field.unique_across_ws || whole_cache_key {
                uniques.push(Unique { fields: vec![name.to_string()], across_workspaces: field.unique_across_ws || !schema.workspaceable });
            }
        }
        let foreigns = schema.foreigns().map(|(field, _, on_delete)| Foreign { field: field.to_owned(), parent: None, on_delete });
        let kept = schema.fields.iter().filter(|(_, field)| !field.transient);
        let kept = kept.map(|(name, field)| Kept { name: name.to_string(), reference: matches!(field.kind, Kind::Foreign { .. }) });
        let mut kept: Vec<Kept> = kept.collect();
        kept.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Self {
            kept,
            uniques,
            foreigns: foreigns.collect(),
            children: Vec::new(),
            transient: schema.fields.iter().filter(|(_, field)| field.transient).map(|(name, _)| name.to_string()).collect(),
            tagged: schema.field("tags").is_some(),
            schema: schema.clone(),
        }
    }

    pub fn name(&self) -> &str {
        &self.schema.name
    }

    pub fn foreign(&self, field: &str) -> Option<usize> {
        self.foreigns.iter().position(|foreign| foreign.field == field)
    }

    /// Which unique a key is about, and its value; none if no row can have it.
    /// Errors when the schema has no such unique.
    pub fn resolve(&self, key: &Key) -> Result<Option<(usize, Cell)>, String> {
        let (names, values): (Vec<&str>, Vec<(&str, &Value)>) = match key {
            Key::Id(_) => return Err(format!("an id is no unique field of {}", self.name())),
            Key::Unique(field, value) => (vec![field], vec![(field, value)]),
            Key::Composite(fields) => {
                let pairs: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
                (pairs.iter().map(|(name, _)| *name).collect(), pairs)
            }
        };
        let same =
            |unique: &Unique| unique.fields.len() == names.len() && unique.fields.iter().all(|field| names.contains(&field.as_str()));
        let Some(at) = self.uniques.iter().position(same) else {
            return Err(format!("{} has no unique ({})", self.name(), names.join(", ")));
        };
        let given = |field: &str| values.iter().find(|(name, _)| *name == field).map(|(_, value)| *value);
        Ok(self.cell(at, given).map(|cell| (at, cell)))
    }

    fn cell<'v>(&self, unique: usize, value: impl Fn(&str) -> Option<&'v Value>) -> Option<Cell> {
        let fields = &self.uniques[unique].fields;
        if let [field] = fields.as_slice() {
            return self.single(field, value(field)?);
        }
        let mut packed = Vec::with_capacity(40);
        for field in fields {
            match value(field).and_then(|value| self.single(field, value)) {
                None => packed.push(0),
                Some(Cell::Id(id)) => {
                    packed.push(1);
                    packed.extend_from_slice(id.as_bytes());
                }
                Some(Cell::Text(text)) => {
                    packed.push(2);
                    packed.extend_from_slice(&(text.len() as u32).to_be_bytes());
                    packed.extend_from_slice(text.as_bytes());
                }
                Some(Cell::Packed(_)) => {}
            }
        }
        Some(Cell::Packed(packed.into()))
    }

    fn single(&self, field: &str, value: &Value) -> Option<Cell> {
        if self.foreign(field).is_some()
            && let Some(id) = referenced(value)
        {
            return Some(Cell::Id(id));
        }
        match value {
            Value::Null => None,
            Value::String(text) => Some(Cell::Text(text.as_str().into())),
            other => Some(Cell::Text(other.to_string().into())),
        }
    }

    pub fn index(&self, record: &Record) -> Indexed {
        Indexed {
            uniques: (0..self.uniques.len()).map(|at| self.cell(at, |field| record.get(field))).collect(),
            parents: self.foreigns.iter().map(|foreign| record.get(&foreign.field).and_then(referenced)).collect(),
            tags: if self.tagged { tags_of(record) } else { Vec::new() },
        }
    }

    /// Whether the record has what is never kept.
    pub fn has_transient(&self, record: &Record) -> bool {
        self.transient.iter().any(|field| record.contains_key(field))
    }

    /// Drops what is never kept.
    pub fn strip(&self, record: &mut Record) {
        for field in &self.transient {
            record.remove(field);
        }
    }
}

/// The id in a foreign value: `{"id": …}` or the id text.
pub(crate) fn referenced(value: &Value) -> Option<Uuid> {
    let text = value.as_str().or_else(|| value.get("id").and_then(Value::as_str))?;
    Uuid::try_parse(text).ok()
}

/// The tags of a record, each once.
pub(crate) fn tags_of(record: &Record) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for tag in record.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }
    tags
}
