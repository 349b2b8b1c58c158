//! From a committed change to the snapshot that the next request is served from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_admin::Writer;
use portcullis_entities::declarative::Document;
use portcullis_proxy::gateway::Gateway;
use portcullis_proxy::snapshot::builder::Builder;
use portcullis_schema::{Catalog, Record, Schema};
use portcullis_store::declarative::Declarative;
use portcullis_store::{Applied, BoxFuture, Change, ChangeFeed, ChangeSet, Store, StoreError};
use tokio::sync::Mutex;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::spawn_blocking;
use tracing::error;

use super::node::Node;

/// How long a change may wait for the names of its targets.
const SETTLE: Duration = Duration::from_secs(2);
/// How soon it is tried again when the store could not be read.
const AGAIN: Duration = Duration::from_millis(250);

/// The only way configuration reaches the workers: writes go through the store, then into the builder, then out.
///
/// One change at a time: the lock is held from the store's commit to the swap, so snapshots follow the store's order.
pub struct Publisher {
    store: Arc<dyn Store>,
    /// The same store, where the whole configuration is replaced at once (database=off).
    declarative: Option<Arc<Declarative>>,
    catalog: Arc<Catalog>,
    serving: Mutex<Serving>,
}

/// What a generation of workers serves with.
struct Serving {
    builder: Builder,
    gateway: Arc<Gateway>,
    /// Committed changes that are not worked in yet, in order: this node's own and everybody else's.
    feed: ChangeFeed,
    /// Some changes could not be worked in: everything is to be read again.
    stale: bool,
    node: Arc<Node>,
}

/// Change sets worked in before a snapshot of them goes out.
const TOGETHER: usize = 64;

