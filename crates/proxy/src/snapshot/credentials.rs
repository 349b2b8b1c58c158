//! Rows of plugins' own entities, found by their key or by their consumer.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_plugin::{Credential, Index};
use portcullis_schema::Record;
use serde_json::Value;
use uuid::Uuid;

use super::sharded::{Keyed, Sharded};

#[derive(Clone)]
struct ByKey(Arc<Credential>);

impl Keyed for ByKey {
    type Key = str;
    fn key(&self) -> &str {
        &self.0.key
    }
}

#[derive(Clone)]
struct OfConsumer(Uuid, Arc<[Arc<Credential>]>);

impl Keyed for OfConsumer {
    type Key = Uuid;
    fn key(&self) -> &Uuid {
        &self.0
    }
}

/// One entity's rows, kept as its [`Index`] asks.
#[derive(Clone)]
pub struct Credentials {
    pub index: Index,
    keys: Sharded<ByKey>,
    consumers: Sharded<OfConsumer>,
}

impl Credentials {
    pub fn new(index: Index) -> Self {
        Self { index, keys: Sharded::default(), consumers: Sharded::default() }
    }

    pub fn by_key(&self, key: &str) -> Option<Arc<Credential>> {
        self.keys.get(key).filter(|row| is_live(&row.0)).map(|row| row.0.clone())
    }

    pub fn of_consumer(&self, consumer: Uuid) -> Vec<Arc<Credential>> {
        let Some(row) = self.consumers.get(&consumer) else { return Vec::new() };
        row.1.iter().filter(|credential| is_live(credential)).cloned().collect()
    }

    /// Replaces a row by its new version; either may be absent.
    pub fn change(&mut self, old: Option<&Record>, new: Option<&Record>) {
        if let Some(old) = old.and_then(|record| self.read(record)) {
            if self.index.by_key && self.keys.get(&old.key).is_some_and(|row| row.0.id == old.id) {
                self.keys.remove(&old.key);
            }
            self.change_consumer(old.consumer, |rows| rows.retain(|row| row.id != old.id));
        }
        if let Some(new) = new.and_then(|record| self.read(record)).map(Arc::new) {
            if self.index.by_key {
                self.keys.insert(ByKey(new.clone()));
            }
            self.change_consumer(new.consumer, |rows| rows.push(new.clone()));
        }
    }

    fn change_consumer(&mut self, consumer: Option<Uuid>, change: impl FnOnce(&mut Vec<Arc<Credential>>)) {
        let Some(consumer) = consumer.filter(|_| self.index.by_consumer) else { return };
        let mut rows = self.consumers.get(&consumer).map(|row| row.1.to_vec()).unwrap_or_default();
        change(&mut rows);
        if rows.is_empty() {
            self.consumers.remove(&consumer);
        } else {
            self.consumers.insert(OfConsumer(consumer, rows.into()));
        }
    }

    fn read(&self, record: &Record) -> Option<Credential> {
        let id = record.get("id")?.as_str().and_then(|id| Uuid::try_parse(id).ok())?;
        let consumer = record.get("consumer").and_then(|of| of.get("id")).and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
        let key = record.get(self.index.key)?.as_str()?.into();
        let expires_at = record.get("ttl").and_then(Value::as_u64).map(|ttl| now() + ttl);
        let fields = self.index.keep_fields.then(|| Box::new(record.clone()));
        Some(Credential { id, consumer, key, expires_at, fields })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn is_live(credential: &Credential) -> bool {
    credential.expires_at.is_none_or(|at| now() < at)
}
