//! The writing thread: one transaction at a time, told to subscribers in the order of commits.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::rehearsal::{self, Trial};
use super::rows::Tables;
use super::statements::Statements;
use super::{Settings, counters, fault};
use crate::counters::{Counted, Counter};
use crate::layout::Layout;
use crate::transact::{self, Outcome};
use crate::{Applied, ChangeSet, Operation, Parameters, StoreError};

type Answer = oneshot::Sender<Result<Arc<Applied>, StoreError>>;

pub(super) enum Job {
    Apply(ChangeSet, Answer),
    /// Changes to try until the sender goes; told once it has begun.
    Rehearse(mpsc::Receiver<Trial>, oneshot::Sender<Result<(), StoreError>>),
    Count(Counted, Vec<Counter>, oneshot::Sender<Result<Vec<u64>, StoreError>>),
    Parameters(Parameters, oneshot::Sender<Result<(), StoreError>>),
    Sweep(oneshot::Sender<Result<usize, StoreError>>),
    Close(oneshot::Sender<()>),
}

/// Change sets that share a transaction at most: bounds how long the first waits for the last.
const TOGETHER: usize = 64;
/// Expired rows removed in one transaction.
const SWEPT: usize = 1000;

pub(super) struct Writer {
    connection: Connection,
    layout: Arc<Layout>,
    statements: Arc<[Statements]>,
    settings: Settings,
    feed: broadcast::Sender<Arc<Applied>>,
    /// The last version that was told.
    version: u64,
}

impl Writer {
    pub fn new(
        connection: Connection,
        layout: Arc<Layout>,
        statements: Arc<[Statements]>,
        settings: Settings,
        feed: broadcast::Sender<Arc<Applied>>,
    ) -> Result<Self, String> {
        let version = version(&connection).map_err(|error| fault::at(&settings.path, &error))?;
        Ok(Self { connection, layout, statements, settings, feed, version })
    }

