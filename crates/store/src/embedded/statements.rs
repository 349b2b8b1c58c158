//! The SQL of one entity's table, written once from its layout.
//!
//! A table keeps the record as JSON text and beside it only what is looked up by: the id, unique values, references and
//! when the row expires. Without rowids, so that pages in order of id read neighbouring leaves.

use crate::layout::{Layout, Table};

/// A table's statements. Every reading one yields id, record and expiry.
#[derive(Debug)]
pub(super) struct Statements {
    /// The entity's number in `_tags`.
    pub number: i64,
    /// The name, quoted.
    pub table: String,
    /// Columns for the uniques and the foreigns, in the layout's order, each once, quoted.
    pub columns: Vec<Column>,
    pub find: String,
    pub expiry: String,
    pub holders: Vec<String>,
    pub children: Vec<String>,
    pub insert: String,
    pub update: String,
    pub delete: String,
}

/// A column made for lookups, and where its value comes from.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Source {
    /// The place in [`Table::uniques`].
    Unique(usize),
    /// The place in [`Table::foreigns`].
    Foreign(usize),
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns a table needs: unique values, then references that aren't unique themselves.
pub(super) fn columns(table: &Table) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for (at, unique) in table.uniques.iter().enumerate() {
        let name = if let [field] = unique.fields.as_slice() { quoted(field) } else { "_key".to_owned() };
        columns.push(Column { name, source: Source::Unique(at) });
    }
    for (at, foreign) in table.foreigns.iter().enumerate() {
        let name = quoted(&foreign.field);
        if !columns.iter().any(|column| column.name == name) {
            columns.push(Column { name, source: Source::Foreign(at) });
        }
    }
    columns
}

/// `CREATE TABLE`, without indexes.
pub(super) fn create_table(layout: &Layout, table: &Table) -> String {
    let mut parts = vec!["id BLOB NOT NULL PRIMARY KEY".to_owned()];
    if table.schema.workspaceable {
        parts.push("_workspace INTEGER NOT NULL DEFAULT 1".to_owned());
    }
    parts.push("_expires_at INTEGER".to_owned());
    for column in columns(table) {
        parts.push(declare(layout, table, &column));
    }
    parts.push("_record TEXT NOT NULL".to_owned());
    format!("CREATE TABLE {} ({}) WITHOUT ROWID", quoted(table.name()), parts.join(", "))
}

/// The declaration of a lookup column. References are also kept by SQLite, should a rule of ours ever fail.
pub(super) fn declare(layout: &Layout, table: &Table, column: &Column) -> String {
    let foreign = match column.source {
        Source::Foreign(at) => Some(at),
        Source::Unique(at) => match table.uniques[at].fields.as_slice() {
            [field] => table.foreign(field),
            _ => None,
        },
    };
    match foreign.and_then(|at| table.foreigns[at].parent) {
        Some(parent) => format!("{} REFERENCES {} (id)", column.name, quoted(layout.tables[parent].name())),
        None => column.name.clone(),
    }
}

/// `(name, CREATE INDEX …)` of every index.
pub(super) fn indexes(table: &Table) -> Vec<(String, String)> {
    let mut indexes = Vec::new();
    let on = quoted(table.name());
    for column in columns(table) {
        let name = quoted(&format!("{}_by_{}", table.name(), column.name.trim_matches('"')));
        let sql = match column.source {
            Source::Unique(at) => {
                let workspace = if table.uniques[at].across_workspaces || !table.schema.workspaceable { "" } else { "_workspace, " };
                // Null is no value: leaving it out keeps the index small where most rows have none.
                format!("CREATE UNIQUE INDEX {name} ON {on} ({workspace}{}) WHERE {} IS NOT NULL", column.name, column.name)
            }
            Source::Foreign(_) => format!("CREATE INDEX {name} ON {on} ({})", column.name),
        };
        indexes.push((name, sql));
    }
    // A unique reference has no plain index, and deletes of its parent look for it whatever the workspace.
    for (at, unique) in table.uniques.iter().enumerate() {
        let [field] = unique.fields.as_slice() else { continue };
        if table.foreign(field).is_some() {
            let name = quoted(&format!("{}_referencing_{at}", table.name()));
            indexes.push((name.clone(), format!("CREATE INDEX {name} ON {on} ({})", quoted(field))));
        }
    }
    if table.schema.ttl {
        let name = quoted(&format!("{}_by_expiry", table.name()));
        indexes.push((name.clone(), format!("CREATE INDEX {name} ON {on} (_expires_at) WHERE _expires_at IS NOT NULL")));
    }
    indexes
}

impl Statements {
    pub fn new(table: &Table, number: i64) -> Self {
        let name = quoted(table.name());
        let columns = columns(table);
        let holders = table.uniques.iter().enumerate().filter_map(|(at, unique)| {
            let column = &columns.iter().find(|column| column.source == Source::Unique(at))?.name;
            let workspace = if unique.across_workspaces || !table.schema.workspaceable { "" } else { "_workspace = 1 AND " };
            Some(format!("SELECT id, _record, _expires_at FROM {name} WHERE {workspace}{column} = ?1"))
        });
        let children = table
            .foreigns
            .iter()
            .map(|foreign| format!("SELECT id FROM {name} WHERE {} = ?1 ORDER BY id LIMIT ?2", quoted(&foreign.field)));
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let mut inserted = vec!["id", "_record", "_expires_at"];
        inserted.extend(&names);
        let places: Vec<String> = (1..=inserted.len()).map(|at| format!("?{at}")).collect();
        let assigned: Vec<String> = inserted.iter().zip(&places).skip(1).map(|(name, place)| format!("{name} = {place}")).collect();
        Self {
            number,
            holders: holders.collect(),
            children: children.collect(),
            find: format!("SELECT id, _record, _expires_at FROM {name} WHERE id = ?1"),
            expiry: format!("SELECT _expires_at FROM {name} WHERE id = ?1"),
            insert: format!("INSERT INTO {name} ({}) VALUES ({})", inserted.join(", "), places.join(", ")),
            update: format!("UPDATE {name} SET {} WHERE id = ?1", assigned.join(", ")),
            delete: format!("DELETE FROM {name} WHERE id = ?1"),
            table: name,
            columns,
        }
    }
}
