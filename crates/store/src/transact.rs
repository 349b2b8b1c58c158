//! The rules of writing: keys stay unique, references stay whole, deletes cascade or are refused, every touched row is told.
//!
//! Written once over [`Rows`], so that all stores agree by construction. Rows past their time to live count as absent:
//! whoever needs their place removes them first.

use std::collections::{HashMap, HashSet};

use portcullis_schema::{ApiError, OnDelete, Record};
use serde_json::Value;
use uuid::Uuid;

use crate::layout::{Indexed, Layout, Table};
use crate::{Change, Expected, Operation, StoreError};

/// Why an operation failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The client's fault.
    Refused(ApiError),
    /// Ours: the store failed.
    Broken(String),
}

/// A row as it is kept: the record without its time to live, and when it expires (milliseconds since the epoch).
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub record: Record,
    pub expires_at: Option<u64>,
}

/// Rows inside one transaction. Tables are named by their place in the layout.
pub(crate) trait Rows {
    fn find(&mut self, table: usize, id: Uuid) -> Result<Option<Stored>, Fault>;
    /// The same, and nobody else changes the row before this transaction ends.
    fn hold(&mut self, table: usize, id: Uuid) -> Result<Option<Stored>, Fault> {
        self.find(table, id)
    }
    /// When the row expires, if there is one: cheaper than `find`.
    fn expiry(&mut self, table: usize, id: Uuid) -> Result<Option<Option<u64>>, Fault>;
    /// The row that has this value, and when it expires.
    fn holder(&mut self, table: usize, unique: usize, cell: &crate::layout::Cell) -> Result<Option<(Uuid, Option<u64>)>, Fault>;
    /// At most `limit` rows of `child` whose foreign field is `parent`.
    fn children(&mut self, child: usize, foreign: usize, parent: Uuid, limit: usize) -> Result<Vec<Uuid>, Fault>;
    /// Writes a row; `old` is what is indexed about the one it replaces.
    fn put(&mut self, table: usize, id: Uuid, row: &Stored, indexed: Indexed, old: Option<Indexed>) -> Result<(), Fault>;
    fn remove(&mut self, table: usize, id: Uuid, old: Indexed) -> Result<(), Fault>;
    fn clear(&mut self) -> Result<(), Fault>;
}

/// What a change set did.
#[derive(Default)]
pub(crate) struct Outcome {
    pub changes: Vec<Change>,
    pub reload: bool,
}

/// Runs the operations in order; on an error the caller rolls the transaction back.
pub(crate) fn run(layout: &Layout, rows: &mut impl Rows, operations: Vec<Operation>, now: u64) -> Result<Outcome, StoreError> {
    let mut transaction = Transaction { layout, rows, now, outcome: Outcome::default() };
    for (operation, what) in operations.into_iter().enumerate() {
        transaction.operate(what).map_err(|fault| match fault {
            Fault::Refused(error) => StoreError::Refused { operation, error },
            Fault::Broken(cause) => StoreError::Unavailable(cause),
        })?;
    }
    Ok(transaction.outcome)
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Insert,
    Update,
    Upsert,
}

struct Transaction<'a, R> {
    layout: &'a Layout,
    rows: &'a mut R,
    now: u64,
    outcome: Outcome,
}

