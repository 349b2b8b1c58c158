//! Which plugins are configured anywhere, without counting them on each request.
//!
//! The plugins are read once; from then on the store's feed of changes keeps the counts. Reading them costs what changed
//! since the last time, whatever the number of plugins.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use portcullis_schema::{Record, Schema};
use portcullis_store::{Applied, ChangeFeed, Filter, Store, StoreError};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::sync::broadcast::error::TryRecvError;
use uuid::Uuid;

/// Rows read at a time.
const PAGE: usize = 1000;

/// Names of configured plugins, kept up to date by the change feed.
#[derive(Default)]
pub struct Enabled {
    state: Mutex<Option<Counts>>,
}

struct Counts {
    feed: ChangeFeed,
    /// By row, so that a change seen twice counts once.
    rows: HashMap<Uuid, Arc<str>>,
    names: BTreeMap<Arc<str>, usize>,
}

impl Enabled {
    /// The distinct names, sorted.
    pub async fn names(&self, store: &dyn Store, plugins: &Arc<Schema>) -> Result<Vec<String>, StoreError> {
        let mut state = self.state.lock().await;
        let current = match state.as_mut() {
            Some(counts) => counts.catch_up(),
            None => false,
        };
        if !current {
            *state = Some(Counts::load(store, plugins).await?);
        }
        let names = state.iter().flat_map(|counts| counts.names.keys());
        Ok(names.map(|name| name.to_string()).collect())
    }
}

impl Counts {
    async fn load(store: &dyn Store, plugins: &Arc<Schema>) -> Result<Self, StoreError> {
        // Subscribed before reading: what changes meanwhile is heard, and heard again at worst.
        let mut counts = Self { feed: store.changes(), rows: HashMap::new(), names: BTreeMap::new() };
        let mut after = None;
        loop {
            let page = store.page(plugins, after, PAGE, Filter::default()).await?;
            for row in &page.rows {
                counts.set(row);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        counts.catch_up();
        Ok(counts)
    }

    /// Applies what the feed has. False if some of it was lost.
    fn catch_up(&mut self) -> bool {
        loop {
            match self.feed.try_recv() {
                // A change of everything is not listed row by row.
                Ok(applied) if applied.reload => return false,
                Ok(applied) => self.apply(&applied),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return false,
            }
        }
    }

    fn apply(&mut self, applied: &Applied) {
        for change in applied.changes.iter().filter(|change| change.schema.name == "plugins") {
            match &change.new {
                Some(row) => self.set(row),
                None => self.unset(change.id),
            }
        }
    }

    fn set(&mut self, row: &Record) {
        let id = row.get("id").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
        let (Some(id), Some(name)) = (id, row.get("name").and_then(Value::as_str)) else { return };
        self.unset(id);
        let name = self.names.get_key_value(name).map_or_else(|| Arc::from(name), |(known, _)| known.clone());
        *self.names.entry(name.clone()).or_default() += 1;
        self.rows.insert(id, name);
    }

    fn unset(&mut self, id: Uuid) {
        let Some(name) = self.rows.remove(&id) else { return };
        if let Some(count) = self.names.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                self.names.remove(&name);
            }
        }
    }
}
