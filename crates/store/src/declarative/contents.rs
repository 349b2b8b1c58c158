//! Rows and their indexes in memory: reading them, and drafting the next contents.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use portcullis_schema::Record;
use uuid::Uuid;

use crate::layout::{Cell, Indexed, Layout, tags_of};
use crate::transact::{Fault, Rows, Stored, show};
use crate::{Filter, Key, Page, Tags};

/// All rows at one moment. Tables are in the layout's order.
pub(super) struct Contents {
    pub version: u64,
    tables: Vec<Arc<Table>>,
}

#[derive(Clone, Default)]
struct Table {
    rows: BTreeMap<Uuid, Row>,
    /// In the order of the layout's uniques.
    uniques: Vec<BTreeMap<Cell, Uuid>>,
    /// `(parent, row)`, in the order of the layout's foreigns.
    children: Vec<BTreeSet<(Uuid, Uuid)>>,
    tags: BTreeMap<Arc<str>, BTreeSet<Uuid>>,
    /// Rows that have tags.
    tagged: BTreeSet<Uuid>,
}

#[derive(Clone)]
struct Row {
    json: Arc<str>,
    expires_at: Option<u64>,
}

impl Row {
    fn alive(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }

    fn parse(&self) -> Result<Record, Fault> {
        serde_json::from_str(&self.json).map_err(|error| Fault::Broken(format!("a row is damaged: {error}")))
    }
}

/// The references of one foreign field, and the parent whose rows are wanted.
type Siblings<'a> = (&'a BTreeSet<(Uuid, Uuid)>, Uuid);

impl Contents {
    pub fn empty(layout: &Layout) -> Self {
        let table = |described: &crate::layout::Table| Table {
            uniques: vec![BTreeMap::new(); described.uniques.len()],
            children: vec![BTreeSet::new(); described.foreigns.len()],
            ..Table::default()
        };
        Self { version: 0, tables: layout.tables.iter().map(|described| Arc::new(table(described))).collect() }
    }

    pub fn get(&self, layout: &Layout, place: usize, key: &Key, now: u64) -> Result<Option<Record>, Fault> {
        let (table, described) = (&self.tables[place], &layout.tables[place]);
        let id = match key {
            Key::Id(id) => Some(*id),
            _ => match described.resolve(key).map_err(Fault::Broken)? {
                Some((unique, cell)) => table.uniques[unique].get(&cell).copied(),
                None => None,
            },
        };
        let row = id.and_then(|id| table.rows.get(&id)).filter(|row| row.alive(now));
        row.map(|row| Ok(show(described, row.parse()?, row.expires_at, now))).transpose()
    }

    pub fn page(&self, layout: &Layout, place: usize, after: Option<Uuid>, size: usize, filter: &Filter, now: u64) -> Result<Page, Fault> {
        let (table, described) = (&self.tables[place], &layout.tables[place]);
        let parent = match &filter.parent {
            None => None,
            Some((field, id)) => {
                let foreign = described.foreign(field);
                let foreign = foreign.ok_or_else(|| Fault::Broken(format!("{} has no reference {field}", described.name())))?;
                Some((&table.children[foreign], *id))
            }
        };
        let mut page = Page::default();
        let mut last = after;
        let mut shown = None;
        while let Some(id) = table.next(last, parent, filter.tags.as_ref()) {
            last = Some(id);
            let Some(row) = table.rows.get(&id).filter(|row| row.alive(now)) else { continue };
            if page.rows.len() == size {
                page.next = shown;
                break;
            }
            shown = Some(id);
            page.rows.push(show(described, row.parse()?, row.expires_at, now));
        }
        Ok(page)
    }

    pub fn tagged(
        &self,
        layout: &Layout,
        tag: Option<&str>,
        after: Option<&(Uuid, String)>,
        size: usize,
        now: u64,
    ) -> Result<Vec<(String, Uuid, String)>, Fault> {
        let mut found = Vec::new();
        let mut start = match after {
            Some((id, _)) => Bound::Included(*id),
            None => Bound::Unbounded,
        };
        while found.len() < size {
            // The next id that any table has tags for; two tables may share it.
            let next = self.tables.iter().filter_map(|table| {
                let ids = tag.map_or(Some(&table.tagged), |tag| table.tags.get(tag));
                ids?.range((start, Bound::Unbounded)).next().copied()
            });
            let Some(id) = next.min() else { break };
            start = Bound::Excluded(id);
            let mut here = Vec::new();
            for (table, described) in self.tables.iter().zip(&layout.tables) {
                let Some(row) = table.rows.get(&id).filter(|row| table.tagged.contains(&id) && row.alive(now)) else { continue };
                here.extend(tags_of(&row.parse()?).into_iter().map(|tag| (described.name().to_owned(), id, tag)));
            }
            if let Some((last, shown)) = after
                && *last == id
            {
                // A tag that is gone since the last page takes the rest of its row with it.
                let seen = here.iter().rposition(|(_, _, tag)| tag == shown).map_or(here.len(), |at| at + 1);
                here.drain(..seen);
            }
            found.extend(here.into_iter().filter(|(_, _, carried)| tag.is_none_or(|tag| tag == carried)));
        }
        found.truncate(size);
        Ok(found)
    }
}

