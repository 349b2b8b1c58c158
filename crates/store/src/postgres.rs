//! The store of `database=postgres`: Kong's own tables, so that a node can take over the database of a Kong 3.9.
//!
//! Kong's columns are found by asking the database, the fields of an entity by its schema; what stands between is [`values`].
//! One thread writes, with the rules that every store shares; readers use a pool; one connection listens. All of them live on
//! a runtime of the store's own, so nothing here depends on who asks.
//!
//! - `connect`: addresses, TLS, the pool
//! - `migrate`: the tables and `schema_meta`
//! - `statements`, `values`: the SQL of one entity, and its values on their way
//! - `rows`, `read`, `writer`: the rules' view of a transaction, readers', and the writing thread
//! - `batch`: the same for many rows at once
//! - `replica`: a copy of the server that some readers may ask
//! - `rehearsal`: changes that are tried and undone
//! - `counters`: what plugins count
//! - `parameters`: what the database says of itself
//! - `events`, `listener`: telling other nodes and hearing from them
//! - `fault`: Postgres' failures in an operator's words

mod batch;
mod connect;
mod counters;
mod events;
mod fault;
mod listener;
pub mod migrate;
mod parameters;
mod read;
mod rehearsal;
mod replica;
mod rows;
mod statements;
#[cfg(test)]
pub(crate) mod tests;
mod values;
mod writer;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use portcullis_schema::{Catalog, Record, Schema};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_postgres::{Client, IsolationLevel};
use uuid::Uuid;

use crate::counters::{Counted, Counter};
use crate::layout::{Layout, Table};
use crate::transact::Fault;
use crate::{
    Applied, BoxFuture, Change, ChangeFeed, ChangeSet, Clock, Filter, Key, Page, Parameters, Store, StoreError, Tagged, TakeRows,
    system_clock,
};
use connect::Connections;
pub use connect::Server;
pub use fault::Trouble;
use listener::Listener;
use read::{Reader, Through};
use replica::Replica;
use statements::{Columns, Statements};
use values::Sql;

/// Change sets a subscriber may fall behind before it has to reload.
const FEED: usize = 256;
/// Change sets that may wait; callers beyond that wait in line.
const QUEUE: usize = 256;

/// How the database is used.
#[derive(Clone)]
pub struct Settings {
    pub server: Server,
    /// A copy of it that readers may ask who don't mind that it is a little behind (`pg_ro_*`).
    pub replica: Option<Server>,
    /// Who writes, as `cluster_events` names nodes.
    pub node: Uuid,
    pub clock: Clock,
    /// How often other nodes' events are looked for, beside being notified (`db_update_frequency`).
    pub poll_interval: Duration,
    /// How much later Kong's nodes act on an event (`db_update_propagation`).
    pub propagation: Duration,
    /// How often expired rows are removed.
    pub sweep_interval: Duration,
    /// Entities whose readers ask the store each time: what other nodes do to their rows is not read and not told.
    pub unwatched: Vec<String>,
}

impl Settings {
    pub fn new(server: Server, node: Uuid) -> Self {
        Self {
            server,
            replica: None,
            node,
            clock: system_clock(),
            poll_interval: Duration::from_secs(5),
            propagation: Duration::ZERO,
            sweep_interval: Duration::from_secs(300),
            unwatched: Vec::new(),
        }
    }
}

/// What the store's threads and tasks share.
struct Shared {
    layout: Layout,
    /// Known once the server was reached for the first time.
    described: OnceLock<Described>,
    clock: Clock,
    node: Uuid,
    propagation: Duration,
    unwatched: Vec<String>,
    feed: broadcast::Sender<Arc<Applied>>,
    version: Mutex<u64>,
    reachable: AtomicBool,
    mine: Mine,
    /// Held by whoever reads or commits rows until it has told them: else what was read before a commit could be told after it.
    telling: tokio::sync::Mutex<()>,
}

/// What is asked of the database before anything else.
struct Described {
    statements: Vec<Statements>,
    /// The default workspace, which every row belongs to.
    workspace: Uuid,
}

