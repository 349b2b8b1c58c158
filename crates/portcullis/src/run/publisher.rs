//! From a committed change to the snapshot that the next request is served from.

use std::sync::Arc;

use portcullis_admin::Writer;
use portcullis_proxy::gateway::Gateway;
use portcullis_proxy::snapshot::builder::Builder;
use portcullis_schema::{Catalog, Record, Schema};
use portcullis_store::declarative::DeclarativeStore;
use portcullis_store::{Applied, BoxFuture, ChangeSet, Operation, Store, StoreError};
use tokio::sync::Mutex;

/// The only way configuration reaches the workers: writes go through the store, then into the builder, then out.
///
/// One change at a time: the lock is held from the store's commit to the swap, so snapshots follow the store's order.
pub struct Publisher {
    store: Arc<dyn Store>,
    /// The same store, where the whole configuration is replaced at once (database=off).
    declarative: Option<Arc<DeclarativeStore>>,
    catalog: Arc<Catalog>,
    builder: Mutex<Builder>,
    gateway: Arc<Gateway>,
}

impl Publisher {
    pub fn new(
        store: Arc<dyn Store>,
        declarative: Option<Arc<DeclarativeStore>>,
        catalog: Arc<Catalog>,
        builder: Builder,
        gateway: Arc<Gateway>,
    ) -> Self {
        Self { store, declarative, catalog, builder: Mutex::new(builder), gateway }
    }

    /// Reads the whole store and serves from it.
    pub async fn load(&self) -> Result<(), StoreError> {
        let mut builder = self.builder.lock().await;
        builder.load(&*self.store, &self.catalog).await?;
        self.gateway.publish(builder.snapshot());
        Ok(())
    }
}

impl Writer for Publisher {
    fn write(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            let mut builder = self.builder.lock().await;
            let applied = self.store.apply(changes).await?;
            builder.apply(&applied.changes);
            self.gateway.publish(builder.snapshot());
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
            let mut builder = self.builder.lock().await;
            self.store.apply(ChangeSet { operations }).await?;
            declarative.set_hash(hash);
            // Everything may have changed: a fresh build is both simpler and quicker than working every removal in.
            builder.load(&*self.store, &self.catalog).await?;
            self.gateway.publish(builder.snapshot());
            Ok(())
        })
    }
}
