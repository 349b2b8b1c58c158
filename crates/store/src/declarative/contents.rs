//! Rows and their indexes in memory: reading them, and drafting the next contents.

use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::sync::{Arc, LazyLock};

use foldhash::quality::RandomState;
use portcullis_schema::Record;
use serde::Serializer as _;
use serde::ser::Error as _;
use serde_json::Value;
use uuid::Uuid;

use super::sorted::Sorted;
use crate::layout::{Cell, Indexed, Layout, Unique, tags_of};
use crate::transact::{Fault, Rows, Stored, show};
use crate::{Filter, Key, Page, Tags};

/// All rows at one moment. Tables are in the layout's order.
pub(super) struct Contents {
    pub version: u64,
    tables: Vec<Arc<Table>>,
}

/// A copy shares everything that isn't written to.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub rows: Sorted<Row>,
    /// In the order of the layout's uniques: hashes of values, and the rows that have them. What has the hash that is looked
    /// for is read to see whether it has the value too.
    pub uniques: Vec<Sorted<(u64, Uuid)>>,
    /// `(parent, row)`, in the order of the layout's foreigns.
    pub children: Vec<Sorted<(Uuid, Uuid)>>,
    pub tags: Sorted<(Arc<str>, Uuid)>,
    /// Rows that have tags.
    pub tagged: Sorted<Uuid>,
}

#[derive(Clone)]
pub(super) struct Row {
    pub id: Uuid,
    /// See [`pack`].
    pub text: Arc<str>,
    pub expires_at: Option<NonZeroU64>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl Row {
    fn alive(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|at| at.get() > now)
    }

    fn expires_at(&self) -> Option<u64> {
        self.expires_at.map(NonZeroU64::get)
    }

    fn parse(&self, described: &crate::layout::Table) -> Result<Record, Fault> {
        unpack(described, self.id, &self.text).map_err(|error| Fault::Broken(format!("a row is damaged: {error}")))
    }
}

/// Before the text of a record that is kept as it is.
const WHOLE: char = '=';

/// A record as text: its values in the order of their names, references as ids, without the id itself and the nulls at the end.
/// Whole, if [`unpack`] would not put back exactly the same. What a time to live says is kept beside it.
pub(super) fn pack(described: &crate::layout::Table, id: Uuid, record: &Record) -> serde_json::Result<String> {
    let Some(values) = values(described, id, record) else { return Ok(format!("{WHOLE}{}", serde_json::to_string(record)?)) };
    let mut text = Vec::with_capacity(256);
    serde_json::Serializer::new(&mut text).collect_seq(values)?;
    String::from_utf8(text).map_err(serde_json::Error::custom)
}

/// What is written of a record; none if it hasn't just the fields of a complete row, as they are always spelled.
fn values<'a>(described: &crate::layout::Table, id: Uuid, record: &'a Record) -> Option<Vec<&'a Value>> {
    let mut values = Vec::with_capacity(record.len());
    let mut last = 0;
    // Both are sorted by name.
    let mut kept = described.kept.iter();
    for (field, value) in record.iter().filter(|(field, _)| !described.schema.ttl || *field != "ttl") {
        let kept = kept.next().filter(|kept| kept.name == *field)?;
        if field == "id" {
            let spelled = id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == value.as_str()?;
            spelled.then_some(())?;
            continue;
        }
        let written = match value {
            Value::Object(reference) if kept.reference => match reference.get("id") {
                Some(id @ Value::String(_)) if reference.len() == 1 => id,
                _ => return None,
            },
            Value::Null => value,
            _ if kept.reference => return None,
            _ => value,
        };
        values.push(written);
        if !written.is_null() {
            last = values.len();
        }
    }
    kept.next().is_none().then_some(())?;
    values.truncate(last);
    Some(values)
}

fn unpack(described: &crate::layout::Table, id: Uuid, text: &str) -> serde_json::Result<Record> {
    if let Some(whole) = text.strip_prefix(WHOLE) {
        return serde_json::from_str(whole);
    }
    let mut values = serde_json::from_str::<Vec<Value>>(text)?.into_iter();
    let mut value = |kept: &crate::layout::Kept| match kept.name.as_str() {
        "id" => id.to_string().into(),
        _ => match values.next() {
            Some(id @ Value::String(_)) if kept.reference => Value::Object(Record::from_iter([("id".to_owned(), id)])),
            value => value.unwrap_or_default(),
        },
    };
    Ok(described.kept.iter().map(|kept| (kept.name.clone(), value(kept))).collect())
}

pub(super) fn hash_of(cell: &Cell) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    HASHER.hash_one(cell)
}

/// The references of one foreign field, and the parent whose rows are wanted.
type Siblings<'a> = (&'a Sorted<(Uuid, Uuid)>, Uuid);

impl Contents {
    pub fn new(version: u64, tables: Vec<Table>) -> Self {
        Self { version, tables: tables.into_iter().map(Arc::new).collect() }
    }

