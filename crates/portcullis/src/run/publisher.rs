//! From a committed change to the snapshot that the next request is served from.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis_admin::Writer;
use portcullis_proxy::gateway::Gateway;
use portcullis_proxy::snapshot::builder::Builder;
use portcullis_schema::{Catalog, Record, Schema};
use portcullis_store::declarative::Declarative;
use portcullis_store::{Applied, BoxFuture, Change, ChangeSet, Operation, Store, StoreError};
use tokio::sync::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tracing::error;

/// How long a change may wait for the names of its targets.
const SETTLE: Duration = Duration::from_secs(2);

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
    /// The newest version of the store that is worked in.
    version: u64,
    /// Versions that were worked in when they were written; the feed brings each once more.
    own: BTreeSet<u64>,
}

impl Serving {
    /// Works committed changes in and hands out the snapshot with them.
    async fn take(&mut self, applied: &Applied, store: &dyn Store, catalog: &Catalog) -> Result<(), StoreError> {
        // Another process wrote too, or versions came out of order: what is missing stands in no list of changes.
        if applied.reload || applied.version < self.version {
            self.builder.load(store, catalog).await?;
        } else {
            self.builder.apply(&applied.changes);
        }
        self.version = self.version.max(applied.version);
        let balanced = |change: &Change| matches!(&*change.schema.name, "upstreams" | "targets");
        if applied.reload || applied.changes.iter().any(balanced) {
            self.builder.settle(SETTLE).await;
        }
        self.publish();
        Ok(())
    }

    async fn reload(&mut self, store: &dyn Store, catalog: &Catalog) -> Result<(), StoreError> {
        self.builder.load(store, catalog).await?;
        self.builder.settle(SETTLE).await;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.gateway.publish(self.builder.snapshot());
    }
}

impl Publisher {
    pub fn new(
        store: Arc<dyn Store>,
        declarative: Option<Arc<Declarative>>,
        catalog: Arc<Catalog>,
        builder: Builder,
        gateway: Arc<Gateway>,
    ) -> Self {
        Self { store, declarative, catalog, serving: Mutex::new(Serving { builder, gateway, version: 0, own: BTreeSet::new() }) }
    }

    /// Reads the whole store and serves from it.
    pub async fn load(&self) -> Result<(), StoreError> {
        self.serving.lock().await.reload(&*self.store, &self.catalog).await
    }

    /// Goes over to a new generation: the builder is loaded and its first snapshot is out before this returns.
    pub async fn renew(&self, mut builder: Builder, gateway: Arc<Gateway>) -> Result<(), StoreError> {
        let mut serving = self.serving.lock().await;
        builder.load(&*self.store, &self.catalog).await?;
        builder.settle(SETTLE).await;
        (serving.builder, serving.gateway) = (builder, gateway);
        serving.publish();
        Ok(())
    }

    /// Works in what nobody here wrote: rows that expired, other processes' writes. Runs as long as the node.
    pub async fn follow(self: Arc<Self>) {
        let mut feed = self.store.changes();
        loop {
            let heard = feed.recv().await;
            let mut serving = self.serving.lock().await;
            let done = match heard {
                Ok(applied) if serving.own.remove(&applied.version) => continue,
                Ok(applied) => serving.take(&applied, &*self.store, &self.catalog).await,
                Err(RecvError::Lagged(_)) => {
                    serving.own.clear();
                    serving.reload(&*self.store, &self.catalog).await
                }
                Err(RecvError::Closed) => return,
            };
            if let Err(error) = done {
                error!(%error, "changes of the store are not served yet");
            }
        }
    }
}

impl Writer for Publisher {
    fn write(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            let mut serving = self.serving.lock().await;
            let applied = self.store.apply(changes).await?;
            serving.own.insert(applied.version);
            serving.take(&applied, &*self.store, &self.catalog).await?;
            Ok(applied)
        })
    }

    fn replace(&self, rows: Vec<(Arc<Schema>, Record)>, hash: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(declarative) = &self.declarative else {
                return Err(StoreError::Unavailable("this store takes no whole configuration".to_owned()));
            };
            let mut serving = self.serving.lock().await;
            // Everything may have changed: a fresh build is both simpler and quicker than working every removal in. It is made
            // of the rows at hand, and dropped should the store refuse them.
            let builder = serving.builder.of(rows.iter().map(|(schema, record)| (&**schema, record)));
            let mut operations = Vec::with_capacity(rows.len() + 1);
            operations.push(Operation::Clear);
            operations.extend(rows.into_iter().map(|(schema, record)| Operation::Insert(schema, record)));
            let applied = self.store.apply(ChangeSet { operations }).await?;
            declarative.set_hash(hash);
            serving.own.insert(applied.version);
            serving.version = serving.version.max(applied.version);
            serving.builder = builder;
            serving.builder.settle(SETTLE).await;
            serving.publish();
            Ok(())
        })
    }
}
