//! From a committed change to the snapshot that the next request is served from.

use std::sync::Arc;
use std::time::Duration;

use portcullis_admin::Writer;
use portcullis_proxy::gateway::Gateway;
use portcullis_proxy::snapshot::builder::Builder;
use portcullis_schema::{Catalog, Record, Schema};
use portcullis_store::declarative::Declarative;
use portcullis_store::{Applied, BoxFuture, ChangeSet, Operation, Store, StoreError};
use tokio::sync::Mutex;

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
}

impl Serving {
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
        Self { store, declarative, catalog, serving: Mutex::new(Serving { builder, gateway }) }
    }

    /// Reads the whole store and serves from it.
    pub async fn load(&self) -> Result<(), StoreError> {
        let mut serving = self.serving.lock().await;
        serving.builder.load(&*self.store, &self.catalog).await?;
        serving.builder.settle(SETTLE).await;
        serving.publish();
        Ok(())
    }

    /// Goes over to a new generation: the builder is loaded and its first snapshot is out before this returns.
    pub async fn renew(&self, mut builder: Builder, gateway: Arc<Gateway>) -> Result<(), StoreError> {
        let mut serving = self.serving.lock().await;
        builder.load(&*self.store, &self.catalog).await?;
        builder.settle(SETTLE).await;
        *serving = Serving { builder, gateway };
        serving.publish();
        Ok(())
    }
}

impl Writer for Publisher {
    fn write(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            let mut serving = self.serving.lock().await;
            let applied = self.store.apply(changes).await?;
            if applied.reload {
                // Another process wrote too: its rows are in no list of changes.
                serving.builder.load(&*self.store, &self.catalog).await?;
            } else {
                serving.builder.apply(&applied.changes);
            }
            serving.publish();
            Ok(applied)
        })
    }

    fn replace(&self, rows: Vec<(Arc<Schema>, Record)>, hash: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(declarative) = &self.declarative else {
                return Err(StoreError::Unavailable("this store takes no whole configuration".to_owned()));
            };
            let mut operations = vec![Operation::Clear];
            operations.extend(rows.into_iter().map(|(schema, record)| Operation::Insert(schema, record)));
            let mut serving = self.serving.lock().await;
            self.store.apply(ChangeSet { operations }).await?;
            declarative.set_hash(hash);
            // Everything may have changed: a fresh build is both simpler and quicker than working every removal in.
            serving.builder.load(&*self.store, &self.catalog).await?;
            serving.publish();
            Ok(())
        })
    }
}
