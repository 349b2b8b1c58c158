//! Follows a store and keeps copies of what it holds: whole ones of what is small, else what changed.

use std::fs::OpenOptions;
use std::io::Write;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_schema::{Record, Schema};
use portcullis_store::{Applied, Change, ChangeFeed, Store};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::fingerprint::Fingerprint;
use super::form::{self, Lines, Parsed};
use super::{Copies, Whole};

/// How long changes are gathered before a copy is made.
const GATHER: Duration = Duration::from_millis(500);
/// The pause before everything is read again is so many times as long as reading it took.
const PAUSE: u32 = 9;
/// How soon it is tried again when a copy could not be made.
const AGAIN: Duration = Duration::from_secs(5);
/// A configuration of less is written whole each time, bytes: then every copy stands for itself.
const SMALL: u64 = 1 << 20;
/// Appended is until a file has grown by one so-manieth of what it began with.
const GROWTH: u64 = 4;
/// Changed rows that may wait; beyond, everything is read again.
const MOST: usize = 10_000;

/// Hears the hash of the configuration after every change.
pub type Told = Box<dyn Fn(String) + Send + Sync>;

/// What keeps the copies of one node.
pub struct Keeper {
    pub copies: Copies,
    pub store: Arc<dyn Store>,
    /// The entities whose rows belong into copies, in dependency order.
    pub entities: Vec<Arc<Schema>>,
    pub told: Told,
}

/// What is to be written.
enum Wanted {
    Nothing,
    Changes(Vec<Arc<Applied>>, usize),
    Everything,
}

impl Wanted {
    fn take(&mut self, applied: Arc<Applied>) {
        match self {
            _ if applied.reload => *self = Self::Everything,
            Self::Nothing => {
                let rows = applied.changes.len();
                *self = Self::Changes(vec![applied], rows);
            }
            Self::Changes(all, rows) => {
                *rows += applied.changes.len();
                all.push(applied);
                if *rows > MOST {
                    *self = Self::Everything;
                }
            }
            Self::Everything => {}
        }
    }

    /// Takes what is there without waiting. Answers false once there will be no more.
    fn drain(&mut self, feed: &mut ChangeFeed) -> bool {
        loop {
            match feed.try_recv() {
                Ok(applied) => self.take(applied),
                Err(TryRecvError::Lagged(_)) => *self = Self::Everything,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Closed) => return false,
            }
        }
    }

    /// Takes what comes until `deadline`, or until there is something if there is none. Answers false once there will be no more.
    async fn gather(&mut self, feed: &mut ChangeFeed, deadline: Option<Instant>) -> bool {
        loop {
            let heard = match deadline {
                Some(deadline) => match timeout_at(deadline, feed.recv()).await {
                    Ok(heard) => heard,
                    Err(_) => return true,
                },
                None if matches!(self, Self::Nothing) => feed.recv().await,
                None => return true,
            };
            match heard {
                Ok(applied) => self.take(applied),
                Err(RecvError::Lagged(_)) => *self = Self::Everything,
                Err(RecvError::Closed) => return false,
            }
        }
    }
}

/// The newest file and what it says.
struct Newest {
    number: u64,
    path: PathBuf,
    seal: String,
    /// Of what it began with.
    bytes: u64,
    appended: u64,
}

/// What has been kept so far.
#[derive(Default)]
pub(super) struct Kept {
    rows: Fingerprint,
    newest: Option<Newest>,
}

impl Keeper {
    /// Runs as long as the store. The first copy is made at once, or when a store that is away tells that it can be read.
    pub async fn follow(self) {
        let mut feed = self.store.changes();
        // Asked after the feed was joined: a store that comes back is reachable first and tells then.
        let mut wanted = if self.store.reachable().await { Wanted::Everything } else { Wanted::Nothing };
        let mut kept = Kept::default();
        let mut said = String::new();
        loop {
            if !wanted.gather(&mut feed, None).await || !wanted.gather(&mut feed, Some(Instant::now() + GATHER)).await {
                return;
            }
            if !self.store.reachable().await {
                debug!("no copy of the configuration while the database is away");
                continue;
            }
            let begun = Instant::now();
            let outcome = match mem::replace(&mut wanted, Wanted::Nothing) {
                Wanted::Changes(sets, _) if kept.may_grow() => self.append(mem::take(&mut kept), sets).await,
                _ => {
                    // What comes while it is read is worked in afterwards: it may be part of what was read, or not.
                    let mut reading = std::pin::pin!(self.whole());
                    loop {
                        tokio::select! {
                            outcome = &mut reading => break outcome,
                            heard = feed.recv() => match heard {
                                Ok(applied) => wanted.take(applied),
                                Err(RecvError::Lagged(_)) => wanted = Wanted::Everything,
                                Err(RecvError::Closed) => return,
                            },
                        }
                    }
                }
            };
            let took = begun.elapsed();
            let pause = match outcome {
                Ok(now) => {
                    kept = now;
                    (self.told)(kept.rows.text());
                    said.clear();
                    // What is appended costs little; how often everything is read again, growth decides.
                    if kept.may_grow() && !matches!(wanted, Wanted::Everything) { Duration::ZERO } else { took * PAUSE }
                }
                Err(problem) => {
                    wanted = Wanted::Everything;
                    if problem != said {
                        warn!(problem, "the last good configuration is not kept");
                        said = problem;
                    }
                    AGAIN
                }
            };
            if !wanted.gather(&mut feed, Some(Instant::now() + pause)).await || !wanted.drain(&mut feed) {
                return;
            }
        }
    }

