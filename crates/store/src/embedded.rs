//! The store of `database=embedded`: one SQLite file, `<prefix>/portcullis.db`.
//!
//! One thread writes, a few read, each with its own connection; callers only wait for answers. Change sets that queue up
//! while one is being written share the next transaction and its sync, each behind its own savepoint. Another process (the
//! command line importing a file) may write too: its commits are noticed and told as a reload.
//!
//! - `open`: the file, its migrations and generated tables
//! - `statements`: the SQL of one table
//! - `rows`, `read`: the rules' view of a transaction, and readers'
//! - `rehearsal`: changes that are tried and undone
//! - `counters`: what plugins count
//! - `writer`: the writing thread: transactions, the change feed, expired rows
//! - `fault`: SQLite's failures in an operator's words

mod counters;
mod fault;
mod open;
mod read;
mod rehearsal;
mod rows;
mod statements;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_schema::{Catalog, Record, Schema};
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};
use uuid::Uuid;

use crate::counters::{Counted, Counter};
use crate::layout::Layout;
use crate::transact::Fault;
use crate::{Applied, BoxFuture, ChangeFeed, ChangeSet, Clock, Filter, Key, Page, Parameters, Store, StoreError, Tagged, system_clock};
use read::Reader;
use rows::Cells;
use statements::Statements;

/// Change sets a subscriber may fall behind before it has to reload.
const FEED: usize = 256;
/// Questions and change sets that may wait; callers beyond that wait in line.
const QUEUE: usize = 256;

/// How the file is opened and kept.
#[derive(Clone)]
pub struct Settings {
    pub path: PathBuf,
    pub readers: usize,
    pub clock: Clock,
    /// How long to wait for another process that holds the file.
    pub busy_timeout: Duration,
    /// How often expired rows are removed.
    pub sweep_interval: Duration,
    /// How often to look for other processes' writes.
    pub watch_interval: Duration,
    /// Bytes beyond which the file doesn't grow; writes are then refused.
    pub largest_file: Option<u64>,
}

impl Settings {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: 2,
            clock: system_clock(),
            busy_timeout: Duration::from_secs(5),
            sweep_interval: Duration::from_secs(60),
            watch_interval: Duration::from_secs(1),
            largest_file: None,
        }
    }
}

/// A SQLite file as a [`Store`]. Its threads end when it is dropped; [`Embedded::close`] waits for them.
pub struct Embedded {
    layout: Arc<Layout>,
    writer: mpsc::Sender<writer::Job>,
    readers: mpsc::Sender<Question>,
    feed: broadcast::Sender<Arc<Applied>>,
}

type Question = Box<dyn FnOnce(&Reader<'_>) + Send>;

impl Embedded {
    /// Opens or makes the file. Errors with one line for the operator; the file is then as it was.
    pub fn open(settings: Settings, catalog: &Catalog) -> Result<Self, String> {
        let layout = Arc::new(Layout::new(&catalog.entities));
        let (connection, statements) = open::writer(&settings, &layout)?;
        let statements: Arc<[Statements]> = statements.into();
        let (feed, _) = broadcast::channel(FEED);

        let (questions, waiting) = mpsc::channel::<Question>(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..settings.readers.max(1) {
            let connection = open::reader(&settings)?;
            let (waiting, layout, statements, clock) = (waiting.clone(), layout.clone(), statements.clone(), settings.clock.clone());
            let read = move || answer(&connection, &waiting, &layout, &statements, &clock);
            spawn(&format!("store-read-{number}"), read)?;
        }
        let (jobs, queued) = mpsc::channel(QUEUE);
        let writing = writer::Writer::new(connection, layout.clone(), statements, settings, feed.clone())?;
        spawn("store-write", move || writing.run(queued))?;
        Ok(Self { layout, writer: jobs, readers: questions, feed })
    }

    /// Removes expired rows now instead of at the next sweep. Answers how many, cascades included.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.write(writer::Job::Sweep(answer)).await?;
        answered.await.map_err(|_| closed())?
    }

    /// Finishes what is queued, folds the write-ahead log into the file and ends the writing thread.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.write(writer::Job::Close(answer)).await.is_ok() {
            // An error means that the thread is gone already.
            let _ = answered.await;
        }
    }

    async fn write(&self, job: writer::Job) -> Result<(), StoreError> {
        self.writer.send(job).await.map_err(|_| closed())
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |reader| {
            // A caller that went away wants no answer.
            if !answer.is_closed() {
                let _ = answer.send(question(reader));
            }
        });
        self.readers.send(question).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?.map_err(failed)
    }

    fn place(&self, of: &Schema) -> Result<usize, StoreError> {
        place(&self.layout, of)
    }
}

impl Store for Embedded {
    fn get<'a>(&'a self, of: &'a Arc<Schema>, key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            let table = self.place(of)?;
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
            let table = self.place(of)?;
            self.read(move |reader| reader.page(table, after, size, &filter)).await
        })
    }

    fn apply(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.write(writer::Job::Apply(changes, answer)).await?;
            answered.await.map_err(|_| closed())?
        })
    }

    fn changes(&self) -> ChangeFeed {
        self.feed.subscribe()
    }

    fn rehearse(&self) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>> {
        Box::pin(async move {
            let (trials, waiting) = mpsc::channel(1);
            let (started, starting) = oneshot::channel();
            self.write(writer::Job::Rehearse(waiting, started)).await?;
            starting.await.map_err(|_| closed())??;
            let rehearsal: Arc<dyn Store> = Arc::new(rehearsal::Rehearsal { layout: self.layout.clone(), trials });
            Ok(rehearsal)
        })
    }

    fn count(&self, of: Counted, counters: Vec<Counter>) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.write(writer::Job::Count(of, counters, answer)).await?;
            answered.await.map_err(|_| closed())?
        })
    }

    fn parameters(&self) -> BoxFuture<'_, Result<Parameters, StoreError>> {
        Box::pin(self.read(|reader| {
            let mut rows = reader.connection.prepare_cached("SELECT key, value FROM _parameters ORDER BY key")?;
            let found = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(found.collect::<Result<_, _>>()?)
        }))
    }

    fn set_parameters(&self, parameters: Parameters) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.write(writer::Job::Parameters(parameters, answer)).await?;
            answered.await.map_err(|_| closed())?
        })
    }

    fn reachable(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let question = |reader: &Reader<'_>| Ok(reader.connection.query_row("SELECT 1 FROM _meta", [], |_| Ok(()))?);
            !self.writer.is_closed() && self.read(question).await.is_ok()
        })
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

fn place(layout: &Layout, of: &Schema) -> Result<usize, StoreError> {
    layout.place(&of.name).ok_or_else(|| StoreError::Unavailable(format!("no rows are kept of {}", of.name)))
}

/// What a reader that failed is answered.
fn failed(fault: Fault) -> StoreError {
    match fault {
        Fault::Refused(error) => StoreError::Refused { operation: 0, error },
        Fault::Broken(cause) => StoreError::Unavailable(cause),
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(|error| format!("a thread of the store cannot be started: {error}"))
}

/// A reading thread: takes questions until the store is dropped.
fn answer(connection: &Connection, waiting: &Mutex<mpsc::Receiver<Question>>, layout: &Layout, statements: &[Statements], clock: &Clock) {
    loop {
        // The lock is held while waiting: one thread waits for a question, the others for the lock.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(question) = next else { return };
        question(&Reader { connection, layout, statements, now: clock() });
    }
}
