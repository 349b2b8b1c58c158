//! Reading: one row by a key, pages in order of id, tags. Every page costs the same at any depth.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};
use uuid::Uuid;

use super::rows::stored;
use super::statements::Statements;
use crate::layout::Layout;
use crate::transact::{Fault, show};
use crate::{Filter, Key, Page, Record, Tags};

pub(super) struct Reader<'a> {
    pub connection: &'a Connection,
    pub layout: &'a Layout,
    pub statements: &'a [Statements],
    pub now: u64,
}

const ALIVE: &str = "(_expires_at IS NULL OR _expires_at > ?1)";

impl Reader<'_> {
    pub fn get(&self, table: usize, key: &Key) -> Result<Option<Record>, Fault> {
        let (statements, described) = (&self.statements[table], &self.layout.tables[table]);
        let found = match key {
            Key::Id(id) => {
                let mut find = self.connection.prepare_cached(&statements.find)?;
                let mut rows = find.query([id.as_bytes()])?;
                rows.next()?.map(stored).transpose()?
            }
            _ => {
                let Some((unique, cell)) = described.resolve(key).map_err(Fault::Broken)? else { return Ok(None) };
                let mut holder = self.connection.prepare_cached(&statements.holders[unique])?;
                let mut rows = holder.query([&cell])?;
                rows.next()?.map(stored).transpose()?
            }
        };
        let alive = found.filter(|(_, row)| row.expires_at.is_none_or(|at| at > self.now));
        Ok(alive.map(|(_, row)| show(described, row.record, row.expires_at, self.now)))
    }

    pub fn page(&self, table: usize, after: Option<Uuid>, size: usize, filter: &Filter) -> Result<Page, Fault> {
        let described = &self.layout.tables[table];
        let (sql, values) = self.page_query(table, after, size.saturating_add(1), filter)?;
        let mut select = self.connection.prepare_cached(&sql)?;
        let mut rows = select.query(params_from_iter(values))?;
        let mut page = Page::default();
        let mut last = None;
        while let Some(row) = rows.next()? {
            if page.rows.len() == size {
                page.next = last;
                break;
            }
            let (id, row) = stored(row)?;
            last = Some(id);
            page.rows.push(show(described, row.record, row.expires_at, self.now));
        }
        Ok(page)
    }

    /// The statement of a page and its values: the time is `?1`, the id to start after `?2`, the limit `?3`.
    pub(super) fn page_query(&self, table: usize, after: Option<Uuid>, limit: usize, filter: &Filter) -> Result<(String, Vec<Sql>), Fault> {
        let (statements, described) = (&self.statements[table], &self.layout.tables[table]);
        let name = &statements.table;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // An empty blob sorts before every id.
        let start = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        let mut values = vec![Sql::Integer(self.now as i64), Sql::Blob(start), Sql::Integer(limit)];
        let mut place = |value: Sql| {
            values.push(value);
            format!("?{}", values.len())
        };

        let mut belongs = String::new();
        if let Some((field, parent)) = &filter.parent {
            if described.foreign(field).is_none() {
                return Err(Fault::Broken(format!("{} has no reference {field}", described.name())));
            }
            belongs = format!(" AND {} = {}", super::statements::quoted(field), place(Sql::Blob(parent.as_bytes().to_vec())));
        }
        let carries = |place: &mut dyn FnMut(Sql) -> String, tag: &str| {
            format!("t.entity = {} AND t.tag = {}", statements.number, place(Sql::Text(tag.to_owned())))
        };
        // Walks the rows of one tag in order of id, joined with the table for what else is asked.
        let walk = |condition: &str, more: &str| {
            format!(
                "SELECT r.id, r._record, r._expires_at FROM _tags t CROSS JOIN {name} r ON r.id = t.id \
                 WHERE {condition} AND t.id > ?2 AND {ALIVE}{belongs}{more} ORDER BY t.id LIMIT ?3"
            )
        };
        let sql = match &filter.tags {
            None => format!("SELECT id, _record, _expires_at FROM {name} WHERE id > ?2 AND {ALIVE}{belongs} ORDER BY id LIMIT ?3"),
            Some(Tags::All(tags)) => {
                let Some((first, others)) = tags.split_first() else {
                    return self.page_query(table, after, limit as usize, &filter.untagged());
                };
                let condition = carries(&mut place, first);
                let mut more = String::new();
                for tag in others {
                    more.push_str(&format!(" AND EXISTS (SELECT 1 FROM _tags t WHERE t.id = r.id AND {})", carries(&mut place, tag)));
                }
                walk(&condition, &more)
            }
            Some(Tags::Any(tags)) if tags.is_empty() => {
                return self.page_query(table, after, limit as usize, &filter.untagged());
            }
            Some(Tags::Any(tags)) => {
                let mut walks: Vec<String> = Vec::with_capacity(tags.len());
                for tag in tags {
                    let condition = carries(&mut place, tag);
                    walks.push(format!("SELECT id FROM ({})", walk(&condition, "")));
                }
                let ids = walks.join(" UNION ");
                format!("SELECT id, _record, _expires_at FROM {name} WHERE id IN ({ids}) ORDER BY id LIMIT ?3")
            }
        };
        Ok((sql, values))
    }

    /// Rows of `_tags` that belong to living rows, by id, entity and place in the record.
    pub fn tagged(&self, tag: Option<&str>, after: Option<&(Uuid, String)>, size: usize) -> Result<Vec<(String, Uuid, String)>, Fault> {
        let (start, position) = match after {
            None => (Vec::new(), (-1, -1)),
            Some((id, tag)) => {
                // Two entities may share an id; the last place the tag has under it moves on for certain.
                let sql = "SELECT entity, position FROM _tags WHERE id = ?1 AND tag = ?2 ORDER BY entity DESC LIMIT 1";
                let mut find = self.connection.prepare_cached(sql)?;
                let found = find.query_row((id.as_bytes(), tag), |row| Ok((row.get(0)?, row.get(1)?)));
                (id.as_bytes().to_vec(), found.unwrap_or((i64::MAX, i64::MAX)))
            }
        };
        let wanted = if tag.is_some() { " AND tag = ?4" } else { " AND ?4 IS NULL" };
        let sql = format!(
            "SELECT id, entity, position, tag FROM _tags WHERE (id, entity, position) > (?1, ?2, ?3){wanted} ORDER BY id, entity, position"
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        let mut rows = select.query((start, position.0, position.1, tag))?;
        let mut found = Vec::new();
        while found.len() < size
            && let Some(row) = rows.next()?
        {
            let id = Uuid::from_bytes(row.get(0)?);
            let number: i64 = row.get(1)?;
            // Entities this version doesn't know stay out of sight.
            let Some(place) = self.statements.iter().position(|statements| statements.number == number) else { continue };
            let table = &self.layout.tables[place];
            let alive = !table.schema.ttl || self.get(place, &Key::Id(id))?.is_some();
            if alive {
                found.push((table.name().to_owned(), id, row.get(3)?));
            }
        }
        Ok(found)
    }
}
