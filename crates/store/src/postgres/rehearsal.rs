//! Changes that are tried on the writing thread and undone: a transaction that never commits.

use std::cell::Cell as Flag;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use portcullis_schema::{Record, Schema};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::fault::{explain, timed_out};
use super::read::Through;
use super::rows::Tables;
use super::writer::Writer;
use super::{Shared, failed, reader};
use crate::transact::{self, Outcome};
use crate::{Applied, BoxFuture, ChangeFeed, ChangeSet, Filter, Key, Page, REHEARSAL, Store, StoreError, Tagged};

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the holder of a rehearsal asks of the writing thread; tables by their place.
pub(super) enum Trial {
    Get(usize, Key, Answer<Option<Record>>),
    Page(usize, Option<Uuid>, usize, Filter, Answer<Page>),
    Tagged(Option<String>, Option<(Uuid, String)>, usize, Answer<Vec<Tagged>>),
    Apply(ChangeSet, Answer<Arc<Applied>>),
}

/// The holder's end. Dropping it ends the rehearsal.
pub(super) struct Rehearsal {
    pub shared: Arc<Shared>,
    pub trials: mpsc::Sender<Trial>,
}

/// The writing thread's end: works until the holder goes or the time is up. `started` hears whether it could begin.
pub(super) fn run(writer: &Writer, mut trials: mpsc::Receiver<Trial>, started: Answer<()>) -> Result<(), String> {
    let limit = writer.connections.server.timeout;
    let begun = writer.runtime.block_on(writer.connections.get());
    let mut connection = match begun {
        Ok(connection) => connection,
        Err(cause) => {
            let _ = started.send(Err(StoreError::Unavailable(cause.clone())));
            return Err(cause);
        }
    };
    let begun = writer.runtime.block_on(async { timeout(limit, connection.client.transaction()).await });
    let begun = begun.map_err(|_| timed_out()).and_then(|begun| begun.map_err(|error| explain(&error)));
    let mut transaction = match begun {
        Ok(transaction) => transaction,
        Err(cause) => {
            let _ = started.send(Err(StoreError::Unavailable(cause.clone())));
            return Err(cause);
        }
    };
    // If nobody waits for it any more, its trials have no sender either.
    let _ = started.send(Ok(()));
    let end = Instant::now() + REHEARSAL;
    while let Ok(Some(trial)) = writer.runtime.block_on(async { timeout_at(end, trials.recv()).await }) {
        let asked = reader(&writer.shared, Through::Transaction(&transaction, limit));
        match trial {
            Trial::Get(table, key, answer) => {
                let _ = answer.send(writer.runtime.block_on(asked.get(table, &key)).map_err(failed));
            }
            Trial::Page(table, after, size, filter, answer) => {
                let _ = answer.send(writer.runtime.block_on(asked.page(table, after, size, &filter)).map_err(failed));
            }
            Trial::Tagged(tag, after, size, answer) => {
                let _ = answer.send(writer.runtime.block_on(asked.tagged(tag.as_deref(), after.as_ref(), size)).map_err(failed));
            }
            Trial::Apply(changes, answer) => {
                let _ = answer.send(apply(writer, &mut transaction, changes));
            }
        }
    }
    // Before the connection is used again.
    let undone = writer.runtime.block_on(async { timeout(limit, transaction.rollback()).await });
    undone.map_err(|_| timed_out())?.map_err(|error| explain(&error))
}

fn apply(writer: &Writer, transaction: &mut Transaction<'_>, changes: ChangeSet) -> Result<Arc<Applied>, StoreError> {
    let limit = writer.connections.server.timeout;
    let late = || StoreError::Unavailable(timed_out());
    let broken = |error: tokio_postgres::Error| StoreError::Unavailable(explain(&error));
    let savepoint = writer.runtime.block_on(async { timeout(limit, transaction.savepoint("trial")).await });
    let savepoint = savepoint.map_err(|_| late())?.map_err(broken)?;
    let shared = &writer.shared;
    let conflict = Flag::new(false);
    let mut rows =
        Tables { runtime: &writer.runtime, transaction: &savepoint, statements: shared.statements(), timeout: limit, conflict: &conflict };
    let done = transact::run(&shared.layout, &mut rows, changes.operations, (shared.clock)());
    let kept = done.is_ok();
    // A refused change set is undone with its savepoint; those before it stay.
    let ended = async { if kept { savepoint.commit().await } else { savepoint.rollback().await } };
    writer.runtime.block_on(async { timeout(limit, ended).await }).map_err(|_| late())?.map_err(broken)?;
    let Outcome { changes, reload } = done?;
    Ok(Arc::new(Applied { version: 0, changes, reload }))
}

fn over() -> StoreError {
    StoreError::Unavailable("the rehearsal took too long".to_owned())
}

impl Rehearsal {
    async fn ask<T>(&self, trial: impl FnOnce(Answer<T>) -> Trial) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.trials.send(trial(answer)).await.map_err(|_| over())?;
        answered.await.map_err(|_| over())?
    }
}

impl Store for Rehearsal {
    fn get<'a>(&'a self, of: &'a Arc<Schema>, key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            let table = self.shared.place(of)?;
            self.ask(|answer| Trial::Get(table, key, answer)).await
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
            let table = self.shared.place(of)?;
            self.ask(|answer| Trial::Page(table, after, size, filter, answer)).await
        })
    }

    fn apply(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(self.ask(|answer| Trial::Apply(changes, answer)))
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
        Box::pin(self.ask(move |answer| Trial::Tagged(tag, after, size, answer)))
    }
}
