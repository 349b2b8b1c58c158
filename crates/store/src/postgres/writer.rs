//! The writing thread: one transaction at a time, told to this node's subscribers and to the others with the commit.

use std::cell::Cell as Flag;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::batch::{self, Batch};
use super::connect::Connections;
use super::counters;
use super::events::{self, Event};
use super::fault::{explain, is_conflict, timed_out};
use super::rehearsal::{self, Trial};
use super::rows::Tables;
use super::{Shared, Sql, failed};
use crate::transact::{self, Outcome};
use crate::{Applied, ChangeSet, Operation, StoreError};

type Answer = oneshot::Sender<Result<Arc<Applied>, StoreError>>;

pub(super) enum Job {
    Apply(ChangeSet, Answer),
    /// Changes to try until the sender goes; told once it has begun.
    Rehearse(mpsc::Receiver<Trial>, oneshot::Sender<Result<(), StoreError>>),
    Sweep(oneshot::Sender<Result<usize, StoreError>>),
    Close(oneshot::Sender<()>),
}

/// How often a transaction is run again because somebody else wrote at the same time.
const ATTEMPTS: usize = 8;
/// Expired rows removed in one transaction.
const SWEPT: usize = 1000;

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub connections: Connections,
    /// Whose idle connections are to be closed, too.
    pub replica: Option<Connections>,
    pub runtime: Handle,
    pub sweep_interval: Duration,
}

/// Why a transaction came to nothing.
enum Failed {
    /// The client is told.
    Refused(StoreError),
    /// Worth another attempt: somebody else's change came between, or the connection was found dead before anything was sent.
    Again(String),
    Broken(String),
}

impl Writer {
    /// Works until the store is dropped or closed.
    pub fn run(self, mut queued: mpsc::Receiver<Job>) {
        let runtime = self.runtime.clone();
        let mut sweep_at = Instant::now() + self.sweep_interval;
        loop {
            let job = runtime.block_on(async { tokio::time::timeout_at(sweep_at, queued.recv()).await });
            match job {
                Ok(None) => return,
                Ok(Some(Job::Apply(changes, answer))) => {
                    let _ = answer.send(self.apply(&changes));
                }
                Ok(Some(Job::Rehearse(trials, started))) => {
                    if let Err(cause) = rehearsal::run(&self, trials, started) {
                        tracing::debug!(%cause, "a rehearsal ended early");
                    }
                }
                Ok(Some(Job::Sweep(answer))) => {
                    let _ = answer.send(self.sweep());
                }
                Ok(Some(Job::Close(done))) => {
                    queued.close();
                    [Some(&self.connections), self.replica.as_ref()].into_iter().flatten().for_each(Connections::close);
                    let _ = done.send(());
                    return;
                }
                // Rows that expired meanwhile are unseen all the same.
                Err(_) if !self.shared.reachable.load(Ordering::Acquire) => sweep_at = Instant::now() + self.sweep_interval,
                Err(_) => {
                    if let Err(error) = self.sweep() {
                        tracing::warn!(%error, "expired rows could not be removed");
                    }
                    if let Err(fault) = runtime.block_on(counters::sweep(&self.connections)) {
                        tracing::warn!(?fault, "counters that are over could not be removed");
                    }
                    [Some(&self.connections), self.replica.as_ref()].into_iter().flatten().for_each(Connections::trim);
                    sweep_at = Instant::now() + self.sweep_interval;
                }
            }
        }
    }

    fn apply(&self, changes: &ChangeSet) -> Result<Arc<Applied>, StoreError> {
        let mut cause = String::new();
        for _ in 0..ATTEMPTS {
            match self.attempt(changes.operations.clone()) {
                Ok(applied) => return Ok(applied),
                Err(Failed::Refused(error)) => return Err(error),
                Err(Failed::Again(why)) => cause = why,
                Err(Failed::Broken(why)) => {
                    cause = why;
                    break;
                }
            }
        }
        tracing::error!(%cause, "a change was not stored");
        Err(StoreError::Unavailable(cause))
    }

