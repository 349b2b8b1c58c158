//! A test catalog, an empty store of either kind, and short words for what the sentences do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_schema::build::{array, foreign, foreign_cascade, id as id_field, integer, json as any, set, string};
use portcullis_schema::{ApiError, Catalog, Record, Schema};
use serde_json::Value;
use uuid::Uuid;

use crate::declarative::Declarative;
use crate::embedded::{Embedded, Settings};
use crate::postgres::tests::empty_store;
use crate::{Applied, ChangeSet, Clock, Filter, Key, Operation, Store, StoreError};

/// The n-th id, in order.
pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number << 64)
}

pub(crate) fn id_of(record: &Record) -> Uuid {
    record["id"].as_str().unwrap().parse().unwrap()
}

/// The error of a refusal; anything else fails the test.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> ApiError {
    match result {
        Err(StoreError::Refused { error, .. }) => error,
        other => panic!("not refused: {other:?}"),
    }
}

/// Houses, rooms (restrict their house), lamps (one of a kind per house and room, go with both), bulbs (go with their lamp,
/// restrict the room they are kept in), passes that expire, stamps that restrict their pass.
pub(crate) fn catalog() -> Catalog {
    let entity = |name, fields: Vec<(&'static str, portcullis_schema::Field)>| {
        let mut all = vec![("id", id_field()), ("tags", set(string()))];
        all.extend(fields);
        Schema::new(name, all)
    };
    let whisper = string().transient();
    let houses = entity("houses", vec![("name", string().unique()), ("number", integer()), ("more", any()), ("whisper", whisper)]);
    let rooms = entity("rooms", vec![("name", string().unique()), ("house", foreign("houses")), ("walls", array(string()))]);
    let references = vec![("kind", string()), ("room", foreign_cascade("rooms")), ("house", foreign_cascade("houses"))];
    let lamps = Schema { cache_key: &["kind", "room", "house"], ..entity("lamps", references) };
    let bulbs = entity("bulbs", vec![("lamp", foreign_cascade("lamps")), ("spare_in", foreign("rooms"))]);
    let passes = vec![("code", string().unique_across_ws()), ("house", foreign_cascade("houses"))];
    let passes = Schema { ttl: true, cache_key: &["code"], ..entity("passes", passes) };
    // Not of any workspace, and at most one a pass.
    let stamps = Schema { workspaceable: false, ..entity("stamps", vec![("pass", foreign("passes").unique())]) };
    Catalog { entities: [houses, rooms, lamps, bulbs, passes, stamps].map(Arc::new).to_vec(), ..Catalog::default() }
}

pub(crate) struct Kit {
    pub store: Arc<dyn Store>,
    catalog: Catalog,
    time: Arc<AtomicU64>,
    /// Text may hold any character; Postgres' may not hold NUL.
    pub holds_nul: bool,
    _directory: Option<tempfile::TempDir>,
}

/// A clock that stands still until it is moved.
pub(crate) fn clock() -> (Arc<AtomicU64>, Clock) {
    let time = Arc::new(AtomicU64::new(1_764_000_000_000));
    let read = time.clone();
    (time, Arc::new(move || read.load(Ordering::SeqCst)))
}

/// Settings that leave everything periodic to the test.
pub(crate) fn settings(path: PathBuf, clock: Clock) -> Settings {
    let never = std::time::Duration::from_secs(1_000_000);
    Settings { clock, sweep_interval: never, watch_interval: never, ..Settings::new(path) }
}