impl Shared {
    fn described(&self) -> &Described {
        self.described.get().expect("nothing is asked of a server that was never reached")
    }

    fn statements(&self) -> &[Statements] {
        &self.described().statements
    }

    /// Tells this node's subscribers.
    fn tell(&self, changes: Vec<Change>, reload: bool) -> Arc<Applied> {
        // Held while sending, so that versions are told in order.
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        *version += 1;
        let applied = Arc::new(Applied { version: *version, changes, reload });
        // An error means that nobody listens.
        let _ = self.feed.send(applied.clone());
        applied
    }

    fn place(&self, of: &Schema) -> Result<usize, StoreError> {
        self.layout.place(&of.name).ok_or_else(|| StoreError::Unavailable(format!("no rows are kept of {}", of.name)))
    }

    fn is_watched(&self, entity: &str) -> bool {
        !self.unwatched.iter().any(|other| other == entity)
    }

    fn table(&self, entity: &str) -> Option<&Table> {
        self.layout.place(entity).map(|place| &self.layout.tables[place])
    }
}

/// Events that this node wrote and has told already.
#[derive(Default)]
struct Mine(Mutex<HashSet<Uuid>>);

impl Mine {
    fn insert(&self, id: Uuid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    fn remove(&self, id: Uuid) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}

/// A Postgres database as a [`Store`].
pub struct Postgres {
    shared: Arc<Shared>,
    connections: Connections,
    replica: Option<Replica>,
    writer: mpsc::Sender<writer::Job>,
    /// Of the runtime that the writing thread owns.
    runtime: Handle,
}

impl Postgres {
    /// Connects to a database that is up to date (see [`migrate`]) and begins to listen.
    pub fn open(settings: Settings, catalog: &Catalog) -> Result<Self, Trouble> {
        Self::begin(settings, catalog, true)
    }

    /// As [`Postgres::open`] for a server that cannot be reached: the store is unavailable until it can, then tells a reload.
    pub fn open_away(settings: Settings, catalog: &Catalog) -> Result<Self, String> {
        Self::begin(settings, catalog, false).map_err(|trouble| trouble.to_string())
    }

    fn begin(settings: Settings, catalog: &Catalog, reach: bool) -> Result<Self, Trouble> {
        let no_thread = |error| Trouble::Unfit(format!("a thread of the store cannot be started: {error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store-postgres")
            .enable_all()
            .build()
            .map_err(no_thread)?;
        let connections = Connections::new(settings.server.clone()).map_err(Trouble::Unfit)?;
        let replica = settings.replica.clone().map(Replica::new).transpose().map_err(Trouble::Unfit)?;
        let (feed, _) = broadcast::channel(FEED);
        let shared = Arc::new(Shared {
            layout: Layout::new(&catalog.entities),
            described: OnceLock::new(),
            clock: settings.clock.clone(),
            node: settings.node,
            propagation: settings.propagation,
            unwatched: settings.unwatched.clone(),
            feed,
            version: Mutex::new(0),
            reachable: AtomicBool::new(false),
            mine: Mine::default(),
            telling: tokio::sync::Mutex::default(),
        });
        let handle = runtime.handle().clone();
        let mut listener = Listener::new(shared.clone(), connections.clone(), settings.poll_interval);
        let opening = async move {
            let session = if reach { Some(listener.begin().await?) } else { None };
            tokio::spawn(listener.run(session));
            Ok(())
        };
        // On a thread of its own: the caller may stand in a runtime, where blocking is not allowed.
        let opened = std::thread::scope(|scope| scope.spawn(|| handle.block_on(opening)).join());
        let opened = opened.unwrap_or_else(|_| Err(Trouble::Unfit("opening the store failed".to_owned())));
        if let Err(trouble) = opened {
            runtime.shutdown_background();
            return Err(trouble);
        }
        let (jobs, queued) = mpsc::channel(QUEUE);
        let writing = writer::Writer {
            shared: shared.clone(),
            connections: connections.clone(),
            replica: replica.as_ref().map(|replica| replica.connections.clone()),
            runtime: runtime.handle().clone(),
            sweep_interval: settings.sweep_interval,
        };
        let work = move || {
            writing.run(queued);
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("store-write".to_owned()).spawn(work).map_err(no_thread)?;
        Ok(Self { shared, connections, replica, writer: jobs, runtime: handle })
    }

    /// Removes expired rows now instead of at the next sweep. Answers how many, cascades included.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writer.send(writer::Job::Sweep(answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Finishes what is queued and closes the connections.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.writer.send(writer::Job::Close(answer)).await.is_ok() {
            // An error means that the thread is gone already.
            let _ = answered.await;
        }
    }

