//! Serves what plugins' requests read from and write to their own tables.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_admin::Writer;
use portcullis_plugin::{Ask, Count, Counting, RowsCall, RowsError, RowsPage, Write};
use portcullis_schema::{ApiError, Catalog, Op, Record, Schema, id_of};
use portcullis_store::counters::{Counted, Counter};
use portcullis_store::{ChangeSet, Expected, Filter, Key, Operation, Store, StoreError};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout_at;
use uuid::Uuid;

/// How many calls are worked on at a time.
const AT_A_TIME: usize = 64;

/// Serves calls until nobody can make any more. A call whose deadline passes is dropped, which its caller is told.
pub async fn serve(mut calls: mpsc::Receiver<RowsCall>, catalog: Arc<Catalog>, store: Arc<dyn Store>, writer: Arc<dyn Writer>) {
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    while let Some(RowsCall { ask, deadline }) = calls.recv().await {
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        let desk = Desk { catalog: catalog.clone(), store: store.clone(), writer: writer.clone() };
        tokio::spawn(async move {
            // An elapsed deadline drops the answer's sender; nobody listens to an answer that comes too late.
            let _ = timeout_at(deadline.into(), desk.answer(ask)).await;
            drop(turn);
        });
    }
}

struct Desk {
    catalog: Arc<Catalog>,
    store: Arc<dyn Store>,
    writer: Arc<dyn Writer>,
}

impl Desk {
    async fn answer(&self, ask: Ask) {
        // Whoever asked may have gone away meanwhile: then nobody wants the answer.
        match ask {
            Ask::Find { entity, field, value, answer } => {
                let key = match (field, Uuid::try_parse(&value)) {
                    ("id", Ok(id)) => Key::Id(id),
                    _ => Key::Unique(field.to_owned(), value.into()),
                };
                let found = async { self.store.get_replicated(self.schema(entity)?, key).await.map_err(fault) };
                let _ = answer.send(found.await);
            }
            Ask::Page { entity, size, after, parent, answer } => {
                let _ = answer.send(self.page(entity, size, after, parent).await);
            }
            Ask::Count { of, counts, answer } => {
                let of = match of {
                    Counting::Requests => Counted::Requests,
                    Counting::Responses => Counted::Responses,
                };
                let counters = counts.into_iter().map(counter).collect();
                let _ = answer.send(self.store.count(of, counters).await.map_err(fault));
            }
            Ask::Write { writes, answer } => {
                let _ = answer.send(self.write(writes).await);
            }
        }
    }

    fn schema(&self, entity: &str) -> Result<&Arc<Schema>, RowsError> {
        self.catalog.entity(entity).ok_or_else(|| RowsError::Unavailable(format!("no entity named {entity}")))
    }

    async fn find(&self, entity: &str, key: Key) -> Result<Option<Record>, RowsError> {
        self.store.get(self.schema(entity)?, key).await.map_err(fault)
    }

    async fn page(&self, entity: &str, size: usize, after: Option<Uuid>, parent: Option<(String, Uuid)>) -> Result<RowsPage, RowsError> {
        let filter = Filter { parent, ..Filter::default() };
        let page = self.store.page_replicated(self.schema(entity)?, after, size.clamp(1, 1000), filter).await.map_err(fault)?;
        Ok((page.rows, page.next))
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<Record>, RowsError> {
        if !self.store.writable() {
            return Err(RowsError::Unavailable("nothing can be kept without a database".to_owned()));
        }
        let (mut operations, mut kept) = (Vec::new(), Vec::new());
        for write in writes {
            match write {
                Write::Insert { entity, row } => {
                    let schema = self.schema(entity)?;
                    let row = self.catalog.prepare(schema, row, Op::Insert, None, now()).map_err(refused)?;
                    kept.push(id_of(&row));
                    operations.push(Operation::Insert(schema.clone(), row));
                }
                Write::Update { entity, id, fields } => {
                    let schema = self.schema(entity)?;
                    let gone = || RowsError::Refused(format!("no row {id} in {entity}"));
                    let existing = self.find(entity, Key::Id(id)).await?.ok_or_else(gone)?;
                    let row = self.catalog.prepare(schema, fields, Op::Update, Some(&existing), now()).map_err(refused)?;
                    kept.push(Some(id));
                    operations.push(Operation::Update(schema.clone(), row));
                }
                Write::Delete { entity, id } => operations.push(Operation::Delete(self.schema(entity)?.clone(), id)),
                Write::Take { entity, id } => {
                    let schema = self.schema(entity)?;
                    operations.push(Operation::Require(schema.clone(), id, Expected::Present));
                    operations.push(Operation::Delete(schema.clone(), id));
                }
            }
        }
        let applied = self.writer.write(ChangeSet { operations }).await.map_err(fault)?;
        let row = |id: Option<Uuid>| applied.changes.iter().find(|change| Some(change.id) == id)?.new.clone();
        Ok(kept.into_iter().filter_map(row).collect())
    }
}

/// What belongs to no service or route counts under the nil id, as in Kong.
fn counter(count: Count) -> Counter {
    let Count { identifier, period, start, service, route, by, bound, lives } = count;
    let (service, route) = (service.unwrap_or_default(), route.unwrap_or_default());
    Counter { identifier, period, start, service, route, by, bound, lives }
}

fn refused(error: ApiError) -> RowsError {
    RowsError::Refused(error.to_string())
}

fn fault(error: StoreError) -> RowsError {
    match error {
        StoreError::Refused { error, .. } => refused(error),
        StoreError::Unavailable(cause) => RowsError::Unavailable(cause),
    }
}

/// Seconds since the epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
