//! The SQL of one entity's table, written once from its schema and from the columns the database has.

use std::collections::HashMap;

use portcullis_schema::{Field, Kind, Record};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::values::{Column, Misfit, Sql, mend};
use crate::layout::{Cell, Layout, Table};
use crate::transact::{Fault, Stored};

/// Columns of every table: table, column, type.
pub(super) type Columns = HashMap<String, HashMap<String, String>>;

/// A table's statements. Every reading one yields the fields' columns in order, then when the row expires.
#[derive(Debug)]
pub(super) struct Statements {
    entity: String,
    /// The name, quoted.
    pub table: String,
    pub columns: Vec<Column>,
    /// What stands between `SELECT` and `FROM`.
    pub shown: String,
    pub ttl: bool,
    pub tagged: bool,
    pub find: String,
    /// As `find`, and locks the row.
    pub hold: String,
    pub expiry: String,
    pub holders: Vec<String>,
    /// As `holders`, of any of many values.
    pub holding: Vec<String>,
    pub children: Vec<String>,
    pub insert: String,
    pub update: String,
    pub delete: String,
    /// The default workspace, where rows belong to one.
    workspace: Option<Uuid>,
    cache_key: bool,
    /// Fields kept as JSON, whose empty lists and objects may need telling apart.
    nested: Vec<(String, Field)>,
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The table that keeps an entity.
pub(super) fn table_of(entity: &str) -> &str {
    match entity {
        "vaults" => "sm_vaults",
        other => other,
    }
}

impl Statements {
    /// Errors with one line when the database doesn't have what the schema needs.
    pub fn new(table: &Table, columns: &Columns, workspace: Uuid) -> Result<Self, String> {
        let name = table_of(table.name());
        let there = columns.get(name).ok_or_else(|| format!("the database has no table {name}: its migrations are not complete"))?;
        let mut kept = Vec::new();
        let mut nested = Vec::new();
        for (field_name, field) in &table.schema.fields {
            if field.transient || (table.schema.ttl && field_name == "ttl") {
                continue;
            }
            let reference = matches!(field.kind, Kind::Foreign { .. });
            let column = if reference { format!("{field_name}_id") } else { field_name.to_string() };
            let Some(sort) = there.get(&column) else {
                return Err(format!("the database has no column {column} in {name}: its migrations are not complete"));
            };
            if sort.ends_with("json") || sort.ends_with("jsonb") {
                nested.push((field_name.to_string(), field.clone()));
            }
            let whole_seconds = matches!(field.kind, Kind::Integer);
            kept.push(Column { name: quoted(&column), field: field_name.to_string(), sort: sort.clone(), reference, whole_seconds });
        }
        // Some of Kong's tables belong to no workspace although their entities say they do (`sessions`).
        let workspace = (table.schema.workspaceable && there.contains_key("ws_id")).then_some(workspace);
        let cache_key = table.schema.cache_key.len() > 1;
        let ttl = table.schema.ttl;
        let sql = quoted(name);

        let mut shown: Vec<&str> = kept.iter().map(|column| column.name.as_str()).collect();
        shown.push(if ttl { "ttl" } else { "NULL::timestamptz AS ttl" });
        let shown = shown.join(", ");
        let mut written: Vec<&str> = kept.iter().map(|column| column.name.as_str()).collect();
        written.extend(workspace.is_some().then_some("ws_id"));
        written.extend(cache_key.then_some("cache_key"));
        written.extend(ttl.then_some("ttl"));
        let numbers: Vec<String> = (1..=written.len()).map(|number| format!("${number}")).collect();
        let sets: Vec<String> = written.iter().zip(&numbers).map(|(name, number)| format!("{name} = {number}")).collect();
        // The id is a field like the others; where it stands among them is its number.
        let id = kept.iter().position(|column| column.field == "id").map_or(1, |at| at + 1);

        let holder = |unique: &crate::layout::Unique, value: &str| {
            let [field] = unique.fields.as_slice() else { return format!("cache_key = {value}") };
            let column = kept.iter().find(|column| column.field == *field);
            let name = column.map_or("id", |column| column.name.as_str());
            let plain = column.is_none_or(|column| matches!(column.sort.as_str(), "uuid" | "text"));
            let cast = if plain { "" } else { "::text" };
            match workspace {
                Some(workspace) if !unique.across_workspaces => format!("{name}{cast} = {value} AND ws_id = '{workspace}'"),
                _ => format!("{name}{cast} = {value}"),
            }
        };
        Ok(Self {
            find: format!("SELECT {shown} FROM {sql} WHERE id = $1"),
            hold: format!("SELECT {shown} FROM {sql} WHERE id = $1 FOR UPDATE"),
            expiry: format!("SELECT {} FROM {sql} WHERE id = $1", if ttl { "ttl" } else { "NULL::timestamptz" }),
            holders: table
                .uniques
                .iter()
                .map(|unique| format!("SELECT {shown} FROM {sql} WHERE {} LIMIT 1", holder(unique, "$1")))
                .collect(),
            holding: table.uniques.iter().map(|unique| format!("SELECT {shown} FROM {sql} WHERE {}", holder(unique, "ANY($1)"))).collect(),
            children: table
                .foreigns
                .iter()
                .map(|foreign| format!("SELECT id FROM {sql} WHERE {} = $1 ORDER BY id LIMIT $2", quoted(&format!("{}_id", foreign.field))))
                .collect(),
            insert: format!("INSERT INTO {sql} ({}) VALUES ({})", written.join(", "), numbers.join(", ")),
            update: format!("UPDATE {sql} SET {} WHERE id = ${id}", sets.join(", ")),
            delete: format!("DELETE FROM {sql} WHERE id = $1"),
            tagged: kept.iter().any(|column| column.field == "tags" && column.sort == "_text"),
            entity: table.name().to_owned(),
            table: sql,
            columns: kept,
            shown,
            ttl,
            workspace,
            cache_key,
            nested,
        })
    }

