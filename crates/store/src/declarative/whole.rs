//! Contents made of a whole configuration at once: sorted lists instead of one row after the other.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use foldhash::fast::RandomState;
use portcullis_schema::{Record, Schema};
use serde_json::Value;
use uuid::Uuid;

use super::contents::{Contents, Row, Table, hash_of, is_told_apart, pack};
use super::sorted::Sorted;
use crate::layout::{self, Layout};

/// The contents that these rows make, put into an empty store. None if the rules of writing have anything to say about them:
/// then they are to be followed row by row.
pub(super) fn of(layout: &Layout, rows: &[(Arc<Schema>, Vec<Record>)], version: u64, now: u64) -> Option<Contents> {
    let mut tables: Vec<Lists> = layout.tables.iter().map(Lists::of).collect();
    for (schema, records) in rows {
        let Some(place) = layout.place(&schema.name) else { continue };
        tables[place].add(&layout.tables[place], records, now)?;
    }
    let tables: Vec<Table> =
        tables.into_iter().zip(&layout.tables).map(|(lists, described)| lists.sorted(described)).collect::<Option<_>>()?;
    references_lead_somewhere(layout, &tables).then(|| Contents::new(version, tables))
}

/// What a table is made of, unsorted.
struct Lists {
    rows: Vec<Row>,
    uniques: Vec<Vec<(u64, Uuid)>>,
    children: Vec<Vec<(Uuid, Uuid)>>,
    tags: Vec<(Arc<str>, Uuid)>,
    tagged: Vec<Uuid>,
}

impl Lists {
    fn of(described: &layout::Table) -> Self {
        Self {
            rows: Vec::new(),
            uniques: vec![Vec::new(); described.uniques.len()],
            children: vec![Vec::new(); described.foreigns.len()],
            tags: Vec::new(),
            tagged: Vec::new(),
        }
    }

    fn add(&mut self, described: &layout::Table, records: &[Record], now: u64) -> Option<()> {
        let mut known: HashMap<String, Arc<str>, RandomState> = HashMap::default();
        self.rows.reserve_exact(records.len());
        for record in records {
            if described.has_transient(record) {
                return None;
            }
            let id = record.get("id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok())?;
            let seconds = record.get("ttl").filter(|_| described.schema.ttl).and_then(Value::as_f64).filter(|seconds| *seconds > 0.0);
            let expires_at = seconds.and_then(|seconds| NonZeroU64::new(now.saturating_add((seconds * 1000.0) as u64)));
            self.rows.push(Row { id, text: pack(described, id, record).ok()?.into(), expires_at });
            let indexed = described.index(record);
            for (list, cell) in self.uniques.iter_mut().zip(&indexed.uniques) {
                list.extend(cell.as_ref().map(|cell| (hash_of(cell), id)));
            }
            for (list, parent) in self.children.iter_mut().zip(&indexed.parents) {
                list.extend(parent.map(|parent| (parent, id)));
            }
            if !indexed.tags.is_empty() {
                self.tagged.push(id);
            }
            for tag in indexed.tags {
                // Rows that carry a tag share its text.
                let shared = known.entry(tag).or_insert_with_key(|tag| Arc::from(tag.as_str()));
                self.tags.push((shared.clone(), id));
            }
        }
        Some(())
    }

    /// None if two rows have the same id or, as far as hashes tell, the same unique value.
    fn sorted(mut self, described: &layout::Table) -> Option<Table> {
        self.rows.sort_unstable();
        if self.rows.windows(2).any(|pair| pair[0] == pair[1]) {
            return None;
        }
        for (list, unique) in self.uniques.iter_mut().zip(&described.uniques) {
            list.sort_unstable();
            if is_told_apart(unique) && list.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return None;
            }
        }
        self.children.iter_mut().for_each(|list| list.sort_unstable());
        self.tags.sort_unstable();
        self.tagged.sort_unstable();
        Some(Table {
            rows: Sorted::of(self.rows),
            uniques: self.uniques.into_iter().map(Sorted::of).collect(),
            children: self.children.into_iter().map(Sorted::of).collect(),
            tags: Sorted::of(self.tags),
            tagged: Sorted::of(self.tagged),
        })
    }
}

fn references_lead_somewhere(layout: &Layout, tables: &[Table]) -> bool {
    layout.tables.iter().zip(tables).all(|(described, table)| {
        described.foreigns.iter().zip(&table.children).all(|(foreign, children)| {
            let Some(parents) = foreign.parent.map(|parent| &tables[parent]) else { return true };
            let mut last = None;
            children.from(|_| false).all(|(parent, _)| last.replace(*parent) == Some(*parent) || parents.row(*parent).is_some())
        })
    })
}
