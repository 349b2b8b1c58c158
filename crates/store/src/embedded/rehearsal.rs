//! Changes that are tried on the writer's own connection and undone: a transaction that never commits.

use std::sync::Arc;

use portcullis_schema::{Record, Schema};
use rusqlite::Transaction;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::rows::Tables;
use super::statements::Statements;
use super::{Question, Reader, fault};
use crate::layout::Layout;
use crate::transact::{self, Fault, Outcome};
use crate::{Applied, BoxFuture, ChangeFeed, ChangeSet, Filter, Key, Page, REHEARSAL, Store, StoreError, Tagged};

/// What the holder of a rehearsal asks of the writing thread.
pub(super) enum Trial {
    Ask(Question),
    Apply(ChangeSet, oneshot::Sender<Result<Arc<Applied>, StoreError>>),
}

/// The holder's end. Dropping it ends the rehearsal.
pub(super) struct Rehearsal {
    pub layout: Arc<Layout>,
    pub trials: mpsc::Sender<Trial>,
}

/// The writing thread's end: works until the holder goes or the time is up.
pub(super) async fn run(
    mut transaction: Transaction<'_>,
    layout: &Layout,
    statements: &[Statements],
    now: u64,
    mut trials: mpsc::Receiver<Trial>,
) {
    let end = Instant::now() + REHEARSAL;
    while let Ok(Some(trial)) = timeout_at(end, trials.recv()).await {
        match trial {
            Trial::Ask(question) => question(&Reader { connection: &transaction, layout, statements, now }),
            Trial::Apply(changes, answer) => {
                let _ = answer.send(apply(&mut transaction, layout, statements, now, changes));
            }
        }
    }
}

fn apply(
    transaction: &mut Transaction<'_>,
    layout: &Layout,
    statements: &[Statements],
    now: u64,
    changes: ChangeSet,
) -> Result<Arc<Applied>, StoreError> {
    let broken = |error: rusqlite::Error| StoreError::Unavailable(fault::explain(&error));
    let savepoint = transaction.savepoint().map_err(broken)?;
    let mut rows = Tables { connection: &savepoint, statements };
    // A refused change set is undone with its savepoint, which is dropped uncommitted.
    let Outcome { changes, reload } = transact::run(layout, &mut rows, changes.operations, now)?;
    savepoint.commit().map_err(broken)?;
    Ok(Arc::new(Applied { version: 0, changes, reload }))
}

fn over() -> StoreError {
    StoreError::Unavailable("the rehearsal took too long".to_owned())
}

impl Rehearsal {
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |reader| {
            let _ = answer.send(question(reader));
        });
        self.trials.send(Trial::Ask(question)).await.map_err(|_| over())?;
        answered.await.map_err(|_| over())?.map_err(super::failed)
    }
}

impl Store for Rehearsal {
    fn get<'a>(&'a self, of: &'a Arc<Schema>, key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            let table = super::place(&self.layout, of)?;
            self.read(move |reader| reader.get(table, &key)).await
        })
    }

    fn page<'a>(
        &'a self,
        of: &'a Arc<Schema>,
        after: Option<Uuid>,
        size: usize,
        filter: Filter,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move {
            let table = super::place(&self.layout, of)?;
            self.read(move |reader| reader.page(table, after, size, &filter)).await
        })
    }

    fn apply(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.trials.send(Trial::Apply(changes, answer)).await.map_err(|_| over())?;
            answered.await.map_err(|_| over())?
        })
    }

    fn changes(&self) -> ChangeFeed {
        // Nothing is ever committed: the feed is closed from the start.
        broadcast::channel(1).1
    }

    fn reachable(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(!self.trials.is_closed()))
    }

    fn tagged<'a>(
        &'a self,
        tag: Option<&'a str>,
        after: Option<(Uuid, String)>,
        size: usize,
    ) -> BoxFuture<'a, Result<Vec<Tagged>, StoreError>> {
        let tag = tag.map(str::to_owned);
        Box::pin(self.read(move |reader| reader.tagged(tag.as_deref(), after.as_ref(), size)))
    }
}
