//! Hears what other nodes committed: notifications at once, `cluster_events` every few seconds and after every absence.
//!
//! Also the one who knows whether the server is there: its connection is open all the time and asked every second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::{AsyncMessage, Client, Row};
use uuid::Uuid;

use super::connect::Connections;
use super::events::{self, By, CHANNEL, Heard, KEPT_SECONDS, NOTIFIED, Named};
use super::fault::Trouble;
use super::read::{Through, within};
use super::{Shared, Sql};
use crate::transact::Fault;
use crate::{Change, Record};

/// How far back events are looked for again: longer than a transaction takes from writing its event to its commit.
const OVERLAP: Duration = Duration::from_secs(60);
/// How long the ids of events are remembered.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How often the server is asked whether it is there.
const PING: Duration = Duration::from_secs(1);
/// How long it may take to say so: longer than a busy machine does.
const PATIENCE: Duration = Duration::from_secs(3);

/// Notifications that may wait.
const RINGS: usize = 1024;

pub(super) struct Listener {
    shared: Arc<Shared>,
    connections: Connections,
    poll_interval: Duration,
    /// Events that were worked in, or happened before this node began.
    seen: HashMap<Uuid, Instant>,
    /// Nodes of our kind: what they write on Kong's channels says nothing new.
    kin: HashSet<Uuid>,
    /// The server's time when it was last asked for events, in microseconds since 1970.
    asked_at: Option<i64>,
}

/// An open connection that listens.
pub(super) struct Session {
    client: Client,
    rings: mpsc::Receiver<Uuid>,
}

impl Listener {
    pub fn new(shared: Arc<Shared>, connections: Connections, poll_interval: Duration) -> Self {
        Self { shared, connections, poll_interval, seen: HashMap::new(), kin: HashSet::new(), asked_at: None }
    }

    /// Connects and begins to listen; the first time, what happened before is taken as known.
    pub async fn begin(&mut self) -> Result<Session, Trouble> {
        let server = self.connections.server.clone();
        let shared = self.shared.clone();
        let connecting = async {
            let tls = server.tls().map_err(Trouble::Unfit)?;
            let (client, mut connection) = server.config().connect(tls).await?;
            let (ring, rings) = mpsc::channel(RINGS);
            tokio::spawn(async move {
                let mut messages = poll_fn(move |context| connection.poll_message(context));
                // Ends with the connection; dropping the sender tells.
                while let Some(Ok(message)) = messages.next().await {
                    if let AsyncMessage::Notification(told) = message
                        && let Ok(id) = Uuid::try_parse(told.payload())
                        // What doesn't fit is found by asking: see `listen`.
                        && let Err(TrySendError::Closed(_)) = ring.try_send(id)
                    {
                        return;
                    }
                }
            });
            client.batch_execute(&format!("{}; LISTEN {NOTIFIED}", server.greeting())).await?;
            if shared.described.get().is_none() {
                // Only this task sets it.
                let _ = shared.described.set(super::describe(&client, &shared.layout).await?);
            }
            Ok(Session { client, rings })
        };
        let late = || Err(Trouble::Away("postgres: no connection within pg_timeout".to_owned()));
        let session = tokio::time::timeout(server.timeout, connecting).await.unwrap_or_else(|_| late());
        let session = session.map_err(|trouble| trouble.map(|cause| format!("{cause} ({})", server.address())))?;
        // Before anything is told: who hears of it may want to read.
        self.shared.reachable.store(true, Ordering::Release);
        if let Err(fault) = self.catch_up(&session.client).await {
            self.shared.reachable.store(false, Ordering::Release);
            return Err(Trouble::Away(cause(fault)));
        }
        Ok(session)
    }