impl Serving {
    /// Works in what the feed holds and hands out the snapshot with it. Answers whether there was something.
    async fn catch_up(&mut self, store: &dyn Store, catalog: &Catalog) -> Result<bool, StoreError> {
        let mut worked = false;
        loop {
            let mut sets = Vec::new();
            let mut reload = std::mem::take(&mut self.stale);
            while sets.len() < TOGETHER {
                match self.feed.try_recv() {
                    Ok(applied) => {
                        reload |= applied.reload;
                        sets.push(applied);
                    }
                    Err(TryRecvError::Lagged(_)) => reload = true,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            if sets.is_empty() && !reload {
                return Ok(worked);
            }
            worked = true;
            self.work_in(&sets, reload, store, catalog).await?;
        }
    }

    async fn work_in(&mut self, sets: &[Arc<Applied>], reload: bool, store: &dyn Store, catalog: &Catalog) -> Result<(), StoreError> {
        if reload {
            return self.reload(store, catalog).await;
        }
        let told = Instant::now();
        let mut served = false;
        for applied in sets {
            served |= self.builder.apply(&applied.changes);
        }
        // Codes, certificates of ACME and the like: their readers ask the store.
        if !served {
            return Ok(());
        }
        let balanced = |change: &Change| matches!(&*change.schema.name, "upstreams" | "targets");
        if sets.iter().any(|applied| applied.changes.iter().any(balanced)) {
            self.builder.settle(SETTLE).await;
        }
        self.publish(told);
        Ok(())
    }

    async fn reload(&mut self, store: &dyn Store, catalog: &Catalog) -> Result<(), StoreError> {
        let told = Instant::now();
        self.stale = true;
        self.builder.load(store, catalog).await?;
        self.stale = false;
        self.node.serve_store();
        self.builder.settle(SETTLE).await;
        self.publish(told);
        Ok(())
    }

    /// Hands out what the builder holds; `told` is when this node heard of what is new in it.
    fn publish(&self, told: Instant) {
        self.gateway.publish(self.builder.snapshot());
        self.node.published(told.elapsed());
    }
}

impl Publisher {
    pub fn new(
        store: Arc<dyn Store>,
        declarative: Option<Arc<Declarative>>,
        catalog: Arc<Catalog>,
        builder: Builder,
        gateway: Arc<Gateway>,
        node: Arc<Node>,
    ) -> Self {
        let serving = Mutex::new(Serving { builder, gateway, feed: store.changes(), stale: false, node });
        Self { store, declarative, catalog, serving }
    }

    /// Reads the whole store and serves from it.
    pub async fn load(&self) -> Result<(), StoreError> {
        self.serving.lock().await.reload(&*self.store, &self.catalog).await
    }

    /// Serves from these rows, in dependency order, until the store can be read.
    pub async fn load_copy(&self, rows: &[(Arc<Schema>, Record)]) {
        let told = Instant::now();
        let mut serving = self.serving.lock().await;
        serving.builder = serving.builder.emptied().holding(rows.iter().map(|(schema, record)| (&**schema, record)));
        serving.builder.settle(SETTLE).await;
        serving.publish(told);
    }

    /// Goes over to a new generation: the builder is loaded and its first snapshot is out before this returns.
    pub async fn renew(&self, mut builder: Builder, gateway: Arc<Gateway>) -> Result<(), StoreError> {
        let told = Instant::now();
        let mut serving = self.serving.lock().await;
        builder.load(&*self.store, &self.catalog).await?;
        builder.settle(SETTLE).await;
        (serving.builder, serving.gateway) = (builder, gateway);
        serving.node.serve_store();
        serving.publish(told);
        Ok(())
    }

    /// Works in what nobody here wrote: rows that expired, other processes' writes. Runs as long as the node.
    pub async fn follow(self: Arc<Self>) {
        // Says when there is something; what there is the publisher's own feed tells.
        let mut bell = self.store.changes();
        let mut wait = true;
        loop {
            if wait && matches!(bell.recv().await, Err(RecvError::Closed)) {
                return;
            }
            let mut serving = self.serving.lock().await;
            let caught_up = serving.catch_up(&*self.store, &self.catalog).await;
            wait = caught_up.is_ok();
            if let Err(error) = caught_up {
                serving.node.not_published();
                drop(serving);
                error!(%error, "changes of the store are not served yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

impl Writer for Publisher {
    fn write(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            let mut serving = self.serving.lock().await;
            // What stands in the feed before it is worked in first; the store tells its feed before it answers.
            let applied = self.store.apply(changes).await?;
            if let Err(error) = serving.catch_up(&*self.store, &self.catalog).await {
                serving.node.not_published();
                error!(%error, "a change is stored but not served yet");
            }
            Ok(applied)
        })
    }

    fn replace(&self, document: Arc<Document>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(declarative) = self.declarative.clone() else {
                return Err(StoreError::Unavailable("this store takes no whole configuration".to_owned()));
            };
            let told = Instant::now();
            let mut serving = self.serving.lock().await;
            // Everything may have changed: a fresh build is both simpler and quicker than working every removal in. It is made
            // beside the store's own, and dropped should the store refuse the rows.
            let hash = document.hash.clone();
            let (fresh, stored) = (serving.builder.emptied(), Arc::clone(&document));
            let building = spawn_blocking(move || fresh.holding(all(&document.records)));
            let applied = spawn_blocking(move || declarative.replace(&stored.records));
            let (builder, applied) = (building.await.map_err(|_| unfinished())?, applied.await.map_err(|_| unfinished())??);
            if let Some(declarative) = &self.declarative {
                declarative.set_hash(hash);
            }
            // It is worked in already, and so is what came before it: its rows are gone.
            while serving.feed.try_recv().is_ok_and(|told| told.version < applied.version) {}
            serving.builder = builder;
            serving.builder.settle(SETTLE).await;
            serving.publish(told);
            Ok(())
        })
    }
}

/// Every row with its schema.
fn all(records: &[(Arc<Schema>, Vec<Record>)]) -> impl Iterator<Item = (&Schema, &Record)> {
    records.iter().flat_map(|(schema, rows)| rows.iter().map(move |row| (&**schema, row)))
}

fn unfinished() -> StoreError {
    StoreError::Unavailable("the configuration could not be worked in".to_owned())
}