    /// Makes a copy of what the store holds now, unless the newest says the same. Errors with one line.
    async fn whole(&self) -> Result<Kept, String> {
        let Some(workspace) = self.store.workspace() else { return Err("the database has not been read yet".to_owned()) };
        let mut whole = Whole::begin(&self.copies, workspace)?;
        let path = whole.path.clone();
        let mut rows = Fingerprint::default();
        let mut take = |schema: &Arc<Schema>, page: Vec<Record>| whole.rows(schema, &page, &mut rows);
        let read = self.store.everything(&self.entities, &mut take).await.map_err(|error| error.to_string());
        let copies = self.copies.clone();
        let finishing = read.map(|()| tokio::task::spawn_blocking(move || finish(&copies, whole, rows)));
        let written = match finishing {
            Ok(finishing) => finishing.await.unwrap_or_else(|error| Err(error.to_string())),
            Err(problem) => Err(problem),
        };
        if written.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        written
    }

    /// Appends what changed to the newest file. Errors with one line; everything is to be read again then.
    async fn append(&self, mut kept: Kept, sets: Vec<Arc<Applied>>) -> Result<Kept, String> {
        let entities = self.entities.clone();
        let appending = tokio::task::spawn_blocking(move || kept.append(&sets, &entities).map(|()| kept));
        appending.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// Moves a whole file to its place, unless the newest copy says the same and stands for itself.
pub(super) fn finish(copies: &Copies, whole: Whole, rows: Fingerprint) -> Result<Kept, String> {
    let hash = rows.text();
    let mut number = 1;
    if let Some((first, path)) = copies.files().into_iter().next() {
        let before = std::fs::read(&path).unwrap_or_default();
        number = first + 1;
        if let Ok(Parsed { states, trouble, .. }) = form::parse(&before)
            && let Some(last) = states.last()
        {
            let same = last.hash == hash && trouble.is_none();
            if same && states.len() == 1 {
                std::fs::remove_file(&whole.path).map_err(|error| form::at(&whole.path, error))?;
                let (seal, bytes) = (last.seal.to_owned(), before.len() as u64);
                return Ok(Kept { rows, newest: Some(Newest { number: last.number, path, seal, bytes, appended: 0 }) });
            }
            number = if same { last.number } else { last.number + 1 };
        }
    }
    let (path, bytes, seal) = whole.finish(copies, number, &hash)?;
    Ok(Kept { rows, newest: Some(Newest { number, path, seal, bytes, appended: 0 }) })
}

impl Kept {
    /// Whether changes are to be appended, and not everything written again.
    fn may_grow(&self) -> bool {
        self.newest.as_ref().is_some_and(|newest| newest.bytes >= SMALL && newest.appended < newest.bytes / GROWTH)
    }

    fn append(&mut self, sets: &[Arc<Applied>], entities: &[Arc<Schema>]) -> Result<(), String> {
        let Some(newest) = &mut self.newest else { return Err("there is no copy to append to".to_owned()) };
        let (mut lines, mut text) = (Lines::after(&newest.seal), Vec::new());
        let is_kept = |change: &&Change| entities.iter().any(|schema| schema.name == change.schema.name);
        for change in sets.iter().flat_map(|applied| &applied.changes).filter(is_kept) {
            let entity = &*change.schema.name;
            match &change.new {
                Some(row) if self.rows.put(entity, change.id, row) => lines.put(entity, row, &mut text),
                None if self.rows.remove(entity, change.id) => lines.remove(entity, change.id, &mut text),
                _ => {}
            }
        }
        if text.is_empty() {
            return Ok(());
        }
        let number = newest.number + 1;
        let (end, seal) = lines.end(number, &self.rows.text());
        text.extend_from_slice(end.as_bytes());
        let appended = OpenOptions::new().append(true).open(&newest.path).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        appended.map_err(|error| form::at(&newest.path, error))?;
        newest.number = number;
        newest.seal = seal;
        newest.appended += text.len() as u64;
        Ok(())
    }
}
