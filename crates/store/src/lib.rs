//! Where configuration is kept: one trait, several stores, one suite that all of them pass.
//!
//! A store holds checked [`Record`]s by entity, keeps uniqueness and references, and tells every change it made. It
//! validates nothing else: records come from `Catalog::prepare`. Built from the schemas alone; knows no entity by name.
//!
//! Every store works on its own thread or connection: nothing here runs on a worker.
//!
//! - [`embedded`]: a SQLite file (`database=embedded`)
//! - [`postgres`]: Kong's own tables (`database=postgres`)
//! - [`declarative`]: rows in memory, replaced as a whole (`database=off`)
//! - [`counters`]: what plugins count in the database
//! - `layout`: what the schemas say about keys and references, compiled once
//! - `transact`: the rules of writing, the same for every store

pub mod counters;
pub mod declarative;
pub mod embedded;
mod layout;
pub mod postgres;
#[cfg(test)]
mod suite;
mod transact;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use portcullis_schema::Record;
use portcullis_schema::{ApiError, Schema};
use serde_json::Value;
use tokio::sync::broadcast;
use uuid::Uuid;

use counters::{Counted, Counter};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a row is looked up by.
#[derive(Clone, Debug)]
pub enum Key {
    Id(Uuid),
    /// A unique field and its value, e.g. `name`.
    Unique(String, Value),
    /// All fields of the schema's cache key (`consumer` + `group` of an ACL), foreign ones as the id text or null.
    Composite(Vec<(String, Value)>),
}

/// Which rows of a collection are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Rows that reference this row: the foreign field and the id.
    pub parent: Option<(String, Uuid)>,
    /// Rows that carry these tags.
    pub tags: Option<Tags>,
}

#[derive(Clone, Debug)]
pub enum Tags {
    All(Vec<String>),
    Any(Vec<String>),
}

/// Rows in ascending order of id, and where the next page starts.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub rows: Vec<Record>,
    /// The id after which the next page starts; none on the last page.
    pub next: Option<Uuid>,
}

/// One write. Records are complete: what PATCH merges is merged before.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A new row; an existing id or unique value is a violation.
    Insert(Arc<Schema>, Record),
    /// Replaces the row with the record's id; none there is not found (code 6).
    Update(Arc<Schema>, Record),
    /// Inserts or replaces.
    Upsert(Arc<Schema>, Record),
    /// Removes a row and what cascades from it; refused when a restricting row references it. An absent row is fine.
    Delete(Arc<Schema>, Uuid),
    /// Writes nothing: the change set is refused (412) unless the row with this id is as expected when its turn comes.
    Require(Arc<Schema>, Uuid, Expected),
    /// Removes every row of every entity (`POST /config` with database=off replaces everything). Not listed row by row:
    /// see [`Applied::reload`].
    Clear,
}

/// What a change set relies on to be there.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Any row with that id.
    Present,
    /// The row as a reader was shown it. What remains of its time to live, which changes by itself, is not compared.
    Unchanged(Record),
}

/// Operations applied in one transaction: all or nothing.
#[derive(Clone, Debug, Default)]
pub struct ChangeSet {
    pub operations: Vec<Operation>,
}

/// What happened to one row.
#[derive(Clone, Debug)]
pub struct Change {
    pub schema: Arc<Schema>,
    pub id: Uuid,
    pub old: Option<Record>,
    pub new: Option<Record>,
}

/// A committed change set: every row it touched, cascades included, in order.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Grows with each committed change set of this store.
    pub version: u64,
    pub changes: Vec<Change>,
    /// More happened than `changes` lists: everything was replaced, or another process wrote. Read all rows anew.
    pub reload: bool,
}

/// Milliseconds since the epoch: what times to live are measured with.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's own clock.
pub fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The client's fault, in Kong's words; which operation of the change set it was.
    #[error("{error}")]
    Refused { operation: usize, error: ApiError },
    /// The store cannot be reached or failed; nothing was changed. Clients see a body without the cause.
    #[error("{0}")]
    Unavailable(String),
}

/// How long a rehearsal may hold up writers.
pub const REHEARSAL: Duration = Duration::from_secs(10);