    /// Statements for every table of the layout.
    pub fn all(layout: &Layout, columns: &Columns, workspace: Uuid) -> Result<Vec<Self>, String> {
        layout.tables.iter().map(|table| Self::new(table, columns, workspace)).collect()
    }

    /// As `insert`, of so many rows with so many values each.
    pub fn insert_many(&self, rows: usize, values: usize) -> String {
        let row = |at: usize| {
            let numbers: Vec<String> = (1..=values).map(|number| format!("${}", at * values + number)).collect();
            format!("({})", numbers.join(", "))
        };
        let into = self.insert.split_once(" VALUES ").map_or(self.insert.as_str(), |(into, _)| into);
        format!("{into} VALUES {}", (0..rows).map(row).collect::<Vec<_>>().join(", "))
    }

    /// The values of `insert` and `update`, in order.
    pub fn values(&self, row: &Stored, uniques: &[Option<Cell>]) -> Result<Vec<Sql>, (String, Misfit)> {
        let mut values = Vec::with_capacity(self.columns.len() + 3);
        for column in &self.columns {
            let value = row.record.get(&column.field).unwrap_or(&Value::Null);
            values.push(column.to_sql(value).map_err(|misfit| (column.field.clone(), misfit))?);
        }
        values.extend(self.workspace.map(Sql::Uuid));
        if self.cache_key {
            // The combination of several fields is the first unique of a table.
            let packed = uniques.iter().flatten().find(|cell| matches!(cell, Cell::Packed(_)));
            values.push(packed.map_or(Sql::Null, |cell| self.lookup(cell)));
        }
        if self.ttl {
            let micros = |at: u64| i64::try_from(at).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
            values.push(row.expires_at.map_or(Sql::Null, |at| Sql::Time(micros(at))));
        }
        Ok(values)
    }

    /// A unique value as `holders` take it.
    pub fn lookup(&self, cell: &Cell) -> Sql {
        match cell {
            Cell::Text(text) => Sql::Text(text.to_string()),
            Cell::Id(id) => Sql::Uuid(*id),
            Cell::Packed(packed) => Sql::Text(self.key_text(parts(packed))),
        }
    }

    /// Kong's cache key: the entity, its values filled up to five, the workspace.
    pub fn key_text(&self, values: Vec<String>) -> String {
        let mut key = self.entity.clone();
        let padding = 5_usize.saturating_sub(values.len());
        for value in values.into_iter().chain(std::iter::repeat_n(String::new(), padding)) {
            key.push(':');
            key.push_str(&value);
        }
        key.push(':');
        if let Some(workspace) = self.workspace {
            key.push_str(&workspace.to_string());
        }
        key
    }

    /// A row of `shown`.
    pub fn stored(&self, row: &Row) -> Result<(Uuid, Stored), Fault> {
        let damaged = |error: tokio_postgres::Error| Fault::Broken(format!("a row of {} cannot be read: {error}", self.table));
        let mut record = Record::new();
        for (at, column) in self.columns.iter().enumerate() {
            record.insert(column.field.clone(), column.to_value(row.try_get::<_, Sql>(at).map_err(damaged)?));
        }
        for (name, field) in &self.nested {
            if let Some(value) = record.get_mut(name) {
                mend(field, value);
            }
        }
        let expires_at = match row.try_get::<_, Sql>(self.columns.len()).map_err(damaged)? {
            Sql::Time(micros) => Some(u64::try_from(micros / 1000).unwrap_or_default()),
            _ => None,
        };
        let id = record.get("id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
        let id = id.ok_or_else(|| Fault::Broken(format!("a row of {} has no id", self.table)))?;
        Ok((id, Stored { record, expires_at }))
    }
}

/// The values that were packed into a composite cell; null is empty text, as in Kong's cache keys.
fn parts(packed: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = packed;
    while let Some((kind, after)) = rest.split_first() {
        let (value, left) = match kind {
            1 => after.split_at_checked(16).map(|(id, left)| (Uuid::from_slice(id).map_or(String::new(), |id| id.to_string()), left)),
            2 => after.split_first_chunk::<4>().and_then(|(length, left)| {
                let (text, left) = left.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                Some((String::from_utf8_lossy(text).into_owned(), left))
            }),
            _ => Some((String::new(), after)),
        }
        .unwrap_or((String::new(), &[]));
        values.push(value);
        rest = left;
    }
    values
}
