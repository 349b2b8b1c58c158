//! Reading: one row by a key, pages in order of id, tags.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::connect::Connections;
use super::fault::{explain, timed_out};
use super::statements::{Statements, quoted};
use super::values::Sql;
use crate::layout::{Layout, tags_of};
use crate::transact::{Fault, Stored, show};
use crate::{Filter, Key, Page, Record, Tagged, Tags};

/// What a reader asks through.
#[derive(Clone, Copy)]
pub(super) enum Through<'a> {
    Pool(&'a Connections),
    /// Sees what the transaction did.
    Transaction(&'a Transaction<'a>, Duration),
}

pub(super) struct Reader<'a> {
    pub through: Through<'a>,
    pub layout: &'a Layout,
    pub statements: &'a [Statements],
    /// Milliseconds since 1970.
    pub now: u64,
}

/// Waits for an answer, but not longer than `timeout`.
pub(super) async fn within<T>(timeout: Duration, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
    match tokio::time::timeout(timeout, asked).await {
        Ok(answer) => answer.map_err(|error| Fault::Broken(explain(&error))),
        Err(_) => Err(Fault::Broken(timed_out())),
    }
}

impl Reader<'_> {
    async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        let connections = match self.through {
            Through::Pool(connections) => connections,
            Through::Transaction(transaction, timeout) => {
                let asked = async {
                    let statement = transaction.prepare_cached(sql).await?;
                    transaction.query(&statement, values).await
                };
                return within(timeout, asked).await;
            }
        };
        let connection = connections.get().await.map_err(Fault::Broken)?;
        within(connections.server.timeout, async {
            let statement = connection.client.prepare_cached(sql).await?;
            connection.client.query(&statement, values).await
        })
        .await
    }

    fn alive(&self, row: &Stored) -> bool {
        row.expires_at.is_none_or(|at| at > self.now)
    }

    pub async fn get(&self, table: usize, key: &Key) -> Result<Option<Record>, Fault> {
        let (statements, described) = (&self.statements[table], &self.layout.tables[table]);
        let rows = match key {
            Key::Id(id) => self.query(&statements.find, &[id]).await?,
            _ => {
                let Some((unique, cell)) = described.resolve(key).map_err(Fault::Broken)? else { return Ok(None) };
                let value = statements.lookup(&cell);
                if matches!(&value, Sql::Text(text) if text.contains('\0')) {
                    return Ok(None);
                }
                self.query(&statements.holders[unique], &[&value]).await?
            }
        };
        let Some(row) = rows.first() else { return Ok(None) };
        let (_, row) = statements.stored(row)?;
        Ok(self.alive(&row).then(|| show(described, row.record, row.expires_at, self.now)))
    }

    /// The rows with these ids, as far as there are any.
    pub async fn rows(&self, table: usize, ids: &[Uuid]) -> Result<Vec<(Uuid, Record)>, Fault> {
        let (statements, described) = (&self.statements[table], &self.layout.tables[table]);
        let sql = format!("SELECT {} FROM {} WHERE id = ANY($1)", statements.shown, statements.table);
        let rows = self.query(&sql, &[&ids]).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let (id, row) = statements.stored(row)?;
            if self.alive(&row) {
                found.push((id, show(described, row.record, row.expires_at, self.now)));
            }
        }
        Ok(found)
    }

    /// The id of the row with this text in a column of that name.
    pub async fn id_of(&self, table: usize, column: &str, value: &str) -> Result<Option<Uuid>, Fault> {
        let sql = format!("SELECT id FROM {} WHERE {}::text = $1 LIMIT 1", self.statements[table].table, quoted(column));
        let rows = self.query(&sql, &[&value]).await?;
        rows.first().map(|row| Ok(row.try_get(0)?)).transpose()
    }

    pub async fn page(&self, table: usize, after: Option<Uuid>, size: usize, filter: &Filter) -> Result<Page, Fault> {
        let (statements, described) = (&self.statements[table], &self.layout.tables[table]);
        let mut conditions = Vec::new();
        let mut values: Vec<Sql> = Vec::new();
        let mut place = |value: Sql| {
            values.push(value);
            format!("${}", values.len())
        };
        if let Some(after) = after {
            conditions.push(format!("id > {}", place(Sql::Uuid(after))));
        }
        if statements.ttl {
            conditions.push(format!("(ttl IS NULL OR ttl > {})", place(Sql::Time(micros(self.now)))));
        }
        if let Some((field, parent)) = &filter.parent {
            let column = statements.columns.iter().find(|column| column.reference && column.field == *field);
            let column = column.ok_or_else(|| Fault::Broken(format!("{} has no reference {field}", described.name())))?;
            conditions.push(format!("{} = {}", column.name, place(Sql::Uuid(*parent))));
        }
        match &filter.tags {
            Some(Tags::All(tags)) if !tags.is_empty() => conditions.push(format!("tags @> {}", place(texts(tags)))),
            Some(Tags::Any(tags)) if !tags.is_empty() => conditions.push(format!("tags && {}", place(texts(tags)))),
            _ => {}
        }
        let limit = place(Sql::Integer(i64::try_from(size.saturating_add(1)).unwrap_or(i64::MAX)));
        let wanted = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let sql = format!("SELECT {} FROM {}{wanted} ORDER BY id LIMIT {limit}", statements.shown, statements.table);
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let rows = self.query(&sql, &values).await?;

        let mut page = Page::default();
        let mut last = None;
        for row in &rows {
            if page.rows.len() == size {
                page.next = last;
                break;
            }
            let (id, row) = statements.stored(row)?;
            last = Some(id);
            page.rows.push(show(described, row.record, row.expires_at, self.now));
        }
        Ok(page)
    }

    /// Tags of living rows, by id, entity and place in the record. Read off the entities' own tables: `tags` knows one row
    /// of each id only and keeps those of expired rows.
    pub async fn tagged(&self, tag: Option<&str>, after: Option<&(Uuid, String)>, size: usize) -> Result<Vec<Tagged>, Fault> {
        let start = after.map_or(Uuid::nil(), |(id, _)| *id);
        // All rows of the id where the last page ended may be behind us.
        let limit = i64::try_from(size.saturating_add(self.statements.len())).unwrap_or(i64::MAX);
        let now = Sql::Time(micros(self.now));
        let wanted = tag.map(|tag| vec![tag.to_owned()]);
        let mut parts = Vec::new();
        for (place, statements) in self.statements.iter().enumerate().filter(|(_, statements)| statements.tagged) {
            let alive = if statements.ttl { " AND (ttl IS NULL OR ttl > $4)" } else { "" };
            let carries = if wanted.is_some() { "tags @> $3" } else { "tags <> '{}'" };
            let table = &statements.table;
            parts
                .push(format!("(SELECT id, {place} AS place, tags FROM {table} WHERE id >= $1 AND {carries}{alive} ORDER BY id LIMIT $2)"));
        }
        if parts.is_empty() || size == 0 {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT id, place, tags FROM ({}) AS found \
             WHERE $3::text[] IS NOT DISTINCT FROM $3 AND $4::timestamptz IS NOT NULL ORDER BY id, place LIMIT $2",
            parts.join(" UNION ALL ")
        );
        let rows = self.query(&sql, &[&start, &limit, &wanted, &now]).await?;
        let mut all = Vec::new();
        for row in &rows {
            let (id, place): (Uuid, i32) = (row.try_get(0)?, row.try_get(1)?);
            let Sql::Texts(tags) = row.try_get(2)? else { continue };
            let name = self.layout.tables[place as usize].name();
            let record = Record::from_iter([("tags".to_owned(), tags.into())]);
            for found in tags_of(&record).into_iter().filter(|found| tag.is_none_or(|tag| tag == found)) {
                all.push((name.to_owned(), id, found));
            }
        }
        if let Some((id, tag)) = after {
            // Two entities may share an id; behind the last place the tag has under it is ahead for certain.
            let behind = all.iter().rposition(|(_, at, found)| at == id && found == tag).map_or(0, |at| at + 1);
            all.drain(..behind);
        }
        all.truncate(size);
        Ok(all)
    }
}

fn texts(tags: &[String]) -> Sql {
    Sql::Texts(tags.to_vec())
}

fn micros(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX / 1000).saturating_mul(1000)
}
