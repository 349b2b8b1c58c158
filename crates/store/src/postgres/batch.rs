//! [`Rows`] for change sets of many rows: what they ask for is read in a few statements before, what they write is sent without
//! waiting for each answer.
//!
//! Knows what the transaction has done so far, so the rules of writing see what they would see row by row. A question that
//! nobody foresaw waits until everything written is there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;

use foldhash::fast::RandomState;
use futures_util::future::try_join_all;
use portcullis_schema::{ApiError, Violations};
use serde_json::Value;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::rows::Tables;
use super::values::{Misfit, Sql};
use crate::Operation;
use crate::layout::{Cell, Indexed, Layout};
use crate::transact::{Fault, Rows, Stored};

/// Change sets of fewer rows go row by row. Those of the suite are small: there, two are many.
pub(super) const MANY: usize = if cfg!(test) { 2 } else { 50 };
/// Values asked for in one statement.
const ASKED: usize = 10_000;
/// Rows sent before their answers are waited for.
const SENT: usize = if cfg!(test) { 3 } else { 1000 };
/// New rows in one statement: what the tables' triggers do for each statement is done once for all of them.
const TOGETHER: usize = if cfg!(test) { 2 } else { 100 };

/// A value of one unique of one table.
type Held = (usize, usize, Cell);
/// The row that has it, and when that expires.
type Holder = Option<(Uuid, Option<u64>)>;

/// A row to be written: its table, whether it is there already, its values.
type Put = (usize, bool, Vec<Sql>);

/// Rows and values by place, of which it is known what the transaction would find.
pub(super) struct Batch<'a> {
    inner: Tables<'a>,
    rows: HashMap<(usize, Uuid), Option<Stored>, RandomState>,
    /// Rows that are only referenced: when they expire.
    parents: HashMap<(usize, Uuid), Option<Option<u64>>, RandomState>,
    holders: HashMap<Held, Holder, RandomState>,
    /// Statements that are not sent yet.
    pending: Vec<Put>,
}

