//! [`Rows`] over one Postgres transaction: prepared statements, nothing else.
//!
//! The rules of writing are plain code, so each statement blocks the writing thread until its answer is there.

use std::cell::Cell as Flag;
use std::future::Future;
use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::batch::misfit;
use super::fault::{explain, is_conflict, timed_out};
use super::statements::Statements;
use super::values::Sql;
use crate::layout::{Cell, Indexed};
use crate::transact::{Fault, Rows, Stored};

pub(super) struct Tables<'a> {
    pub runtime: &'a Handle,
    pub transaction: &'a Transaction<'a>,
    pub statements: &'a [Statements],
    pub timeout: Duration,
    /// Set once a statement met somebody else's change.
    pub conflict: &'a Flag<bool>,
}

impl Tables<'_> {
    pub fn answer<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
        match self.runtime.block_on(async { tokio::time::timeout(self.timeout, asked).await }) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.conflict.set(self.conflict.get() || is_conflict(&error));
                Err(Fault::Broken(explain(&error)))
            }
            Err(_) => Err(Fault::Broken(timed_out())),
        }
    }

    fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        self.answer(async {
            let statement = self.transaction.prepare_cached(sql).await?;
            self.transaction.query(&statement, values).await
        })
    }

    /// The rows with these ids, as far as there are any.
    pub fn found(&self, table: usize, ids: &[Uuid]) -> Result<Vec<(Uuid, Stored)>, Fault> {
        let statements = &self.statements[table];
        let rows = self.query(&format!("SELECT {} FROM {} WHERE id = ANY($1)", statements.shown, statements.table), &[&ids])?;
        rows.iter().map(|row| statements.stored(row)).collect()
    }

    /// When the rows with these ids expire.
    pub fn expiries(&self, table: usize, ids: &[Uuid]) -> Result<Vec<(Uuid, Option<u64>)>, Fault> {
        let statements = &self.statements[table];
        let ttl = if statements.ttl { "ttl" } else { "NULL::timestamptz" };
        let rows = self.query(&format!("SELECT id, {ttl} FROM {} WHERE id = ANY($1)", statements.table), &[&ids])?;
        rows.iter().map(|row| Ok((row.try_get(0)?, milliseconds(row.try_get(1)?)))).collect()
    }

    /// The rows that have one of these values.
    pub fn holding(&self, table: usize, unique: usize, values: &[Sql]) -> Result<Vec<(Uuid, Stored)>, Fault> {
        let statements = &self.statements[table];
        // No row can have a text with that character.
        let texts = |value: &Sql| match value {
            Sql::Text(text) if !text.contains('\0') => Some(text.clone()),
            _ => None,
        };
        let ids = |value: &Sql| if let Sql::Uuid(id) = value { Some(*id) } else { None };
        let texts: Vec<String> = values.iter().filter_map(texts).collect();
        let ids: Vec<Uuid> = values.iter().filter_map(ids).collect();
        let asked: &(dyn ToSql + Sync) = if ids.is_empty() { &texts } else { &ids };
        let rows = self.query(&statements.holding[unique], &[asked])?;
        rows.iter().map(|row| statements.stored(row)).collect()
    }

    /// The values of a row as its statements take them.
    pub fn values(&self, table: usize, row: &Stored, indexed: &Indexed) -> Result<Vec<Sql>, Fault> {
        self.statements[table].values(row, &indexed.uniques).map_err(misfit)
    }

    /// Somebody else removed a row since it was read.
    pub fn went_away(&self, table: usize) -> Fault {
        self.conflict.set(true);
        Fault::Broken(format!("a row of {} went away while it was written", self.statements[table].table))
    }

    fn execute(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Fault> {
        self.answer(async {
            let statement = self.transaction.prepare_cached(sql).await?;
            self.transaction.execute(&statement, values).await
        })
    }
}

impl Rows for Tables<'_> {
    fn find(&mut self, table: usize, id: Uuid) -> Result<Option<Stored>, Fault> {
        let statements = &self.statements[table];
        let rows = self.query(&statements.find, &[&id])?;
        rows.first().map(|row| Ok(statements.stored(row)?.1)).transpose()
    }

    fn hold(&mut self, table: usize, id: Uuid) -> Result<Option<Stored>, Fault> {
        let statements = &self.statements[table];
        let rows = self.query(&statements.hold, &[&id])?;
        rows.first().map(|row| Ok(statements.stored(row)?.1)).transpose()
    }

    fn expiry(&mut self, table: usize, id: Uuid) -> Result<Option<Option<u64>>, Fault> {
        let rows = self.query(&self.statements[table].expiry, &[&id])?;
        rows.first().map(|row| Ok(milliseconds(row.try_get(0)?))).transpose()
    }

    fn holder(&mut self, table: usize, unique: usize, cell: &Cell) -> Result<Option<(Uuid, Option<u64>)>, Fault> {
        let statements = &self.statements[table];
        let value = statements.lookup(cell);
        // No row can have such a text; that it can't is told when the row is written.
        if matches!(&value, Sql::Text(text) if text.contains('\0')) {
            return Ok(None);
        }
        let rows = self.query(&statements.holders[unique], &[&value])?;
        let found = rows.first().map(|row| statements.stored(row)).transpose()?;
        Ok(found.map(|(id, row)| (id, row.expires_at)))
    }

    fn children(&mut self, child: usize, foreign: usize, parent: Uuid, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.query(&self.statements[child].children[foreign], &[&parent, &limit])?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    fn put(&mut self, table: usize, _: Uuid, row: &Stored, indexed: Indexed, old: Option<Indexed>) -> Result<(), Fault> {
        let values = self.values(table, row, &indexed)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let statements = &self.statements[table];
        let written = self.execute(if old.is_some() { &statements.update } else { &statements.insert }, &values)?;
        if written == 0 {
            return Err(self.went_away(table));
        }
        Ok(())
    }

    fn remove(&mut self, table: usize, id: Uuid, _: Indexed) -> Result<(), Fault> {
        self.execute(&self.statements[table].delete, &[&id])?;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Fault> {
        // Children first; the workspace is what every row belongs to.
        for statements in self.statements.iter().rev().filter(|statements| statements.table != "\"workspaces\"") {
            self.execute(&format!("DELETE FROM {}", statements.table), &[])?;
        }
        Ok(())
    }
}

pub(super) fn milliseconds(kept: Sql) -> Option<u64> {
    match kept {
        Sql::Time(micros) => Some(u64::try_from(micros / 1000).unwrap_or_default()),
        _ => None,
    }
}