impl Table {
    /// The first row after `after` that the filter lets through, alive or not.
    fn next(&self, mut after: Option<Uuid>, parent: Option<Siblings<'_>>, tags: Option<&Tags>) -> Option<Uuid> {
        loop {
            let candidate = self.candidate(after, parent, tags)?;
            if parent.is_none_or(|(children, id)| children.contains(&(id, candidate))) {
                return Some(candidate);
            }
            after = Some(candidate);
        }
    }

    /// The first row after `after` that the tags let through or, without tags, the parent.
    fn candidate(&self, after: Option<Uuid>, parent: Option<Siblings<'_>>, tags: Option<&Tags>) -> Option<Uuid> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let first = |ids: &BTreeSet<Uuid>| ids.range((start, Bound::Unbounded)).next().copied();
        let carried = |tag: &String| self.tags.get(tag.as_str());
        match (tags, parent) {
            (Some(Tags::All(tags)), _) if !tags.is_empty() => {
                // Walks the rarest tag: the others only confirm.
                let mut all = tags.iter().map(carried).collect::<Option<Vec<_>>>()?;
                all.sort_by_key(|ids| ids.len());
                let (rarest, others) = all.split_first()?;
                let mut ids = rarest.range((start, Bound::Unbounded));
                ids.find(|id| others.iter().all(|others| others.contains(id))).copied()
            }
            (Some(Tags::Any(tags)), _) if !tags.is_empty() => tags.iter().filter_map(carried).filter_map(first).min(),
            (_, Some((children, parent))) => {
                let lowest = match after {
                    Some(id) => Bound::Excluded((parent, id)),
                    None => Bound::Included((parent, Uuid::nil())),
                };
                let mut rows = children.range((lowest, Bound::Included((parent, Uuid::max()))));
                rows.next().map(|(_, id)| *id)
            }
            _ => self.rows.range((start, Bound::Unbounded)).next().map(|(id, _)| *id),
        }
    }

    fn unlink(&mut self, id: Uuid, old: &Indexed) {
        for (index, cell) in self.uniques.iter_mut().zip(&old.uniques) {
            if let Some(cell) = cell {
                index.remove(cell);
            }
        }
        for (index, parent) in self.children.iter_mut().zip(&old.parents) {
            if let Some(parent) = parent {
                index.remove(&(*parent, id));
            }
        }
        for tag in &old.tags {
            if let Some(rows) = self.tags.get_mut(tag.as_str()) {
                rows.remove(&id);
                if rows.is_empty() {
                    self.tags.remove(tag.as_str());
                }
            }
        }
        self.tagged.remove(&id);
    }

    fn link(&mut self, id: Uuid, new: Indexed) {
        for (index, cell) in self.uniques.iter_mut().zip(new.uniques) {
            if let Some(cell) = cell {
                index.insert(cell, id);
            }
        }
        for (index, parent) in self.children.iter_mut().zip(new.parents) {
            if let Some(parent) = parent {
                index.insert((parent, id));
            }
        }
        if !new.tags.is_empty() {
            self.tagged.insert(id);
        }
        for tag in new.tags {
            self.tags.entry(tag.into()).or_default().insert(id);
        }
    }
}

/// The next contents while a change set is being applied. Dropped when it is refused: nothing happened then.
pub(super) struct Draft<'a> {
    layout: &'a Layout,
    tables: Vec<Arc<Table>>,
}

impl<'a> Draft<'a> {
    pub fn new(layout: &'a Layout, contents: &Contents) -> Self {
        Self { layout, tables: contents.tables.clone() }
    }

    pub fn finish(self, version: u64) -> Contents {
        Contents { version, tables: self.tables }
    }
}

impl Rows for Draft<'_> {
    fn find(&mut self, table: usize, id: Uuid) -> Result<Option<Stored>, Fault> {
        let row = self.tables[table].rows.get(&id);
        row.map(|row| Ok(Stored { record: row.parse()?, expires_at: row.expires_at })).transpose()
    }

    fn expiry(&mut self, table: usize, id: Uuid) -> Result<Option<Option<u64>>, Fault> {
        Ok(self.tables[table].rows.get(&id).map(|row| row.expires_at))
    }

    fn holder(&mut self, table: usize, unique: usize, cell: &Cell) -> Result<Option<(Uuid, Option<u64>)>, Fault> {
        let table = &self.tables[table];
        let id = table.uniques[unique].get(cell).copied();
        Ok(id.map(|id| (id, table.rows.get(&id).and_then(|row| row.expires_at))))
    }

    fn children(&mut self, child: usize, foreign: usize, parent: Uuid, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let rows = self.tables[child].children[foreign].range((parent, Uuid::nil())..=(parent, Uuid::max()));
        Ok(rows.take(limit).map(|(_, id)| *id).collect())
    }

    fn put(&mut self, table: usize, id: Uuid, row: &Stored, indexed: Indexed, old: Option<Indexed>) -> Result<(), Fault> {
        let text = serde_json::to_string(&row.record).map_err(|error| Fault::Broken(format!("a record cannot be written: {error}")))?;
        let table = Arc::make_mut(&mut self.tables[table]);
        if let Some(old) = old {
            table.unlink(id, &old);
        }
        table.rows.insert(id, Row { json: text.into(), expires_at: row.expires_at });
        table.link(id, indexed);
        Ok(())
    }

    fn remove(&mut self, table: usize, id: Uuid, old: Indexed) -> Result<(), Fault> {
        let table = Arc::make_mut(&mut self.tables[table]);
        table.unlink(id, &old);
        table.rows.remove(&id);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Fault> {
        self.tables = Contents::empty(self.layout).tables;
        Ok(())
    }
}