    /// Listens until the store is closed, connecting anew whenever the connection is lost.
    pub async fn run(mut self, first: Option<Session>) {
        let mut session = first;
        let mut never_reached = session.is_none();
        let mut pause = Duration::from_millis(50);
        let mut said = String::new();
        loop {
            if let Some(session) = session.take() {
                let why = self.listen(session).await;
                self.shared.reachable.store(false, Ordering::Release);
                tracing::error!(cause = %why, "the database is away; serving goes on with what is known");
                pause = Duration::from_millis(50);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
            match self.begin().await {
                Ok(begun) => {
                    tracing::warn!("the database is back");
                    if std::mem::take(&mut never_reached) {
                        self.shared.tell(Vec::new(), true);
                    }
                    session = Some(begun);
                    said.clear();
                }
                // An operator has to do something about it: said once.
                Err(Trouble::Unfit(cause)) if cause != said => {
                    tracing::error!(%cause, "the database cannot be used");
                    said = cause;
                }
                Err(trouble) => tracing::debug!(cause = %trouble, "the database is still away"),
            }
        }
    }

    /// Answers why it ended.
    async fn listen(&mut self, mut session: Session) -> String {
        let mut poll = interval(self.poll_interval.max(Duration::from_millis(10)));
        let mut ping = interval(PING);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                ring = session.rings.recv() => {
                    let Some(first) = ring else { return "the connection was closed".to_owned() };
                    let mut ids = vec![first];
                    while let Ok(id) = session.rings.try_recv() {
                        ids.push(id);
                    }
                    // As many as may wait: there may have been more.
                    if ids.len() < RINGS { self.rung(&session.client, ids).await } else { self.catch_up(&session.client).await }
                }
                _ = poll.tick() => self.catch_up(&session.client).await,
                _ = ping.tick() => within(PATIENCE, session.client.batch_execute("SELECT 1")).await,
            };
            if let Err(fault) = done {
                return cause(fault);
            }
        }
    }

    /// Works in the events with these ids.
    async fn rung(&mut self, client: &Client, mut ids: Vec<Uuid>) -> Result<(), Fault> {
        ids.retain(|id| self.is_news(*id));
        if ids.is_empty() {
            return Ok(());
        }
        let sql = "SELECT id, node_id, channel, data FROM cluster_events WHERE id = ANY($1) ORDER BY at";
        let rows = within(self.connections.server.timeout, client.query(sql, &[&ids])).await?;
        self.work_in(&rows).await
    }

    /// Works in every event since the last time, and some time before it.
    async fn catch_up(&mut self, client: &Client) -> Result<(), Fault> {
        let timeout = self.connections.server.timeout;
        let now = within(timeout, client.query_one("SELECT clock_timestamp()", &[])).await?;
        let Sql::Time(now) = now.try_get(0)? else { return Ok(()) };
        let first = self.asked_at.is_none();
        let last = self.asked_at.unwrap_or(now);
        if now - last > (KEPT_SECONDS - 2 * OVERLAP.as_secs() as i64) * 1_000_000 {
            tracing::warn!("the database was away for longer than it keeps events: reading everything again");
            self.shared.tell(Vec::new(), true);
        }
        let since = Sql::Time(last - OVERLAP.as_micros() as i64 - self.shared.propagation.as_micros() as i64);
        let sql = "SELECT id, node_id, channel, data FROM cluster_events WHERE at > $1 AND (nbf IS NULL OR nbf <= $2 OR channel = $3) ORDER BY at";
        let rows = within(timeout, client.query(sql, &[&since, &Sql::Time(now), &CHANNEL])).await?;
        if first {
            let moment = Instant::now();
            for row in &rows {
                self.seen.insert(row.try_get(0)?, moment);
                if row.try_get::<_, Option<&str>>(2)? == Some(CHANNEL) {
                    self.kin.insert(row.try_get(1)?);
                }
            }
        } else {
            self.work_in(&rows).await?;
        }
        self.asked_at = Some(now);
        self.seen.retain(|_, moment| moment.elapsed() < REMEMBERED);
        Ok(())
    }

    /// Whether an event is another's and not known yet.
    fn is_news(&mut self, id: Uuid) -> bool {
        if self.shared.mine.remove(id) {
            self.seen.insert(id, Instant::now());
        }
        !self.seen.contains_key(&id)
    }

    async fn work_in(&mut self, rows: &[Row]) -> Result<(), Fault> {
        let mut heard = Vec::new();
        let mut named = Vec::new();
        let mut news = Vec::new();
        let mut reload = false;
        for row in rows {
            if row.try_get::<_, Option<&str>>(2)? == Some(CHANNEL) {
                self.kin.insert(row.try_get(1)?);
            }
        }
        for row in rows {
            let (id, node): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
            let (channel, data): (Option<&str>, Option<&str>) = (row.try_get(2)?, row.try_get(3)?);
            if !self.is_news(id) {
                continue;
            }
            news.push(id);
            // What our own nodes write on Kong's channels says nothing new.
            let from_kong = !self.kin.contains(&node) && node != self.shared.node;
            match channel.unwrap_or_default() {
                CHANNEL => match events::heard(data.unwrap_or_default()) {
                    Some(changes) => heard.extend(changes.into_iter().filter(|change| self.shared.is_watched(&change.entity))),
                    None => reload = true,
                },
                events::CORE_KEYS | events::KEYS if from_kong => match events::named(&self.shared, data.unwrap_or_default()) {
                    Named::Row(place, by) => named.push((place, by)),
                    Named::Nothing => {}
                    Named::Unknown => reload = true,
                },
                // The rows behind these are named by their keys, too.
                _ => {}
            }
        }
        if !reload && !named.is_empty() {
            // A row that isn't there was deleted, and perhaps others with it.
            match self.find(named).await? {
                Some(found) => heard.extend(found),
                None => reload = true,
            }
        }
        if reload {
            self.shared.tell(Vec::new(), true);
        } else if !heard.is_empty() {
            let _telling = self.shared.telling.lock().await;
            let changes = self.read(heard).await?;
            self.shared.tell(changes, false);
        }
        // Only now: what failed on the way is found again.
        let moment = Instant::now();
        self.seen.extend(news.into_iter().map(|id| (id, moment)));
        Ok(())
    }

    /// The rows that Kong's keys name; none if one of them is gone.
    async fn find(&self, named: Vec<(usize, By)>) -> Result<Option<Vec<Heard>>, Fault> {
        let reader = super::reader(&self.shared, Through::Pool(&self.connections));
        let mut found = Vec::with_capacity(named.len());
        for (place, by) in named {
            let table = &self.shared.layout.tables[place];
            let id = match by {
                By::Id(id) => Some(id),
                By::Value(value) => reader.id_of(place, table.schema.cache_key.first().copied().unwrap_or("id"), &value).await?,
                By::Combination(key) => reader.id_of(place, "cache_key", &key).await?,
            };
            let there = match id {
                Some(id) => reader.rows(place, &[id]).await?.pop(),
                None => None,
            };
            let Some((id, _)) = there else { return Ok(None) };
            found.push(Heard { entity: table.name().to_owned(), id, old: None, gone: false });
        }
        Ok(Some(found))
    }

    /// The changed rows as they are now, in the order they changed.
    async fn read(&self, heard: Vec<Heard>) -> Result<Vec<Change>, Fault> {
        let shared = &self.shared;
        let reader = super::reader(shared, Through::Pool(&self.connections));
        let mut wanted: HashMap<usize, Vec<Uuid>> = HashMap::new();
        for change in heard.iter().filter(|change| !change.gone) {
            if let Some(place) = shared.layout.place(&change.entity) {
                wanted.entry(place).or_default().push(change.id);
            }
        }
        let mut rows: HashMap<(usize, Uuid), Record> = HashMap::new();
        for (place, ids) in wanted {
            rows.extend(reader.rows(place, &ids).await?.into_iter().map(|(id, row)| ((place, id), row)));
        }
        let mut changes = Vec::with_capacity(heard.len());
        for change in heard {
            let Some(place) = shared.layout.place(&change.entity) else { continue };
            let new = if change.gone { None } else { rows.get(&(place, change.id)).cloned() };
            // What is read may be newer than what was told, so a row that was told as new may be known already.
            let old = change.old.or_else(|| new.clone());
            changes.push(Change { schema: shared.layout.tables[place].schema.clone(), id: change.id, old, new });
        }
        Ok(changes)
    }
}

fn cause(fault: Fault) -> String {
    match fault {
        Fault::Refused(error) => error.to_string(),
        Fault::Broken(cause) => cause,
    }
}