    pub fn empty(layout: &Layout) -> Self {
        let table = |described: &crate::layout::Table| Table {
            uniques: vec![Sorted::default(); described.uniques.len()],
            children: vec![Sorted::default(); described.foreigns.len()],
            ..Table::default()
        };
        Self { version: 0, tables: layout.tables.iter().map(|described| Arc::new(table(described))).collect() }
    }

    pub fn get(&self, layout: &Layout, place: usize, key: &Key, now: u64) -> Result<Option<Record>, Fault> {
        let (table, described) = (&self.tables[place], &layout.tables[place]);
        let id = match key {
            Key::Id(id) => Some(*id),
            _ => match described.resolve(key).map_err(Fault::Broken)? {
                Some((unique, cell)) => table.holder(described, unique, &cell)?.map(|row| row.id),
                None => None,
            },
        };
        let row = id.and_then(|id| table.row(id)).filter(|row| row.alive(now));
        row.map(|row| Ok(show(described, row.parse(described)?, row.expires_at(), now))).transpose()
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
            let Some(row) = table.row(id).filter(|row| row.alive(now)) else { continue };
            if page.rows.len() == size {
                page.next = shown;
                break;
            }
            shown = Some(id);
            page.rows.push(show(described, row.parse(described)?, row.expires_at(), now));
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
        let mut last = after.map(|(id, _)| *id);
        // The row where the last page ended is looked at once more: it may have more tags to show.
        let mut again = after.is_some();
        while found.len() < size {
            // The next id that any table has tags for; two tables may share it.
            let next = self.tables.iter().filter_map(|table| {
                let before = |id: &Uuid| last.is_some_and(|last| if again { *id < last } else { *id <= last });
                match tag {
                    None => table.tagged.from(before).next().copied(),
                    Some(tag) => table.carrying(tag, before).next(),
                }
            });
            let Some(id) = next.min() else { break };
            (last, again) = (Some(id), false);
            let mut here = Vec::new();
            for (table, described) in self.tables.iter().zip(&layout.tables) {
                let tagged = table.tagged.get(|other| other.cmp(&id)).is_some();
                let Some(row) = table.row(id).filter(|row| tagged && row.alive(now)) else { continue };
                here.extend(tags_of(&row.parse(described)?).into_iter().map(|tag| (described.name().to_owned(), id, tag)));
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
    pub fn row(&self, id: Uuid) -> Option<&Row> {
        self.rows.get(|row| row.id.cmp(&id))
    }

    /// The row that has this unique value.
    fn holder(&self, described: &crate::layout::Table, unique: usize, cell: &Cell) -> Result<Option<&Row>, Fault> {
        let hash = hash_of(cell);
        let holders = self.uniques[unique].from(|(other, _)| *other < hash).take_while(|(other, _)| *other == hash);
        for row in holders.filter_map(|(_, id)| self.row(*id)) {
            if described.index(&row.parse(described)?).uniques[unique].as_ref() == Some(cell) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Rows with this tag that don't lie before, in order.
    fn carrying<'a>(&'a self, tag: &'a str, before: impl Fn(&Uuid) -> bool) -> impl Iterator<Item = Uuid> {
        let items = self.tags.from(move |(other, id)| &**other < tag || (&**other == tag && before(id)));
        items.take_while(move |(other, _)| &**other == tag).map(|(_, id)| *id)
    }

    /// The first row after `after` that the filter lets through, alive or not.
    fn next(&self, mut after: Option<Uuid>, parent: Option<Siblings<'_>>, tags: Option<&Tags>) -> Option<Uuid> {
        loop {
            let candidate = self.candidate(after, parent, tags)?;
            if parent.is_none_or(|(children, id)| children.get(|pair| pair.cmp(&(id, candidate))).is_some()) {
                return Some(candidate);
            }
            after = Some(candidate);
        }
    }

    /// The first row after `after` that the tags let through or, without tags, the parent.
    fn candidate(&self, after: Option<Uuid>, parent: Option<Siblings<'_>>, tags: Option<&Tags>) -> Option<Uuid> {
        let before = |id: &Uuid| after.is_some_and(|after| *id <= after);
        let carries = |tag: &str, id: Uuid| self.tags.get(|(other, row)| (&**other, *row).cmp(&(tag, id))).is_some();
        match (tags, parent) {
            (Some(Tags::All(tags)), _) if !tags.is_empty() => {
                // Walks the rarest tag: the others only confirm.
                let count = |tag: &str| self.tags.rank(|(other, _)| &**other <= tag) - self.tags.rank(|(other, _)| &**other < tag);
                let rarest = tags.iter().min_by_key(|tag| count(tag))?;
                self.carrying(rarest, before).find(|id| tags.iter().all(|tag| tag == rarest || carries(tag, *id)))
            }
            (Some(Tags::Any(tags)), _) if !tags.is_empty() => tags.iter().filter_map(|tag| self.carrying(tag, before).next()).min(),
            (_, Some((children, parent))) => {
                let (holder, row) = children.from(|(other, row)| *other < parent || (*other == parent && before(row))).next()?;
                (*holder == parent).then_some(*row)
            }
            _ => self.rows.from(|row| before(&row.id)).next().map(|row| row.id),
        }
    }

    fn unlink(&mut self, id: Uuid, old: &Indexed) {
        for (index, cell) in self.uniques.iter_mut().zip(&old.uniques) {
            if let Some(cell) = cell {
                let hash = hash_of(cell);
                index.remove(|item| item.cmp(&(hash, id)));
            }
        }
        for (index, parent) in self.children.iter_mut().zip(&old.parents) {
            if let Some(parent) = parent {
                index.remove(|item| item.cmp(&(*parent, id)));
            }
        }
        for tag in &old.tags {
            self.tags.remove(|(other, row)| (&**other, *row).cmp(&(tag.as_str(), id)));
        }
        if !old.tags.is_empty() {
            self.tagged.remove(|other| other.cmp(&id));
        }
    }

    fn link(&mut self, id: Uuid, new: Indexed) {
        for (index, cell) in self.uniques.iter_mut().zip(new.uniques) {
            if let Some(cell) = cell {
                index.insert((hash_of(&cell), id));
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
            // Rows that carry a tag share its text.
            let known = self.tags.from(|(other, _)| **other < *tag).next().filter(|(other, _)| **other == *tag);
            let shared = known.map_or_else(|| Arc::from(tag.as_str()), |(shared, _)| shared.clone());
            self.tags.insert((shared, id));
        }
    }

    fn shrink(&mut self) {
        self.rows.shrink();
        self.uniques.iter_mut().for_each(Sorted::shrink);
        self.children.iter_mut().for_each(Sorted::shrink);
        self.tags.shrink();
        self.tagged.shrink();
    }
}

/// A value that is computed from others as a row is loaded.
const DIGEST: &str = "cert_digest";

/// Whether two rows may not share a value. Kong compares what a document says, and nobody says a digest: a certificate may be
/// there twice.
pub(super) fn is_told_apart(unique: &Unique) -> bool {
    !matches!(unique.fields.as_slice(), [field] if field == DIGEST)
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

    pub fn finish(mut self, version: u64) -> Contents {
        // What was written to belongs to nobody else yet.
        self.tables.iter_mut().filter_map(Arc::get_mut).for_each(Table::shrink);
        Contents { version, tables: self.tables }
    }
}

impl Rows for Draft<'_> {
    fn find(&mut self, table: usize, id: Uuid) -> Result<Option<Stored>, Fault> {
        let described = &self.layout.tables[table];
        let row = self.tables[table].row(id);
        row.map(|row| Ok(Stored { record: row.parse(described)?, expires_at: row.expires_at() })).transpose()
    }

    fn expiry(&mut self, table: usize, id: Uuid) -> Result<Option<Option<u64>>, Fault> {
        Ok(self.tables[table].row(id).map(Row::expires_at))
    }

    fn holder(&mut self, table: usize, unique: usize, cell: &Cell) -> Result<Option<(Uuid, Option<u64>)>, Fault> {
        let described = &self.layout.tables[table];
        if !is_told_apart(&described.uniques[unique]) {
            return Ok(None);
        }
        let row = self.tables[table].holder(described, unique, cell)?;
        Ok(row.map(|row| (row.id, row.expires_at())))
    }

    fn children(&mut self, child: usize, foreign: usize, parent: Uuid, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let rows = self.tables[child].children[foreign].from(|(other, _)| *other < parent);
        Ok(rows.take_while(|(other, _)| *other == parent).take(limit).map(|(_, id)| *id).collect())
    }

    fn put(&mut self, table: usize, id: Uuid, row: &Stored, indexed: Indexed, old: Option<Indexed>) -> Result<(), Fault> {
        let text = pack(&self.layout.tables[table], id, &row.record);
        let text = text.map_err(|error| Fault::Broken(format!("a record cannot be written: {error}")))?;
        let table = Arc::make_mut(&mut self.tables[table]);
        if let Some(old) = old {
            table.unlink(id, &old);
        }
        // A time to live that ended with the epoch has ended long since.
        let expires_at = row.expires_at.map(|at| NonZeroU64::new(at).unwrap_or(NonZeroU64::MIN));
        table.rows.insert(Row { id, text: text.into(), expires_at });
        table.link(id, indexed);
        Ok(())
    }

    fn remove(&mut self, table: usize, id: Uuid, old: Indexed) -> Result<(), Fault> {
        let table = Arc::make_mut(&mut self.tables[table]);
        table.unlink(id, &old);
        table.rows.remove(|row| row.id.cmp(&id));
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Fault> {
        self.tables = Contents::empty(self.layout).tables;
        Ok(())
    }
}