    fn attempt(&self, operations: Vec<Operation>) -> Result<Arc<Applied>, Failed> {
        let timeout = self.connections.server.timeout;
        let mut connection = self.runtime.block_on(self.connections.get()).map_err(Failed::Broken)?;
        let begun = self.runtime.block_on(async { tokio::time::timeout(timeout, connection.client.transaction()).await });
        let transaction = match begun {
            Ok(Ok(transaction)) => transaction,
            Ok(Err(error)) => return Err(if error.is_closed() { Failed::Again(explain(&error)) } else { Failed::Broken(explain(&error)) }),
            Err(_) => return Err(Failed::Broken(timed_out())),
        };
        let shared = &self.shared;
        let conflict = Flag::new(false);
        let rows =
            Tables { runtime: &self.runtime, transaction: &transaction, statements: shared.statements(), timeout, conflict: &conflict };
        let done = run(shared, rows, operations);
        let conflict = conflict.get();
        let Outcome { changes, reload } = match done {
            Ok(outcome) => outcome,
            Err(StoreError::Unavailable(cause)) if conflict => return Err(Failed::Again(cause)),
            Err(StoreError::Unavailable(cause)) => return Err(Failed::Broken(cause)),
            // Dropped without a commit: rolls back.
            Err(refused) => return Err(Failed::Refused(refused)),
        };
        let event = Event::of(shared, &changes, reload);
        // Before the commit: its notification may be here sooner than the answer to it.
        if !event.is_empty() {
            shared.mine.insert(event.id);
        }
        let _telling = self.runtime.block_on(shared.telling.lock());
        let finished = self.runtime.block_on(async {
            tokio::time::timeout(timeout, async {
                if !event.is_empty() {
                    events::announce(&transaction, shared, &event).await?;
                }
                transaction.commit().await
            })
            .await
        });
        match finished {
            Ok(Ok(())) => Ok(shared.tell(changes, reload)),
            // Whether it was committed or not is unknown; if it was, the listener comes across the event and tells.
            Ok(Err(error)) => {
                shared.mine.remove(event.id);
                Err(if is_conflict(&error) { Failed::Again(explain(&error)) } else { Failed::Broken(explain(&error)) })
            }
            Err(_) => {
                shared.mine.remove(event.id);
                Err(Failed::Broken(timed_out()))
            }
        }
    }

    /// Removes expired rows, each batch as a change set of its own. Answers how many rows went.
    fn sweep(&self) -> Result<usize, StoreError> {
        let mut gone = 0;
        loop {
            let mut operations = self.expired().map_err(StoreError::Unavailable)?;
            let seen = operations.len();
            let mut removed = 0;
            while !operations.is_empty() {
                match self.apply(&ChangeSet { operations: operations.clone() }) {
                    Ok(applied) => {
                        removed = applied.changes.len();
                        break;
                    }
                    // A living row still references it: it stays, unseen, until that row goes.
                    Err(StoreError::Refused { operation, .. }) if operation < operations.len() => drop(operations.remove(operation)),
                    Err(error) => return Err(error),
                }
            }
            gone += removed;
            if seen < SWEPT || removed == 0 {
                return Ok(gone);
            }
        }
    }

    fn expired(&self) -> Result<Vec<Operation>, String> {
        let now = i64::try_from((self.shared.clock)()).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        let timeout = self.connections.server.timeout;
        let mut operations = Vec::new();
        let connection = self.runtime.block_on(self.connections.get())?;
        for (table, statements) in self.shared.layout.tables.iter().zip(self.shared.statements()) {
            if !table.schema.ttl || operations.len() >= SWEPT {
                continue;
            }
            let sql = format!("SELECT id FROM {} WHERE ttl <= $1 LIMIT $2", statements.table);
            let limit = (SWEPT - operations.len()) as i64;
            let asked = async {
                tokio::time::timeout(timeout, async {
                    let statement = connection.client.prepare_cached(&sql).await?;
                    connection.client.query(&statement, &[&Sql::Time(now), &limit]).await
                })
                .await
            };
            let rows = self.runtime.block_on(asked).map_err(|_| timed_out())?.map_err(|error| explain(&error))?;
            for row in &rows {
                let id = row.try_get(0).map_err(|error| explain(&error))?;
                operations.push(Operation::Delete(table.schema.clone(), id));
            }
        }
        Ok(operations)
    }
}

/// Runs the operations; many of them with what they need read and written together.
fn run(shared: &Shared, mut rows: Tables<'_>, operations: Vec<Operation>) -> Result<Outcome, StoreError> {
    let now = (shared.clock)();
    if operations.len() < batch::MANY {
        return transact::run(&shared.layout, &mut rows, operations, now);
    }
    let mut batch = Batch::before(&shared.layout, rows, &operations).map_err(failed)?;
    let outcome = transact::run(&shared.layout, &mut batch, operations, now)?;
    batch.flush().map_err(failed)?;
    Ok(outcome)
}