impl Kit {
    pub fn embedded() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (time, clock) = clock();
        let store = Embedded::open(settings(directory.path().join("portcullis.db"), clock), &catalog()).unwrap();
        Self { store: Arc::new(store), catalog: catalog(), time, holds_nul: true, _directory: Some(directory) }
    }

    pub fn declarative() -> Self {
        let (time, clock) = clock();
        let store = Declarative::with_clock(&catalog(), clock);
        Self { store: Arc::new(store), catalog: catalog(), time, holds_nul: true, _directory: None }
    }

    pub async fn postgres() -> Self {
        let (time, clock) = clock();
        let store = empty_store(&catalog(), clock).await;
        Self { store: Arc::new(store), catalog: catalog(), time, holds_nul: false, _directory: None }
    }

    /// Around a store that a test opened itself.
    pub fn of(store: Arc<dyn Store>, time: Arc<AtomicU64>) -> Self {
        Self { store, catalog: catalog(), time, holds_nul: true, _directory: None }
    }

    pub fn advance(&self, milliseconds: u64) {
        self.time.fetch_add(milliseconds, Ordering::SeqCst);
    }

    pub fn schema(&self, entity: &str) -> Arc<Schema> {
        self.catalog.entity(entity).unwrap().clone()
    }

    pub fn entities(&self) -> impl Iterator<Item = &Arc<Schema>> {
        self.catalog.entities.iter()
    }

    pub async fn get(&self, entity: &str, key: Key) -> Option<Record> {
        self.store.get(&self.schema(entity), key).await.unwrap().map(bare)
    }

    pub fn operation_insert(&self, entity: &str, record: Value) -> Operation {
        Operation::Insert(self.schema(entity), object(record))
    }

    pub async fn one(&self, operation: Operation) -> Result<Arc<Applied>, StoreError> {
        self.store.apply(ChangeSet { operations: vec![operation] }).await
    }

    /// Answers the record as it is now.
    pub async fn insert(&self, entity: &str, record: Value) -> Result<Record, StoreError> {
        let applied = self.one(self.operation_insert(entity, record)).await?;
        Ok(bare(applied.changes.last().unwrap().new.clone().unwrap()))
    }

    pub async fn update(&self, entity: &str, record: Value) -> Result<Arc<Applied>, StoreError> {
        self.one(Operation::Update(self.schema(entity), object(record))).await
    }

    pub async fn upsert(&self, entity: &str, record: Value) -> Result<Arc<Applied>, StoreError> {
        self.one(Operation::Upsert(self.schema(entity), object(record))).await
    }

    pub async fn delete(&self, entity: &str, id: Uuid) -> Result<Arc<Applied>, StoreError> {
        self.one(Operation::Delete(self.schema(entity), id)).await
    }

    pub async fn ids(&self, entity: &str) -> Vec<Uuid> {
        let page = self.store.page(&self.schema(entity), None, 10_000, Filter::default()).await.unwrap();
        page.rows.iter().map(id_of).collect()
    }

    /// Every row of every entity, and every tag.
    pub async fn everything(&self) -> Vec<(String, Value)> {
        let mut rows = Vec::new();
        for schema in self.entities() {
            let page = self.store.page(schema, None, 10_000, Filter::default()).await.unwrap();
            rows.extend(page.rows.into_iter().map(|row| (schema.name.to_string(), Value::from(bare(row)))));
        }
        let tags = self.store.tagged(None, None, 10_000).await.unwrap();
        rows.extend(tags.into_iter().map(|(entity, id, tag)| (entity, serde_json::json!([id, tag]))));
        rows
    }

    /// House 1 with rooms 10 and 11; lamps 20 (room 10) and 21 (room 11); bulb 30 in lamp 20.
    pub async fn street(&self) {
        let rows = [
            ("houses", serde_json::json!({ "id": id(1), "name": "mill", "tags": ["street"] })),
            ("rooms", serde_json::json!({ "id": id(10), "name": "hall", "house": { "id": id(1) }, "tags": ["street"] })),
            ("rooms", serde_json::json!({ "id": id(11), "name": "attic", "house": { "id": id(1) } })),
            ("lamps", serde_json::json!({ "id": id(20), "kind": "oil", "room": { "id": id(10) }, "tags": ["light", "street"] })),
            ("lamps", serde_json::json!({ "id": id(21), "kind": "oil", "room": { "id": id(11) } })),
            ("bulbs", serde_json::json!({ "id": id(30), "lamp": { "id": id(20) } })),
        ];
        let operations = rows.into_iter().map(|(entity, record)| self.operation_insert(entity, record)).collect();
        self.store.apply(ChangeSet { operations }).await.unwrap();
    }
}

/// Without fields that are null: records are complete, so to columns null and absent are one. What is left of a time to live
/// shows either way.
pub(crate) fn bare(mut record: Record) -> Record {
    record.retain(|name, value| name == "ttl" || !value.is_null());
    record
}

fn object(record: Value) -> Record {
    match record {
        Value::Object(record) => record,
        other => panic!("no record: {other}"),
    }
}
