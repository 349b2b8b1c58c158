//! Rows between client and store: found by what a path says, prepared by their schema, written, and shown.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use portcullis_schema::{ApiError, Catalog, Op, Record, Schema};
use portcullis_store::{Applied, ChangeSet, Key, Operation, Store};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::answer::Refusal;
use crate::call::Body;
use crate::enabled::Enabled;
use crate::table::Table;
use crate::{AdminState, Node, Settings, Writer, overrides, references};

/// What handlers work with. A copy works on the same things, unless some of them are replaced.
#[derive(Clone)]
pub struct Admin {
    pub catalog: Arc<Catalog>,
    pub store: Arc<dyn Store>,
    pub writer: Arc<dyn Writer>,
    pub node: Arc<dyn Node>,
    pub settings: Settings,
    pub enabled: Arc<Enabled>,
    /// Every path of this API, sorted.
    pub patterns: Arc<[String]>,
    /// What `/openapi.json` answers, once it has been asked for.
    pub document: Arc<OnceLock<Bytes>>,
    /// Held from reading a row until its changed form is written, so that two PATCHes never undo each other.
    pub editing: Arc<Mutex<()>>,
    /// Held while a whole configuration is being loaded.
    pub loading: Arc<Mutex<()>>,
}

/// How a path names a row.
#[derive(Clone, Debug)]
pub enum Address {
    Id(Uuid),
    /// By a unique field, usually the name.
    Named(String, String),
}

impl Address {
    /// Reads a path segment. Errors with code 10 if it cannot be such a name, with code 1 if rows only have ids.
    pub fn of(schema: &Schema, text: &str) -> Result<Self, ApiError> {
        if let Some(id) = uuid(text) {
            return Ok(Self::Id(id));
        }
        // A key that is only unique below a parent names nothing at the top.
        let unique = |key: &&str| schema.field(key).is_some_and(|field| field.unique);
        let Some(key) = schema.endpoint_key.filter(unique) else {
            return Err(ApiError::invalid_primary_key(record(json!({ "id": "expected a valid UUID" }))));
        };
        let complaint = schema.field(key).and_then(|field| field.check(&Value::from(text)).err());
        match complaint {
            Some(Value::String(complaint)) => Err(ApiError::invalid_unique(key, complaint)),
            _ => Ok(Self::Named(key.to_owned(), text.to_owned())),
        }
    }

    fn key(&self) -> Key {
        match self {
            Self::Id(id) => Key::Id(*id),
            Self::Named(field, value) => Key::Unique(field.clone(), value.as_str().into()),
        }
    }

    /// The field that names the row, for messages; none for an id.
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Id(_) => None,
            Self::Named(field, _) => Some(field),
        }
    }

    /// Code 6: nothing is at this address.
    pub fn not_found(&self) -> ApiError {
        match self {
            Self::Id(id) => ApiError::not_found(record(json!({ "id": id }))),
            Self::Named(field, value) => ApiError::not_found_by(record(json!({ field: value }))),
        }
    }
}

/// A UUID in its usual spelling, in either case; nothing else is taken for an id.
pub fn uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 { None } else { Uuid::try_parse(text).ok() }
}

/// The id of a row.
pub fn id_of(row: &Record) -> Result<Uuid, Refusal> {
    let id = row.get("id").and_then(Value::as_str).and_then(uuid);
    id.ok_or_else(|| Refusal::internal("a row without an id"))
}

/// The id that a foreign field holds, if it holds one.
pub fn foreign_id(row: &Record, field: &str) -> Option<Uuid> {
    row.get(field)?.get("id")?.as_str().and_then(uuid)
}

/// The fields of a JSON object.
pub fn record(value: Value) -> Record {
    match value {
        Value::Object(fields) => fields,
        _ => Record::new(),
    }
}

