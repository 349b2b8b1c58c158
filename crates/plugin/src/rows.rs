//! Rows of a plugin's own tables, read and written while a request waits.
//!
//! What every request needs stands in the snapshot ([`crate::Directory`]); this is for the few that make something to keep:
//! tokens, sessions. Calls are served on the control runtime, a bounded number at a time and each within [`PATIENCE`], so
//! that a slow database costs those requests their answer and no other request anything.

use std::time::{Duration, Instant};

use portcullis_schema::Record;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// How long a call may take, waiting for its turn included.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How many calls may wait for their turn.
const WAITING: usize = 1024;

/// One write; the writes of a call happen together or not at all.
#[derive(Clone, Debug)]
pub enum Write {
    /// A new row. Defaults and fields that make themselves up are filled in.
    Insert { entity: &'static str, row: Record },
    /// Changes some fields of a row that must be there.
    Update { entity: &'static str, id: Uuid, fields: Record },
    /// Removes a row; none there is fine.
    Delete { entity: &'static str, id: Uuid },
    /// Removes a row that must be there: of several who try this at the same time one succeeds.
    Take { entity: &'static str, id: Uuid },
}

/// A counter that nodes keep together, and what is to become of it.
#[derive(Clone, Debug)]
pub struct Count {
    /// Who is counted.
    pub identifier: String,
    /// The kind of window: `minute`, or `video_minute` for a named limit.
    pub period: String,
    /// When the window began, in seconds since the epoch.
    pub start: u64,
    pub service: Option<Uuid>,
    pub route: Option<Uuid>,
    /// What is added; zero only reads, less gives back.
    pub by: i32,
    /// Holds it so much already, nothing is added to any counter of the same call.
    pub bound: f64,
    /// Seconds after which a counter that is new may be forgotten.
    pub lives: u64,
}

/// Whose counters they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    Requests,
    Responses,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum RowsError {
    /// A row that must be there is not, or a row breaks a rule.
    #[error("refused: {0}")]
    Refused(String),
    /// The store failed, is too slow or has too much to do; whether anything was written is unknown.
    #[error("{0}")]
    Unavailable(String),
}

/// Rows, and the id after which more follow.
pub type RowsPage = (Vec<Record>, Option<Uuid>);

/// What a call asks for; whoever serves it answers.
pub enum Ask {
    /// The row with this value in a unique field, or with this `id`.
    Find { entity: &'static str, field: &'static str, value: String, answer: oneshot::Sender<Result<Option<Record>, RowsError>> },
    /// A page of rows by id, after the row with id `after`; those of one parent row if a reference and its id are given.
    Page {
        entity: &'static str,
        size: usize,
        after: Option<Uuid>,
        parent: Option<(String, Uuid)>,
        answer: oneshot::Sender<Result<RowsPage, RowsError>>,
    },
    /// Adds to counters, all or none; answers what each held before.
    Count { of: Counting, counts: Vec<Count>, answer: oneshot::Sender<Result<Vec<u64>, RowsError>> },
    /// Rows inserted or updated come back in order, as the store has them.
    Write { writes: Vec<Write>, answer: oneshot::Sender<Result<Vec<Record>, RowsError>> },
}

/// A call on its way to whoever serves it.
pub struct RowsCall {
    pub ask: Ask,
    /// When it is no use to anybody any more.
    pub deadline: Instant,
}

/// The handlers' side. Copies share one queue.
#[derive(Clone)]
pub struct Rows {
    calls: mpsc::Sender<RowsCall>,
    shared: bool,
}

impl Rows {
    /// Both ends. `shared` says that other nodes write to the same store, so that rows may be in it that this node's snapshot
    /// has not heard of yet.
    pub fn channel(shared: bool) -> (Self, mpsc::Receiver<RowsCall>) {
        let (calls, served) = mpsc::channel(WAITING);
        (Self { calls, shared }, served)
    }

    /// Whether the snapshot may lack rows that are in the store.
    pub fn are_shared(&self) -> bool {
        self.shared
    }

    /// The row with this value in a unique field, straight from the store.
    pub async fn find(&self, entity: &'static str, field: &'static str, value: &str) -> Result<Option<Record>, RowsError> {
        let value = value.to_owned();
        self.call(|answer| Ask::Find { entity, field, value, answer }).await
    }

    /// Rows by id, at most `size` of them.
    pub async fn page(
        &self,
        entity: &'static str,
        size: usize,
        after: Option<Uuid>,
        parent: Option<(String, Uuid)>,
    ) -> Result<RowsPage, RowsError> {
        self.call(|answer| Ask::Page { entity, size, after, parent, answer }).await
    }

    /// Writes everything in one transaction and returns once this node serves from it. Rows inserted or updated come back as
    /// the store has them, in order.
    pub async fn write(&self, writes: Vec<Write>) -> Result<Vec<Record>, RowsError> {
        self.call(|answer| Ask::Write { writes, answer }).await
    }

    /// Adds to counters in one step: to all of them or, when one holds its bound already, to none. Answers what each held
    /// before, in order.
    pub async fn count(&self, of: Counting, counts: Vec<Count>) -> Result<Vec<u64>, RowsError> {
        self.call(|answer| Ask::Count { of, counts, answer }).await
    }

    async fn call<T>(&self, ask: impl FnOnce(oneshot::Sender<Result<T, RowsError>>) -> Ask) -> Result<T, RowsError> {
        let (answer, answered) = oneshot::channel();
        let call = RowsCall { ask: ask(answer), deadline: Instant::now() + PATIENCE };
        let unavailable = |text: &str| RowsError::Unavailable(text.to_owned());
        self.calls.try_send(call).map_err(|_| unavailable("too many requests wait for the store"))?;
        answered.await.unwrap_or_else(|_| Err(unavailable("the store took too long")))
    }
}