    /// Works until the store is dropped or closed.
    pub fn run(mut self, mut queued: mpsc::Receiver<Job>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "the store cannot write"),
        };
        let done = runtime.block_on(self.work(&mut queued));
        queued.close();
        if let Err(error) = self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(error = %fault::explain(&error), "the write-ahead log stays for the next start");
        }
        drop(self);
        for done in done {
            let _ = done.send(());
        }
    }

    async fn work(&mut self, queued: &mut mpsc::Receiver<Job>) -> Vec<oneshot::Sender<()>> {
        let every = |interval: Duration| {
            let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let mut watch = every(self.settings.watch_interval.max(Duration::from_millis(1)));
        let mut sweep = every(self.settings.sweep_interval.max(Duration::from_millis(1)));
        loop {
            tokio::select! {
                // Clients first; both intervals come around again.
                biased;
                job = queued.recv() => {
                    let Some(job) = job else { return Vec::new() };
                    if let Some(done) = self.take(job, queued).await {
                        return done;
                    }
                }
                _ = watch.tick() => self.notice(),
                _ = sweep.tick() => match self.sweep() {
                    // A full batch: more is waiting, but jobs may come in between.
                    Ok((seen, _)) if seen == SWEPT => sweep.reset_immediately(),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "expired rows could not be removed"),
                },
            }
        }
    }

    fn set(&mut self, parameters: &Parameters) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for parameter in parameters {
            let sql = "INSERT INTO _parameters (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            transaction.execute(sql, (&parameter.0, &parameter.1))?;
        }
        transaction.commit()
    }

    /// Does a job, and with a change set those queued right behind it. Answers who waits for the end once the store closes.
    async fn take(&mut self, job: Job, queued: &mut mpsc::Receiver<Job>) -> Option<Vec<oneshot::Sender<()>>> {
        let mut together = Vec::new();
        let mut next = Some(job);
        while let Some(Job::Apply(changes, answer)) = next {
            together.push((changes, answer));
            next = if together.len() < TOGETHER { queued.try_recv().ok() } else { None };
        }
        if !together.is_empty() {
            self.commit(together);
        }
        match next {
            Some(Job::Rehearse(trials, started)) => {
                self.rehearse(trials, started).await;
                None
            }
            Some(Job::Count(of, counted, answer)) => {
                // Whoever went away meanwhile is not counted.
                if !answer.is_closed() {
                    let _ = answer.send(counters::count(&mut self.connection, of, &counted, (self.settings.clock)()));
                }
                None
            }
            Some(Job::Parameters(parameters, answer)) => {
                let set = self.set(&parameters).map_err(|error| StoreError::Unavailable(fault::explain(&error)));
                let _ = answer.send(set);
                None
            }
            Some(Job::Sweep(answer)) => {
                let _ = answer.send(self.sweep_all());
                None
            }
            Some(Job::Close(done)) => {
                let mut waiting = vec![done];
                queued.close();
                while let Ok(job) = queued.try_recv() {
                    match job {
                        Job::Apply(changes, answer) => self.commit(vec![(changes, answer)]),
                        Job::Rehearse(trials, _) => drop(trials),
                        Job::Count(_, _, answer) => drop(answer),
                        Job::Parameters(_, answer) => drop(answer),
                        Job::Sweep(answer) => drop(answer),
                        Job::Close(done) => waiting.push(done),
                    }
                }
                Some(waiting)
            }
            _ => None,
        }
    }

    async fn rehearse(&mut self, trials: mpsc::Receiver<Trial>, started: oneshot::Sender<Result<(), StoreError>>) {
        let now = (self.settings.clock)();
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        match begun {
            Ok(transaction) => {
                // If nobody waits for it any more, its trials have no sender either.
                let _ = started.send(Ok(()));
                rehearsal::run(transaction, &self.layout, &self.statements, now, trials).await;
            }
            Err(error) => {
                let _ = started.send(Err(StoreError::Unavailable(fault::explain(&error))));
            }
        }
    }

    fn commit(&mut self, together: Vec<(ChangeSet, Answer)>) {
        let (sets, answers): (Vec<_>, Vec<_>) = together.into_iter().unzip();
        match self.transact(sets) {
            Ok(results) => {
                // Told before it is answered: whoever has the answer can rely on the feed having it.
                for (result, answer) in results.into_iter().zip(answers) {
                    if let Ok(applied) = &result {
                        let _ = self.feed.send(applied.clone());
                    }
                    let _ = answer.send(result);
                }
            }
            Err(cause) => {
                tracing::error!(%cause, "a change was not stored");
                for answer in answers {
                    let _ = answer.send(Err(StoreError::Unavailable(cause.clone())));
                }
            }
        }
    }

    /// One transaction over several change sets. A refused one leaves no trace and doesn't disturb the others; when the
    /// file fails, nothing of any of them is kept.
    fn transact(&mut self, sets: Vec<ChangeSet>) -> Result<Vec<Result<Arc<Applied>, StoreError>>, String> {
        let explained = |error: rusqlite::Error| fault::explain(&error);
        let now = (self.settings.clock)();
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explained)?;
        let before = version(&transaction).map_err(explained)?;
        let outside = before != self.version;
        let mut reached = before;
        let mut results = Vec::with_capacity(sets.len());
        for changes in sets {
            let savepoint = transaction.savepoint().map_err(explained)?;
            let mut rows = Tables { connection: &savepoint, statements: &self.statements };
            match transact::run(&self.layout, &mut rows, changes.operations, now) {
                Ok(Outcome { changes, reload }) => {
                    savepoint.commit().map_err(explained)?;
                    reached += 1;
                    // Whoever hears of this set has not heard of the other process's.
                    let reload = reload || (outside && results.iter().all(Result::is_err));
                    results.push(Ok(Arc::new(Applied { version: reached, changes, reload })));
                }
                Err(StoreError::Unavailable(cause)) => return Err(cause),
                Err(refused) => {
                    // Dropped without a commit: rolls back to where it began.
                    savepoint.finish().map_err(explained)?;
                    results.push(Err(refused));
                }
            }
        }
        if reached > before {
            transaction.execute("UPDATE _meta SET value = ?1 WHERE key = 'version'", [reached as i64]).map_err(explained)?;
            transaction.commit().map_err(explained)?;
            self.version = reached;
        }
        Ok(results)
    }

    /// Tells of commits that another process made.
    fn notice(&mut self) {
        match version(&self.connection) {
            Ok(found) if found > self.version => {
                self.version = found;
                let _ = self.feed.send(Arc::new(Applied { version: found, changes: Vec::new(), reload: true }));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %fault::explain(&error), "the database file cannot be read"),
        }
    }

    fn sweep_all(&mut self) -> Result<usize, StoreError> {
        let mut removed = 0;
        loop {
            let (seen, gone) = self.sweep()?;
            removed += gone;
            if seen < SWEPT || gone == 0 {
                return Ok(removed);
            }
        }
    }

    /// Removes one batch of expired rows, as a change set of its own. Answers how many were found and how many rows went.
    fn sweep(&mut self) -> Result<(usize, usize), StoreError> {
        let explained = |error: rusqlite::Error| StoreError::Unavailable(fault::explain(&error));
        counters::sweep(&self.connection, (self.settings.clock)()).map_err(explained)?;
        let mut operations = self.expired().map_err(explained)?;
        let seen = operations.len();
        while !operations.is_empty() {
            let results = self.transact(vec![ChangeSet { operations: operations.clone() }]).map_err(StoreError::Unavailable)?;
            match results.into_iter().next() {
                Some(Ok(applied)) => {
                    let gone = applied.changes.len();
                    let _ = self.feed.send(applied);
                    return Ok((seen, gone));
                }
                // A living row still references it: it stays, unseen, until that row goes.
                Some(Err(StoreError::Refused { operation, .. })) if operation < operations.len() => drop(operations.remove(operation)),
                Some(Err(error)) => return Err(error),
                None => break,
            }
        }
        Ok((seen, 0))
    }

    fn expired(&self) -> rusqlite::Result<Vec<Operation>> {
        let now = (self.settings.clock)() as i64;
        let mut operations = Vec::new();
        for (table, statements) in self.layout.tables.iter().zip(self.statements.iter()) {
            if !table.schema.ttl || operations.len() >= SWEPT {
                continue;
            }
            let sql = format!("SELECT id FROM {} WHERE _expires_at <= ?1 LIMIT ?2", statements.table);
            let mut select = self.connection.prepare_cached(&sql)?;
            let ids = select.query_map([now, (SWEPT - operations.len()) as i64], |row| row.get(0))?;
            for id in ids {
                operations.push(Operation::Delete(table.schema.clone(), Uuid::from_bytes(id?)));
            }
        }
        Ok(operations)
    }
}

fn version(connection: &Connection) -> rusqlite::Result<u64> {
    let version: i64 = connection.prepare_cached("SELECT value FROM _meta WHERE key = 'version'")?.query_row([], |row| row.get(0))?;
    Ok(version as u64)
}