/// Seconds since the epoch.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Admin {
    pub fn new(state: AdminState) -> Self {
        let AdminState { catalog, store, writer, node, settings, .. } = state;
        Self {
            catalog,
            store,
            writer,
            node,
            settings,
            enabled: Arc::default(),
            patterns: Arc::default(),
            document: Arc::default(),
            editing: Arc::default(),
            loading: Arc::default(),
        }
    }

    pub fn with_patterns(mut self, table: &Table) -> Self {
        self.patterns = table.patterns().into_iter().map(str::to_owned).collect();
        self
    }

    /// Whether rows are written one by one, which they are where there is a database.
    pub fn database(&self) -> bool {
        self.store.writable()
    }

    /// A schema by name. Its absence is a fault of ours: the catalog has no such entity.
    pub fn schema(&self, name: &str) -> Result<&Arc<Schema>, Refusal> {
        self.catalog.entity(name).ok_or_else(|| Refusal::internal(format!("no entity named {name}")))
    }

    pub async fn editing(&self) -> MutexGuard<'_, ()> {
        self.editing.lock().await
    }

    /// The fields of a body, those of a form typed by the schema.
    pub fn typed(&self, schema: &Schema, body: &Body, existing: Option<&Record>) -> Record {
        if !body.form {
            return body.fields.clone();
        }
        let mut fields = self.catalog.infer(schema, body.fields.clone(), existing);
        if schema.ttl
            && let Some(ttl) = fields.get_mut("ttl")
        {
            *ttl = portcullis_schema::infer::infer(&portcullis_schema::build::number(), ttl.take());
        }
        fields
    }

    /// The row at an address.
    pub async fn get(&self, schema: &Arc<Schema>, address: &Address) -> Result<Option<Record>, Refusal> {
        Ok(self.store.get(schema, address.key()).await?)
    }

    pub async fn get_by_id(&self, schema: &Arc<Schema>, id: Uuid) -> Result<Option<Record>, Refusal> {
        Ok(self.store.get(schema, Key::Id(id)).await?)
    }

    /// The row that a path segment names. Certificates are also found by the names they serve.
    pub async fn find(&self, schema: &Arc<Schema>, text: &str) -> Result<Option<Record>, Refusal> {
        if schema.name == "certificates" && uuid(text).is_none() {
            return overrides::certificates::named(self, text).await;
        }
        self.get(schema, &Address::of(schema, text)?).await
    }

    /// Checks what an entity has checked before its schema, resolves references, then checks and completes the record.
    pub async fn prepared(&self, schema: &Arc<Schema>, mut input: Record, op: Op, existing: Option<&Record>) -> Result<Record, Refusal> {
        overrides::admit(self, schema, &mut input, op, existing).await?;
        references::resolve(self, schema, &mut input).await?;
        Ok(self.catalog.prepare(schema, input, op, existing, now())?)
    }

    /// Code 12, unless rows can be written here. `action` is what was asked: create, update, remove.
    pub fn must_write(&self, action: &str, schema: &Schema, by: Option<&str>) -> Result<(), ApiError> {
        if self.database() {
            return Ok(());
        }
        let by = by.map(|field| format!(" by '{field}'")).unwrap_or_default();
        Err(ApiError::unsupported(format!("cannot {action} '{}' entities{by} when not using a database", schema.name)))
    }

    pub async fn apply(&self, operations: Vec<Operation>) -> Result<Arc<Applied>, Refusal> {
        Ok(self.writer.write(ChangeSet { operations }).await?)
    }

    /// Writes one row and gives it back as the store has it.
    pub async fn write(&self, schema: &Arc<Schema>, operation: Operation) -> Result<Record, Refusal> {
        let given = match &operation {
            Operation::Insert(_, row) | Operation::Update(_, row) | Operation::Upsert(_, row) => row.clone(),
            _ => Record::new(),
        };
        let id = id_of(&given)?;
        let applied = self.apply(vec![operation]).await?;
        let stored = applied.changes.iter().find(|change| change.id == id && change.schema.name == schema.name);
        Ok(stored.and_then(|change| change.new.clone()).unwrap_or(given))
    }

    /// A row as clients see it.
    pub fn shown(&self, schema: &Schema, row: Record) -> Value {
        let mut row = self.catalog.shown(schema, row);
        for (name, _) in schema.fields.iter().filter(|(_, field)| field.transient) {
            row.entry(name.as_ref()).or_insert(Value::Null);
        }
        let lasting = || row.get("ttl").and_then(Value::as_f64).is_some_and(|ttl| ttl > 0.0);
        if schema.ttl && !lasting() {
            match self.database() {
                true => row.insert("ttl".to_owned(), Value::Null),
                false => row.remove("ttl"),
            };
        }
        Value::Object(row)
    }
}