/// Hears of every committed change set, in order; a subscriber that falls behind is told so and reloads.
pub type ChangeFeed = broadcast::Receiver<Arc<Applied>>;

/// Gets rows of one entity after the other.
pub type TakeRows<'a> = &'a mut (dyn FnMut(&Arc<Schema>, Vec<Record>) + Send);

/// Rows that [`Store::everything`] hands over at a time.
const ROWS: usize = 1000;

/// What a database says of itself (Kong's table `parameters`), by key.
pub type Parameters = Vec<(String, String)>;

/// A tag of a row: entity name, id, tag.
pub type Tagged = (String, Uuid, String);

pub trait Store: Send + Sync {
    fn get<'a>(&'a self, of: &'a Arc<Schema>, key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>>;
    /// At most `size` rows after the row with id `after`.
    fn page<'a>(&'a self, of: &'a Arc<Schema>, after: Option<Uuid>, size: usize, filter: Filter)
    -> BoxFuture<'a, Result<Page, StoreError>>;
    /// As [`Store::get`] for who can do with what was there a moment ago: a replica may answer.
    fn get_replicated<'a>(&'a self, of: &'a Arc<Schema>, key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        self.get(of, key)
    }
    /// As [`Store::page`] for who can do with what was there a moment ago: a replica may answer.
    fn page_replicated<'a>(
        &'a self,
        of: &'a Arc<Schema>,
        after: Option<Uuid>,
        size: usize,
        filter: Filter,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.page(of, after, size, filter)
    }
    /// One transaction, all or nothing.
    fn apply(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>>;
    fn changes(&self) -> ChangeFeed;
    /// A copy to try changes on: whoever holds it reads what it was given, nobody else does, and nothing of it is kept. It may
    /// hold up other writers until it is dropped, and ends by itself after [`REHEARSAL`].
    fn rehearse(&self) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable("this store cannot rehearse changes".to_owned())) })
    }
    /// Every row of these entities as of one moment (where the store can tell moments apart), a page at a time, in the order
    /// the entities are given in.
    fn everything<'a>(&'a self, of: &'a [Arc<Schema>], take: TakeRows<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            for schema in of {
                let mut after = None;
                loop {
                    let page = self.page(schema, after, ROWS, Filter::default()).await?;
                    after = page.next;
                    take(schema, page.rows);
                    if after.is_none() {
                        break;
                    }
                }
            }
            Ok(())
        })
    }
    /// The default workspace's id, where the store has one of its own.
    fn workspace(&self) -> Option<Uuid> {
        None
    }
    /// Adds to counters, in one step: all of them or, when one holds its bound already, none. Answers what each held before, in
    /// the same order. Not told to the feed.
    fn count(&self, _of: Counted, _counters: Vec<Counter>) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable("counts are kept in a database only".to_owned())) })
    }
    /// What the database says of itself, by key: `cluster_id` at least, where it says anything.
    fn parameters(&self) -> BoxFuture<'_, Result<Parameters, StoreError>> {
        Box::pin(async { Ok(Parameters::new()) })
    }
    /// Lets it say these, too, or other values. Not told to the feed.
    fn set_parameters(&self, _parameters: Parameters) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable("parameters are kept in a database only".to_owned())) })
    }
    /// Whether a statement can be run now.
    fn reachable(&self) -> BoxFuture<'_, bool>;
    /// Entities can be written one by one (false for declarative configuration, which is replaced as a whole).
    fn writable(&self) -> bool {
        true
    }
    /// 32 hex digits that change with the configuration, where the store keeps one (database=off).
    fn configuration_hash(&self) -> Option<String> {
        None
    }
    /// Rows of `tags`: (entity name, id, tag), for one tag or all, by id and, within a row, as the record lists them.
    fn tagged<'a>(
        &'a self,
        tag: Option<&'a str>,
        after: Option<(Uuid, String)>,
        size: usize,
    ) -> BoxFuture<'a, Result<Vec<Tagged>, StoreError>>;
}

impl Filter {
    /// The same without tags.
    fn untagged(&self) -> Self {
        Self { parent: self.parent.clone(), tags: None }
    }
}