    /// Fails at once while the server is known to be away: nobody waits for a connection that can't be made.
    fn present(&self) -> Result<(), StoreError> {
        if self.shared.reachable.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!("postgres is away ({})", self.connections.server.address())))
    }

    fn place(&self, of: &Schema) -> Result<usize, StoreError> {
        self.shared.place(of)
    }

    /// Runs a question on the store's own runtime.
    async fn read<T, Asked>(&self, question: impl FnOnce(Arc<Shared>, Connections) -> Asked) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Asked: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        self.present()?;
        let asked = self.runtime.spawn(question(self.shared.clone(), self.connections.clone()));
        asked.await.map_err(|_| closed())?.map_err(failed)
    }

    /// As [`Self::read`], of the replica. None if there is none, or none that answers: then the server itself is to be asked.
    async fn read_replica<T, Asked>(&self, question: impl FnOnce(Arc<Shared>, Connections) -> Asked) -> Option<T>
    where
        T: Send + 'static,
        Asked: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        // What there is to ask is known from the server.
        let replica = self.replica.as_ref().filter(|replica| replica.is_worth_asking() && self.shared.described.get().is_some())?;
        let asked = self.runtime.spawn(question(self.shared.clone(), replica.connections.clone()));
        match asked.await.ok()? {
            Ok(answer) => Some(answer),
            Err(fault) => {
                replica.has_failed(&fault);
                None
            }
        }
    }
}

/// The columns there are and the default workspace, and what follows from them.
async fn describe(client: &Client, layout: &Layout) -> Result<Described, Trouble> {
    let sql = "SELECT c.relname::text, a.attname::text, t.typname::text FROM pg_attribute a \
               JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid \
               WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = client.query(sql, &[]).await?;
    let mut columns = Columns::new();
    for row in &rows {
        columns.entry(row.try_get(0)?).or_default().insert(row.try_get(1)?, row.try_get(2)?);
    }
    if !columns.contains_key("workspaces") {
        return Err(Trouble::Unfit("the database has no tables of ours: its migrations are not complete".to_owned()));
    }
    let row = client.query_opt("SELECT id FROM workspaces WHERE name = 'default'", &[]).await?;
    let missing = || Trouble::Unfit("the database has no default workspace: its migrations are not complete".to_owned());
    let workspace = row.ok_or_else(missing)?.try_get(0)?;
    let statements = Statements::all(layout, &columns, workspace).map_err(Trouble::Unfit)?;
    Ok(Described { statements, workspace })
}

fn reader<'a>(shared: &'a Shared, through: Through<'a>) -> Reader<'a> {
    Reader { through, layout: &shared.layout, statements: shared.statements(), now: (shared.clock)() }
}

