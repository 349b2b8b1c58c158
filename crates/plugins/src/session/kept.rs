//! Sessions kept in the database: a row each, named by the ticket in the cookie.
//!
//! A session begins when the response is on its way, where nothing can be waited for. So its row is written behind the
//! response, and until it is there this node knows the session from memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_plugin::{Request, Rows, RowsError, Write};
use portcullis_schema::{Record, id_of};
use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use super::SESSIONS;

/// How many sessions may be on their way into the database.
const ON_THE_WAY: usize = 10_000;

/// Sessions whose rows are not written yet, by name; none for those that were ended before they were.
#[derive(Default)]
pub struct OnTheWay(Mutex<HashMap<String, Option<String>>>);

impl OnTheWay {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Option<String>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sessions of an instance.
#[derive(Clone)]
pub struct Kept {
    pub rows: Rows,
    pub runtime: tokio::runtime::Handle,
    pub on_the_way: Arc<OnTheWay>,
}

/// Where a session was found.
pub enum Found {
    /// Its contents as they are kept.
    Here(Option<String>),
    /// Only the database can tell.
    Elsewhere,
}

impl Kept {
    pub fn find(&self, request: &Request, name: &str) -> Found {
        if let Some(row) = request.directory.credential(SESSIONS, name) {
            return Found::Here(row.fields.as_ref().and_then(|fields| data_of(fields)));
        }
        match self.on_the_way.with(|sessions| sessions.get(name).cloned()) {
            Some(data) => Found::Here(data),
            None if self.rows.are_shared() => Found::Elsewhere,
            None => Found::Here(None),
        }
    }

    pub async fn fetch(&self, name: &str) -> Result<Option<String>, RowsError> {
        Ok(self.rows.find(SESSIONS, "session_id", name).await?.and_then(|row| data_of(&row)))
    }

    /// Keeps a session for so many seconds (0: for ever). `before` is the name of the one it takes the place of, which lives
    /// for `stale_secs` more. Answers whether there was room.
    pub fn begin(&self, name: String, data: String, expires: Option<u64>, ttl: u64, before: Option<(Option<Uuid>, u64)>) -> bool {
        let room = self.on_the_way.with(|sessions| {
            let room = sessions.len() < ON_THE_WAY;
            if room {
                sessions.insert(name.clone(), Some(data.clone()));
            }
            room
        });
        if !room {
            warn!("too many sessions wait for the database: one was not begun");
            return false;
        }
        let kept = self.clone();
        self.runtime.spawn(async move {
            let row = json!({ "session_id": name, "data": data, "expires": expires, "ttl": (ttl > 0).then_some(ttl) });
            let Value::Object(row) = row else { return };
            let row = row.into_iter().filter(|(_, value)| !value.is_null()).collect();
            let written = kept.rows.write(vec![Write::Insert { entity: SESSIONS, row }]).await;
            let ended = kept.on_the_way.with(|sessions| sessions.remove(&name) == Some(None));
            match written {
                Ok(rows) if ended => {
                    let id = rows.first().and_then(|row| row.get("id")?.as_str()).and_then(|id| Uuid::try_parse(id).ok());
                    if let Some(id) = id {
                        kept.retire(id, 0).await;
                    }
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "a session could not be kept"),
            }
            if let Some((Some(id), stale_secs)) = before {
                kept.retire(id, stale_secs).await;
            }
        });
        true
    }

    /// Lets a row live for so many seconds more.
    async fn retire(&self, id: Uuid, seconds: u64) {
        let write = match seconds {
            0 => Write::Delete { entity: SESSIONS, id },
            seconds => Write::Update { entity: SESSIONS, id, fields: Record::from_iter([("ttl".to_owned(), seconds.into())]) },
        };
        match self.rows.write(vec![write]).await {
            // A row that is gone already has what it wants.
            Ok(_) | Err(RowsError::Refused(_)) => {}
            Err(error) => warn!(%error, "a session could not be ended"),
        }
    }

    /// Ends a session for good before this returns.
    pub async fn end(&self, row: Option<Uuid>, name: &str) -> Result<(), RowsError> {
        let waiting = self.on_the_way.with(|sessions| match sessions.get_mut(name) {
            Some(session) => {
                *session = None;
                true
            }
            None => false,
        });
        if waiting {
            return Ok(());
        }
        let id = match row {
            Some(id) => Some(id),
            None => self.rows.find(SESSIONS, "session_id", name).await?.and_then(|row| id_of(&row)),
        };
        if let Some(id) = id {
            self.rows.write(vec![Write::Delete { entity: SESSIONS, id }]).await?;
        }
        Ok(())
    }
}

fn data_of(row: &Record) -> Option<String> {
    row.get("data")?.as_str().map(str::to_owned)
}
