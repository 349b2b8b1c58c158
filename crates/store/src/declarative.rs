//! The store of `database=off`: rows in memory, replaced as a whole by a change set that starts with a clear.
//!
//! Records are kept as JSON text, which takes a fraction of what trees of values take. Readers hold the contents they
//! started with while a writer, off the caller's thread, makes the next from a copy that shares every untouched chunk.

mod contents;
mod sorted;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use portcullis_schema::{Catalog, Record, Schema};
use tokio::sync::{OwnedMutexGuard, broadcast};
use uuid::Uuid;

use crate::layout::Layout;
use crate::transact::{self, Fault};
use crate::{
    Applied, BoxFuture, Change, ChangeFeed, ChangeSet, Clock, Filter, Key, Operation, Page, Store, StoreError, Tagged, system_clock,
};
use contents::{Contents, Draft};

/// Change sets a subscriber may fall behind before it has to reload.
const FEED: usize = 256;

/// Rows in memory as a [`Store`].
pub struct Declarative {
    shared: Arc<Shared>,
    /// Held by the change set that is being applied.
    writing: Arc<tokio::sync::Mutex<()>>,
    hash: Mutex<String>,
}

struct Shared {
    layout: Arc<Layout>,
    clock: Clock,
    contents: RwLock<Arc<Contents>>,
    feed: broadcast::Sender<Arc<Applied>>,
}

/// The hash of no configuration, as Kong shows it.
const EMPTY_HASH: &str = "00000000000000000000000000000000";

impl Declarative {
    /// An empty store.
    pub fn new(catalog: &Catalog) -> Self {
        Self::with_clock(catalog, system_clock())
    }

    pub fn with_clock(catalog: &Catalog, clock: Clock) -> Self {
        let layout = Arc::new(Layout::new(&catalog.entities));
        let contents = RwLock::new(Arc::new(Contents::empty(&layout)));
        let (feed, _) = broadcast::channel(FEED);
        let shared = Arc::new(Shared { layout, clock, contents, feed });
        Self { shared, writing: Arc::default(), hash: Mutex::new(EMPTY_HASH.to_owned()) }
    }

    /// Sets what `configuration_hash` shows: 32 hex digits, set along with the configuration they stand for.
    pub fn set_hash(&self, hash: impl Into<String>) {
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner) = hash.into();
    }

    /// Replaces everything by these rows, in dependency order, all or nothing. Entities that have no rows of their own are passed
    /// over. As a change set of a clear and inserts does, but quicker.
    ///
    /// Works on the caller's thread until it is done: not for one of a runtime.
    pub fn replace(&self, rows: &[(Arc<Schema>, Vec<Record>)]) -> Result<Arc<Applied>, StoreError> {
        let writing = self.writing.clone().blocking_lock_owned();
        let shared = &self.shared;
        let version = shared.contents().version + 1;
        if let Some(contents) = whole::of(&shared.layout, rows, version, self.now()) {
            return Ok(shared.put(contents, Vec::new(), true));
        }
        let kept = rows.iter().filter(|(schema, _)| shared.layout.place(&schema.name).is_some());
        let inserts = kept.flat_map(|(schema, rows)| rows.iter().map(|row| Operation::Insert(schema.clone(), row.clone())));
        shared.apply(ChangeSet { operations: std::iter::once(Operation::Clear).chain(inserts).collect() }, writing)
    }

    fn now(&self) -> u64 {
        (self.shared.clock)()
    }

    fn place(&self, of: &Schema) -> Result<usize, StoreError> {
        self.shared.layout.place(&of.name).ok_or_else(|| StoreError::Unavailable(format!("no rows are kept of {}", of.name)))
    }
}

impl Shared {
    fn contents(&self) -> Arc<Contents> {
        // Held for the length of a pointer's copy, by readers and writers alike.
        self.contents.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn apply(&self, changes: ChangeSet, _writing: OwnedMutexGuard<()>) -> Result<Arc<Applied>, StoreError> {
        let before = self.contents();
        let version = before.version + 1;
        let mut draft = Draft::new(&self.layout, &before);
        drop(before);
        let outcome = transact::run(&self.layout, &mut draft, changes.operations, (self.clock)())?;
        Ok(self.put(draft.finish(version), outcome.changes, outcome.reload))
    }

    /// Makes these the contents and tells of them.
    fn put(&self, contents: Contents, changes: Vec<Change>, reload: bool) -> Arc<Applied> {
        let applied = Arc::new(Applied { version: contents.version, changes, reload });
        *self.contents.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(contents);
        let _ = self.feed.send(applied.clone());
        applied
    }
}

fn unavailable(fault: Fault) -> StoreError {
    match fault {
        Fault::Refused(error) => StoreError::Refused { operation: 0, error },
        Fault::Broken(cause) => StoreError::Unavailable(cause),
    }
}

impl Store for Declarative {
    fn get<'a>(&'a self, of: &'a Arc<Schema>, key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            let table = self.place(of)?;
            self.shared.contents().get(&self.shared.layout, table, &key, self.now()).map_err(unavailable)
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
            self.shared.contents().page(&self.shared.layout, table, after, size, &filter, self.now()).map_err(unavailable)
        })
    }

    fn apply(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            let writing = self.writing.clone().lock_owned().await;
            let shared = self.shared.clone();
            let applying = tokio::task::spawn_blocking(move || shared.apply(changes, writing));
            applying.await.map_err(|_| StoreError::Unavailable("the change could not be applied".to_owned()))?
        })
    }

    fn changes(&self) -> ChangeFeed {
        self.shared.feed.subscribe()
    }

    fn rehearse(&self) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>> {
        Box::pin(async move {
            // Contents are never changed, only followed by others: a copy of the pointer is a copy of everything.
            let Shared { layout, clock, .. } = &*self.shared;
            let contents = RwLock::new(self.shared.contents());
            let shared = Shared { layout: layout.clone(), clock: clock.clone(), contents, feed: broadcast::channel(FEED).0 };
            let hash = Mutex::new(self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone());
            let copy: Arc<dyn Store> = Arc::new(Self { shared: Arc::new(shared), writing: Arc::default(), hash });
            Ok(copy)
        })
    }

    fn reachable(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    fn writable(&self) -> bool {
        false
    }

    fn configuration_hash(&self) -> Option<String> {
        Some(self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn tagged<'a>(
        &'a self,
        tag: Option<&'a str>,
        after: Option<(Uuid, String)>,
        size: usize,
    ) -> BoxFuture<'a, Result<Vec<Tagged>, StoreError>> {
        Box::pin(async move {
            let contents = self.shared.contents();
            contents.tagged(&self.shared.layout, tag, after.as_ref(), size, self.now()).map_err(unavailable)
        })
    }
}