impl<'a> Batch<'a> {
    /// Reads what `operations` will ask for.
    pub fn before(layout: &Layout, inner: Tables<'a>, operations: &[Operation]) -> Result<Self, Fault> {
        let mut batch =
            Self { inner, rows: HashMap::default(), parents: HashMap::default(), holders: HashMap::default(), pending: Vec::new() };
        for operation in operations {
            let (Operation::Insert(schema, record) | Operation::Update(schema, record) | Operation::Upsert(schema, record)) = operation
            else {
                continue;
            };
            let Some(table) = layout.place(&schema.name) else { continue };
            let Some(id) = record.get("id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok()) else { continue };
            batch.rows.insert((table, id), None);
            let described = &layout.tables[table];
            let indexed = described.index(record);
            let cells = indexed.uniques.into_iter().enumerate().filter_map(|(unique, cell)| Some(((table, unique, cell?), None)));
            batch.holders.extend(cells);
            let parents = described.foreigns.iter().zip(indexed.parents).filter_map(|(foreign, id)| Some(((foreign.parent?, id?), None)));
            batch.parents.extend(parents);
        }
        batch.read(layout)?;
        Ok(batch)
    }

    fn read(&mut self, layout: &Layout) -> Result<(), Fault> {
        let mut ids: HashMap<usize, Vec<Uuid>> = HashMap::new();
        self.rows.keys().for_each(|(table, id)| ids.entry(*table).or_default().push(*id));
        for (table, ids) in ids {
            for some in ids.chunks(ASKED) {
                for (id, row) in self.inner.found(table, some)? {
                    self.rows.insert((table, id), Some(row));
                }
            }
        }
        let mut parents: HashMap<usize, Vec<Uuid>> = HashMap::new();
        self.parents.keys().for_each(|(table, id)| parents.entry(*table).or_default().push(*id));
        for (table, ids) in parents {
            for some in ids.chunks(ASKED) {
                for (id, expires_at) in self.inner.expiries(table, some)? {
                    self.parents.insert((table, id), Some(expires_at));
                }
            }
        }
        let mut values: HashMap<(usize, usize), Vec<Sql>> = HashMap::new();
        for (table, unique, cell) in self.holders.keys() {
            values.entry((*table, *unique)).or_default().push(self.inner.statements[*table].lookup(cell));
        }
        for ((table, unique), values) in values {
            for some in values.chunks(ASKED) {
                for (id, row) in self.inner.holding(table, unique, some)? {
                    let cell = layout.tables[table].index(&row.record).uniques.swap_remove(unique);
                    if let Some(cell) = cell {
                        self.holders.insert((table, unique, cell), Some((id, row.expires_at)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends what is pending and waits for all answers.
    pub fn flush(&mut self) -> Result<(), Fault> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = mem::take(&mut self.pending);
        let transaction = self.inner.transaction;
        let mut statements = Vec::new();
        let mut prepared: HashMap<_, Statement> = HashMap::new();
        for part in parts(&pending) {
            let (table, is_update, values) = &part[0];
            let of = &self.inner.statements[*table];
            let key = (*table, *is_update, part.len());
            let statement = match prepared.entry(key) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(unknown) => {
                    let sql = if *is_update { of.update.clone() } else { of.insert_many(part.len(), values.len()) };
                    unknown.insert(self.inner.answer(transaction.prepare_cached(&sql))?).clone()
                }
            };
            statements.push((part, statement));
        }
        // A connection answers in the order it is asked: all are sent before the first answer is waited for.
        let sent = statements.iter().map(|(part, statement)| async move {
            let values = part.iter().flat_map(|(_, _, values)| values);
            let values: Vec<&(dyn ToSql + Sync)> = values.map(|value| value as &(dyn ToSql + Sync)).collect();
            transaction.execute(statement, &values).await
        });
        let written = self.inner.answer(try_join_all(sent))?;
        match written.iter().position(|count| *count == 0) {
            None => Ok(()),
            Some(at) => Err(self.inner.went_away(statements[at].0[0].0)),
        }
    }

    fn forget(&mut self, table: usize, id: Uuid, indexed: &Indexed) {
        for (unique, cell) in indexed.uniques.iter().enumerate() {
            let Some(cell) = cell else { continue };
            if let Some(holder) = self.holders.get_mut(&(table, unique, cell.clone()))
                && holder.as_ref().is_some_and(|(holder, _)| *holder == id)
            {
                *holder = None;
            }
        }
    }
}

impl Rows for Batch<'_> {
    fn find(&mut self, table: usize, id: Uuid) -> Result<Option<Stored>, Fault> {
        if let Some(known) = self.rows.get(&(table, id)) {
            return Ok(known.clone());
        }
        self.flush()?;
        self.inner.find(table, id)
    }

    fn hold(&mut self, table: usize, id: Uuid) -> Result<Option<Stored>, Fault> {
        self.flush()?;
        self.inner.hold(table, id)
    }

    fn expiry(&mut self, table: usize, id: Uuid) -> Result<Option<Option<u64>>, Fault> {
        if let Some(known) = self.rows.get(&(table, id)) {
            return Ok(known.as_ref().map(|row| row.expires_at));
        }
        if let Some(known) = self.parents.get(&(table, id)) {
            return Ok(*known);
        }
        self.flush()?;
        self.inner.expiry(table, id)
    }

    fn holder(&mut self, table: usize, unique: usize, cell: &Cell) -> Result<Option<(Uuid, Option<u64>)>, Fault> {
        if let Some(known) = self.holders.get(&(table, unique, cell.clone())) {
            return Ok(*known);
        }
        self.flush()?;
        self.inner.holder(table, unique, cell)
    }

    fn children(&mut self, child: usize, foreign: usize, parent: Uuid, limit: usize) -> Result<Vec<Uuid>, Fault> {
        self.flush()?;
        self.inner.children(child, foreign, parent, limit)
    }

    fn put(&mut self, table: usize, id: Uuid, row: &Stored, indexed: Indexed, old: Option<Indexed>) -> Result<(), Fault> {
        let values = self.inner.values(table, row, &indexed)?;
        self.pending.push((table, old.is_some(), values));
        if let Some(old) = &old {
            self.forget(table, id, old);
        }
        for (unique, cell) in indexed.uniques.into_iter().enumerate() {
            if let Some(cell) = cell {
                self.holders.insert((table, unique, cell), Some((id, row.expires_at)));
            }
        }
        self.rows.insert((table, id), Some(row.clone()));
        if self.pending.len() < SENT { Ok(()) } else { self.flush() }
    }

    fn remove(&mut self, table: usize, id: Uuid, old: Indexed) -> Result<(), Fault> {
        self.flush()?;
        self.forget(table, id, &old);
        self.rows.insert((table, id), None);
        self.parents.remove(&(table, id));
        self.inner.remove(table, id, old)
    }

    fn clear(&mut self) -> Result<(), Fault> {
        self.flush()?;
        self.rows.values_mut().for_each(|row| *row = None);
        self.parents.values_mut().for_each(|parent| *parent = None);
        self.holders.values_mut().for_each(|holder| *holder = None);
        self.inner.clear()
    }
}

/// What goes into one statement each: an update of its own, new rows of a table in a row together, in two sizes so that few
/// statements have to be prepared.
fn parts(mut pending: &[Put]) -> Vec<&[Put]> {
    let mut parts = Vec::new();
    while let Some((table, is_update, _)) = pending.first() {
        let same = pending.iter().take(TOGETHER).take_while(|(other, update, _)| other == table && !update).count();
        let size = if *is_update || same < TOGETHER { 1 } else { TOGETHER };
        let (part, rest) = pending.split_at(size);
        parts.push(part);
        pending = rest;
    }
    parts
}

/// What a value that cannot be kept is answered.
pub(super) fn misfit((field, misfit): (String, Misfit)) -> Fault {
    match misfit {
        Misfit::Nul => Fault::Refused(ApiError::schema_violation(Violations::of(&field, "must not contain a NUL character"))),
        Misfit::Other(cause) => Fault::Broken(cause),
    }
}
