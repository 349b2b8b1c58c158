//! [`Rows`] over one SQLite connection: prepared statements, nothing else.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, Statement, ToSql, params};
use uuid::Uuid;

use super::statements::{Source, Statements};
use crate::layout::{Cell, Indexed};
use crate::transact::{Fault, Rows, Stored};

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Id(id) => ValueRef::Blob(id.as_bytes()),
            Cell::Packed(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// The lookup columns of one row, ready to be bound.
pub(super) struct Cells<'a> {
    pub statements: &'a Statements,
    pub indexed: &'a Indexed,
}

impl Cells<'_> {
    /// Runs `insert` or `update`.
    pub fn execute(&self, statement: &mut Statement<'_>, id: &[u8], record: &str, expires_at: Option<i64>) -> rusqlite::Result<usize> {
        statement.raw_bind_parameter(1, id)?;
        statement.raw_bind_parameter(2, record)?;
        statement.raw_bind_parameter(3, expires_at)?;
        for (at, column) in self.statements.columns.iter().enumerate() {
            match column.source {
                Source::Unique(unique) => statement.raw_bind_parameter(at + 4, &self.indexed.uniques[unique])?,
                Source::Foreign(foreign) => {
                    let id = self.indexed.parents[foreign].as_ref().map(|id| id.as_bytes().as_slice());
                    statement.raw_bind_parameter(at + 4, id)?;
                }
            }
        }
        statement.raw_execute()
    }
}

pub(super) struct Tables<'a> {
    pub connection: &'a Connection,
    pub statements: &'a [Statements],
}

impl Tables<'_> {
    fn write_tags(&self, table: usize, id: Uuid, tags: &[String]) -> Result<(), Fault> {
        let mut insert = self.connection.prepare_cached("INSERT INTO _tags (entity, tag, id, position) VALUES (?1, ?2, ?3, ?4)")?;
        for (position, tag) in tags.iter().enumerate() {
            insert.execute(params![self.statements[table].number, tag, id.as_bytes(), position as i64])?;
        }
        Ok(())
    }

    fn remove_tags(&self, table: usize, id: Uuid) -> Result<(), Fault> {
        let mut delete = self.connection.prepare_cached("DELETE FROM _tags WHERE id = ?1 AND entity = ?2")?;
        delete.execute(params![id.as_bytes(), self.statements[table].number])?;
        Ok(())
    }
}

impl Rows for Tables<'_> {
    fn find(&mut self, table: usize, id: Uuid) -> Result<Option<Stored>, Fault> {
        let mut find = self.connection.prepare_cached(&self.statements[table].find)?;
        let mut rows = find.query([id.as_bytes()])?;
        rows.next()?.map(|row| Ok(stored(row)?.1)).transpose()
    }

    fn expiry(&mut self, table: usize, id: Uuid) -> Result<Option<Option<u64>>, Fault> {
        let mut expiry = self.connection.prepare_cached(&self.statements[table].expiry)?;
        let found: Option<Option<i64>> = expiry.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
        Ok(found.map(|at| at.map(milliseconds)))
    }

    fn holder(&mut self, table: usize, unique: usize, cell: &Cell) -> Result<Option<(Uuid, Option<u64>)>, Fault> {
        let mut holder = self.connection.prepare_cached(&self.statements[table].holders[unique])?;
        let found = holder.query_row([cell], |row| Ok((id_of(row)?, row.get::<_, Option<i64>>(2)?.map(milliseconds)))).optional()?;
        Ok(found)
    }

    fn children(&mut self, child: usize, foreign: usize, parent: Uuid, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let mut children = self.connection.prepare_cached(&self.statements[child].children[foreign])?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = children.query_map(params![parent.as_bytes(), limit], id_of)?.collect::<Result<_, _>>()?;
        Ok(found)
    }

    fn put(&mut self, table: usize, id: Uuid, row: &Stored, indexed: Indexed, old: Option<Indexed>) -> Result<(), Fault> {
        let statements = &self.statements[table];
        let text = serde_json::to_string(&row.record).map_err(|error| Fault::Broken(format!("a record cannot be written: {error}")))?;
        let mut statement = self.connection.prepare_cached(if old.is_some() { &statements.update } else { &statements.insert })?;
        let expires_at = row.expires_at.map(|at| i64::try_from(at).unwrap_or(i64::MAX));
        Cells { statements, indexed: &indexed }.execute(&mut statement, id.as_bytes(), &text, expires_at)?;
        let old_tags = old.map(|old| old.tags).unwrap_or_default();
        if old_tags != indexed.tags {
            if !old_tags.is_empty() {
                self.remove_tags(table, id)?;
            }
            self.write_tags(table, id, &indexed.tags)?;
        }
        Ok(())
    }

    fn remove(&mut self, table: usize, id: Uuid, old: Indexed) -> Result<(), Fault> {
        self.connection.prepare_cached(&self.statements[table].delete)?.execute([id.as_bytes()])?;
        if !old.tags.is_empty() {
            self.remove_tags(table, id)?;
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Fault> {
        // Children first, as SQLite keeps references too; those within a table wait until its statement ends.
        for statements in self.statements.iter().rev() {
            self.connection.execute(&format!("DELETE FROM {}", statements.table), [])?;
        }
        self.connection.execute("DELETE FROM _tags", [])?;
        Ok(())
    }
}

/// A row of `id, record, expiry`.
pub(super) fn stored(row: &Row<'_>) -> Result<(Uuid, Stored), Fault> {
    let id = id_of(row)?;
    let text = row.get_ref(1)?.as_str().map_err(|error| Fault::Broken(format!("row {id} is damaged: {error}")))?;
    let record = serde_json::from_str(text).map_err(|error| Fault::Broken(format!("row {id} is damaged: {error}")))?;
    let expires_at = row.get::<_, Option<i64>>(2)?.map(milliseconds);
    Ok((id, Stored { record, expires_at }))
}

fn id_of(row: &Row<'_>) -> rusqlite::Result<Uuid> {
    Ok(Uuid::from_bytes(row.get(0)?))
}

fn milliseconds(kept: i64) -> u64 {
    u64::try_from(kept).unwrap_or_default()
}