/// Every row of these tables out of one transaction, sent as they come.
async fn everything(
    shared: &Shared,
    connections: &Connections,
    tables: Vec<usize>,
    rows: mpsc::Sender<(usize, Vec<Record>)>,
) -> Result<(), Fault> {
    let timeout = connections.server.timeout;
    let mut connection = connections.get().await.map_err(Fault::Broken)?;
    let begun = connection.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
    let transaction = read::within(timeout, begun).await?;
    let reader = reader(shared, Through::Transaction(&transaction, timeout));
    for (at, table) in tables.into_iter().enumerate() {
        let mut after = None;
        loop {
            let page = reader.page(table, after, crate::ROWS, &Filter::default()).await?;
            after = page.next;
            // An error means that nobody takes them any more.
            if rows.send((at, page.rows)).await.is_err() {
                return Ok(());
            }
            if after.is_none() {
                break;
            }
        }
    }
    read::within(timeout, transaction.commit()).await
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

impl Store for Postgres {
    fn get<'a>(&'a self, of: &'a Arc<Schema>, key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            let table = self.place(of)?;
            self.read(move |shared, connections| async move { reader(&shared, Through::Pool(&connections)).get(table, &key).await }).await
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
            let page = move |shared: Arc<Shared>, connections: Connections| async move {
                reader(&shared, Through::Pool(&connections)).page(table, after, size, &filter).await
            };
            self.read(page).await
        })
    }

    fn get_replicated<'a>(&'a self, of: &'a Arc<Schema>, key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            let (table, asked) = (self.place(of)?, key.clone());
            let get = move |shared: Arc<Shared>, replica: Connections| async move {
                reader(&shared, Through::Pool(&replica)).get(table, &asked).await
            };
            match self.read_replica(get).await {
                Some(found) => Ok(found),
                None => self.get(of, key).await,
            }
        })
    }

    fn page_replicated<'a>(
        &'a self,
        of: &'a Arc<Schema>,
        after: Option<Uuid>,
        size: usize,
        filter: Filter,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move {
            let (table, asked) = (self.place(of)?, filter.clone());
            let page = move |shared: Arc<Shared>, replica: Connections| async move {
                reader(&shared, Through::Pool(&replica)).page(table, after, size, &asked).await
            };
            match self.read_replica(page).await {
                Some(page) => Ok(page),
                None => self.page(of, after, size, filter).await,
            }
        })
    }

    fn apply(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            self.present()?;
            let (answer, answered) = oneshot::channel();
            self.writer.send(writer::Job::Apply(changes, answer)).await.map_err(|_| closed())?;
            answered.await.map_err(|_| closed())?
        })
    }

    fn changes(&self) -> ChangeFeed {
        self.shared.feed.subscribe()
    }

    fn rehearse(&self) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>> {
        Box::pin(async move {
            self.present()?;
            let (trials, waiting) = mpsc::channel(1);
            let (started, starting) = oneshot::channel();
            self.writer.send(writer::Job::Rehearse(waiting, started)).await.map_err(|_| closed())?;
            starting.await.map_err(|_| closed())??;
            let rehearsal: Arc<dyn Store> = Arc::new(rehearsal::Rehearsal { shared: self.shared.clone(), trials });
            Ok(rehearsal)
        })
    }

    fn everything<'a>(&'a self, of: &'a [Arc<Schema>], take: TakeRows<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let tables = of.iter().map(|schema| self.place(schema)).collect::<Result<Vec<_>, _>>()?;
            let (sender, mut pages) = mpsc::channel(4);
            let reading = self.read(move |shared, connections| async move { everything(&shared, &connections, tables, sender).await });
            let taking = async {
                while let Some((at, rows)) = pages.recv().await {
                    take(&of[at], rows);
                }
            };
            tokio::join!(reading, taking).0
        })
    }

    fn workspace(&self) -> Option<Uuid> {
        self.shared.described.get().map(|described| described.workspace)
    }

    fn count(&self, of: Counted, counters: Vec<Counter>) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        Box::pin(self.read(move |_, connections| counters::count(connections, of, counters)))
    }

    fn parameters(&self) -> BoxFuture<'_, Result<Parameters, StoreError>> {
        Box::pin(self.read(|_, connections| parameters::all(connections)))
    }

    fn set_parameters(&self, set: Parameters) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.read(|_, connections| parameters::set(connections, set)))
    }

    fn reachable(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { self.shared.reachable.load(Ordering::Acquire) && !self.writer.is_closed() })
    }

    fn tagged<'a>(
        &'a self,
        tag: Option<&'a str>,
        after: Option<(Uuid, String)>,
        size: usize,
    ) -> BoxFuture<'a, Result<Vec<Tagged>, StoreError>> {
        let tag = tag.map(str::to_owned);
        let tagged = move |shared: Arc<Shared>, connections: Connections| async move {
            reader(&shared, Through::Pool(&connections)).tagged(tag.as_deref(), after.as_ref(), size).await
        };
        Box::pin(self.read(tagged))
    }
}