impl<R: Rows> Transaction<'_, R> {
    fn operate(&mut self, operation: Operation) -> Result<(), Fault> {
        match operation {
            Operation::Insert(schema, record) => self.put(self.place(&schema.name)?, record, Mode::Insert),
            Operation::Update(schema, record) => self.put(self.place(&schema.name)?, record, Mode::Update),
            Operation::Upsert(schema, record) => self.put(self.place(&schema.name)?, record, Mode::Upsert),
            Operation::Delete(schema, id) => self.delete(self.place(&schema.name)?, id),
            Operation::Require(schema, id, expected) => self.require(self.place(&schema.name)?, id, expected),
            Operation::Clear => {
                self.rows.clear()?;
                self.outcome.changes.clear();
                self.outcome.reload = true;
                Ok(())
            }
        }
    }

    fn require(&mut self, place: usize, id: Uuid, expected: Expected) -> Result<(), Fault> {
        let found = self.rows.hold(place, id)?.filter(|row| !self.expired(row.expires_at));
        let table = self.table(place);
        let kept = match (found, expected) {
            (None, _) => false,
            (Some(_), Expected::Present) => true,
            (Some(mut row), Expected::Unchanged(mut wanted)) => {
                table.strip(&mut wanted);
                if table.schema.ttl {
                    wanted.remove("ttl");
                }
                // A column doesn't tell null from absent.
                wanted.retain(|_, value| !value.is_null());
                row.record.retain(|_, value| !value.is_null());
                row.record == wanted
            }
        };
        if kept { Ok(()) } else { Err(Fault::Refused(ApiError::precondition_failed(table.name(), by_id(&id.to_string())))) }
    }

    fn place(&self, entity: &str) -> Result<usize, Fault> {
        self.layout.place(entity).ok_or_else(|| Fault::Broken(format!("no rows are kept of {entity}")))
    }

    fn table(&self, place: usize) -> &Table {
        &self.layout.tables[place]
    }

    fn put(&mut self, place: usize, mut record: Record, mode: Mode) -> Result<(), Fault> {
        let layout = self.layout;
        let table = &layout.tables[place];
        let id_text = record.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = Uuid::try_parse(&id_text).map_err(|_| Fault::Broken(format!("a record of {} came without an id", table.name())))?;
        let old = match self.rows.find(place, id)? {
            Some(old) if self.expired(old.expires_at) => {
                if mode != Mode::Update {
                    self.delete(place, id)?;
                }
                None
            }
            old => old,
        };
        match (mode, &old) {
            (Mode::Insert, Some(_)) => return Err(Fault::Refused(ApiError::primary_key_violation(by_id(&id_text)))),
            (Mode::Update, None) => return Err(Fault::Refused(ApiError::not_found(by_id(&id_text)))),
            _ => {}
        }
        table.strip(&mut record);
        let expires_at = if table.schema.ttl {
            let given = record.remove("ttl");
            self.expires_at(given.as_ref(), old.as_ref())
        } else {
            None
        };

        let indexed = table.index(&record);
        self.keep_unique(place, id, &record, &indexed)?;
        self.keep_references(place, id, &indexed)?;
        let row = Stored { record, expires_at };
        self.rows.put(place, id, &row, indexed, old.as_ref().map(|old| table.index(&old.record)))?;
        self.tell(place, id, old, Some(row));
        Ok(())
    }

    /// `ttl` of a record: seconds from now; absent keeps what the row has, null and zero mean for ever. The remaining time
    /// that a reader was shown, written back, changes nothing.
    fn expires_at(&self, given: Option<&Value>, old: Option<&Stored>) -> Option<u64> {
        let kept = old.and_then(|old| old.expires_at);
        let Some(given) = given else { return kept };
        let seconds = given.as_f64().filter(|seconds| *seconds > 0.0)?;
        if kept.is_some_and(|kept| remaining_seconds(kept, self.now) as f64 == seconds) {
            return kept;
        }
        Some(self.now.saturating_add((seconds * 1000.0) as u64))
    }

    fn keep_unique(&mut self, place: usize, id: Uuid, record: &Record, indexed: &Indexed) -> Result<(), Fault> {
        for (at, cell) in indexed.uniques.iter().enumerate() {
            let Some(cell) = cell else { continue };
            let Some((holder, expires_at)) = self.rows.holder(place, at, cell)? else { continue };
            if holder == id {
                continue;
            }
            if self.expired(expires_at) {
                self.delete(place, holder)?;
                continue;
            }
            let fields = &self.table(place).uniques[at].fields;
            let taken = fields.iter().map(|name| (name.clone(), record.get(name).cloned().unwrap_or(Value::Null))).collect();
            return Err(Fault::Refused(ApiError::unique_violation(taken)));
        }
        Ok(())
    }

    fn keep_references(&mut self, place: usize, id: Uuid, indexed: &Indexed) -> Result<(), Fault> {
        let layout = self.layout;
        for (foreign, parent_id) in layout.tables[place].foreigns.iter().zip(&indexed.parents) {
            let (Some(parent), Some(parent_id)) = (foreign.parent, *parent_id) else { continue };
            let itself = parent == place && parent_id == id;
            let there = itself || self.rows.expiry(parent, parent_id)?.is_some_and(|expires_at| !self.expired(expires_at));
            if !there {
                let parent = layout.tables[parent].name();
                return Err(Fault::Refused(ApiError::foreign_key_missing(&foreign.field, by_id(&parent_id.to_string()), parent)));
            }
        }
        Ok(())
    }

    fn delete(&mut self, place: usize, id: Uuid) -> Result<(), Fault> {
        if self.rows.expiry(place, id)?.is_none() {
            return Ok(());
        }
        let doomed = self.doomed(place, id)?;
        for (place, id) in doomed {
            let Some(old) = self.rows.find(place, id)? else { continue };
            let indexed = self.table(place).index(&old.record);
            self.rows.remove(place, id, indexed)?;
            self.tell(place, id, Some(old), None);
        }
        Ok(())
    }

    /// The row and all that goes with it, children first. Refused when a row that stays references one that goes.
    fn doomed(&mut self, place: usize, id: Uuid) -> Result<Vec<(usize, Uuid)>, Fault> {
        let layout = self.layout;
        let mut seen = HashSet::new();
        let mut count_of: HashMap<usize, usize> = HashMap::new();
        let mut order = Vec::new();
        // Depth first with an explicit stack: a row is listed once all its children are.
        let mut stack = vec![(place, id, false)];
        while let Some((place, id, children_listed)) = stack.pop() {
            if children_listed {
                order.push((place, id));
                continue;
            }
            if !seen.insert((place, id)) {
                continue;
            }
            *count_of.entry(place).or_default() += 1;
            stack.push((place, id, true));
            for &(child, at) in &layout.tables[place].children {
                let cascades = layout.tables[child].foreigns[at].on_delete == OnDelete::Cascade;
                if !cascades && !layout.tables[child].schema.ttl {
                    continue;
                }
                for row in self.rows.children(child, at, id, usize::MAX)? {
                    let goes = cascades || self.rows.expiry(child, row)?.is_some_and(|expires_at| self.expired(expires_at));
                    if goes && !seen.contains(&(child, row)) {
                        stack.push((child, row, false));
                    }
                }
            }
        }
        for &(place, id) in &order {
            for &(child, at) in &layout.tables[place].children {
                if layout.tables[child].foreigns[at].on_delete == OnDelete::Cascade {
                    continue;
                }
                // One more than could go: if all of those go, no row stays.
                let limit = count_of.get(&child).copied().unwrap_or_default() + 1;
                let stays = self.rows.children(child, at, id, limit)?.into_iter().any(|row| !seen.contains(&(child, row)));
                if stays {
                    let (child, parent) = (layout.tables[child].name(), layout.tables[place].name());
                    return Err(Fault::Refused(ApiError::still_referenced(parent, child)));
                }
            }
        }
        Ok(order)
    }

    fn expired(&self, expires_at: Option<u64>) -> bool {
        expires_at.is_some_and(|at| at <= self.now)
    }

    fn tell(&mut self, place: usize, id: Uuid, old: Option<Stored>, new: Option<Stored>) {
        if self.outcome.reload {
            return;
        }
        let table = &self.layout.tables[place];
        let now = self.now;
        let shown = |row: Stored| show(table, row.record, row.expires_at, now);
        let change = Change { schema: table.schema.clone(), id, old: old.map(shown), new: new.map(shown) };
        self.outcome.changes.push(change);
    }
}

/// A record as readers see it: `ttl` is what remains of it.
pub(crate) fn show(table: &Table, mut record: Record, expires_at: Option<u64>, now: u64) -> Record {
    if table.schema.ttl {
        record.insert("ttl".to_owned(), expires_at.map_or(Value::Null, |at| remaining_seconds(at, now).into()));
    }
    record
}

/// Rounded up: a row that is alive never shows zero, which on a write would mean for ever.
fn remaining_seconds(expires_at: u64, now: u64) -> u64 {
    expires_at.saturating_sub(now).div_ceil(1000)
}

/// A primary key as errors show it.
fn by_id(id: &str) -> Record {
    Record::from_iter([("id".to_owned(), Value::from(id))])
}
