//! What a commit tells other nodes: rows of `cluster_events`, written in its own transaction, and a notification that rings.
//!
//! A row on our own channel lists the rows that changed; our nodes read those again. Rows on Kong's channels say the same in
//! cache keys, for nodes of its kind on the same database.

use std::collections::HashSet;

use deadpool_postgres::Transaction;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Shared;
use crate::layout::{Table, referenced};
use crate::{Change, Record};

/// What is listened to. A notification carries the id of a row of `cluster_events`.
pub(super) const NOTIFIED: &str = "portcullis";
/// Our channel in `cluster_events`.
pub(super) const CHANNEL: &str = "portcullis:changes";
/// Kong's channels for keys of its two caches: that of what its core is made of, and that of everything else.
pub(super) const CORE_KEYS: &str = "invalidations_kong_core_db_cache";
pub(super) const KEYS: &str = "invalidations";
/// What Kong keeps in the cache of its core.
const CORE: [&str; 11] =
    ["ca_certificates", "certificates", "key_sets", "keys", "plugins", "routes", "services", "snis", "targets", "upstreams", "vaults"];
/// Seconds until an event may be forgotten; Kong's own.
pub(super) const KEPT_SECONDS: i64 = 3600;
/// Changes listed one by one; beyond, everything is read again.
const LISTED: usize = 10_000;

/// What one commit tells.
pub(super) struct Event {
    pub id: Uuid,
    /// For our nodes.
    data: String,
    /// For Kong's: channel and data.
    kong: Vec<(&'static str, String)>,
    empty: bool,
}

/// One changed row, as another node hears of it.
pub(super) struct Heard {
    pub entity: String,
    pub id: Uuid,
    /// Of the row it was, the fields that it is found by.
    pub old: Option<Record>,
    pub gone: bool,
}

impl Event {
    pub fn of(shared: &Shared, changes: &[Change], reload: bool) -> Self {
        let all = reload || changes.len() > LISTED;
        let data = if all {
            json!({ "reload": true })
        } else {
            let listed = changes.iter().map(|change| {
                let old = change.old.as_ref().and_then(|old| Some((shared.table(&change.schema.name)?, old)));
                let old = old.map(|(table, old)| identity(table, old));
                json!({ "entity": change.schema.name, "id": change.id, "old": old, "gone": change.new.is_none() })
            });
            json!({ "changes": listed.collect::<Vec<_>>() })
        };
        let mut kong = Told { shared, seen: HashSet::new(), rows: Vec::new() };
        if all {
            kong.key(CORE_KEYS, "router:version");
            kong.key(CORE_KEYS, "plugins_iterator:version");
        } else {
            changes.iter().for_each(|change| kong.change(change));
        }
        Self { id: Uuid::new_v4(), data: data.to_string(), kong: kong.rows, empty: changes.is_empty() && !reload }
    }

    pub fn is_empty(&self) -> bool {
        self.empty
    }
}

/// Reads what [`Event`] wrote; none when everything is to be read again.
pub(super) fn heard(data: &str) -> Option<Vec<Heard>> {
    let data: Value = serde_json::from_str(data).ok()?;
    data.get("changes")?.as_array()?.iter().map(heard_one).collect()
}

fn heard_one(change: &Value) -> Option<Heard> {
    Some(Heard {
        entity: change.get("entity")?.as_str()?.to_owned(),
        id: Uuid::try_parse(change.get("id")?.as_str()?).ok()?,
        old: change.get("old").and_then(Value::as_object).cloned(),
        gone: change.get("gone")?.as_bool()?,
    })
}

/// What a key on one of Kong's channels names: a table, and how its row is found.
pub(super) enum Named {
    Row(usize, By),
    /// No row, or one that another key names.
    Nothing,
    Unknown,
}

pub(super) enum By {
    Id(Uuid),
    /// The only field of the entity's cache key.
    Value(String),
    /// The text of the column `cache_key`.
    Combination(String),
}

/// Reads a key of Kong's caches: `entity:value:…:workspace`, values filled up to five.
pub(super) fn named(shared: &Shared, key: &str) -> Named {
    // What isn't kept here, versions of the router among it, says nothing about rows.
    let Some((entity, values)) = key.split_once(':') else { return Named::Nothing };
    let Some(place) = shared.layout.place(entity).filter(|_| shared.is_watched(entity)) else { return Named::Nothing };
    let table = &shared.layout.tables[place];
    let value = values.rsplit_once(':').and_then(|(values, _workspace)| values.strip_suffix("::::"));
    match (table.schema.cache_key, value) {
        // Kept under a consumer, beside the key of the row itself.
        ([_, _, ..], Some(_)) if entity == "acls" => Named::Nothing,
        ([_, _, ..], _) => Named::Row(place, By::Combination(key.to_owned())),
        ([_], Some(value)) => Named::Row(place, By::Value(value.to_owned())),
        ([], Some(value)) => match Uuid::try_parse(value) {
            Ok(id) => Named::Row(place, By::Id(id)),
            // By user name, beside the id.
            Err(_) if entity == "consumers" => Named::Nothing,
            Err(_) => Named::Unknown,
        },
        // By server name, beside the row's own.
        (_, None) if entity == "snis" => Named::Nothing,
        (_, None) => Named::Unknown,
    }
}

/// The fields a row is found by: its id, unique values and references.
fn identity(table: &Table, record: &Record) -> Record {
    let uniques = table.uniques.iter().flat_map(|unique| unique.fields.iter());
    let names = uniques.chain(table.foreigns.iter().map(|foreign| &foreign.field)).map(String::as_str);
    names.chain(["id"]).filter_map(|name| Some((name.to_owned(), record.get(name)?.clone()))).collect::<Map<_, _>>()
}

/// Gathers what Kong's nodes are told, each only once.
struct Told<'a> {
    shared: &'a Shared,
    seen: HashSet<String>,
    rows: Vec<(&'static str, String)>,
}

impl Told<'_> {
    fn key(&mut self, channel: &'static str, key: &str) {
        if self.seen.insert(key.to_owned()) {
            self.rows.push((channel, key.to_owned()));
        }
    }

    fn change(&mut self, change: &Change) {
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        let Some(place) = self.shared.layout.place(&change.schema.name) else { return };
        let shared = self.shared;
        let (table, statements) = (&shared.layout.tables[place], &shared.statements()[place]);
        let field = |record: &Record, name: &str| record.get(name).and_then(plain);
        let both = || new.into_iter().chain(old);
        let channel = if CORE.contains(&table.name()) { CORE_KEYS } else { KEYS };
        let names: &[&str] = if table.schema.cache_key.is_empty() { &["id"] } else { table.schema.cache_key };
        for record in both() {
            let values = names.iter().map(|name| field(record, name).unwrap_or_default()).collect();
            self.key(channel, &statements.key_text(values));
        }
        let operation = match (old, new) {
            (None, _) => "create",
            (_, None) => "delete",
            _ => "update",
        };
        match table.name() {
            "routes" => self.key(channel, "router:version"),
            "services" if operation == "update" => self.key(channel, "router:version"),
            "plugins" => self.key(channel, "plugins_iterator:version"),
            "snis" => both().filter_map(|record| field(record, "name")).for_each(|name| self.server_name(&name)),
            // By user name too, which is how `anonymous` may name a consumer.
            "consumers" => {
                for name in both().filter_map(|record| field(record, "username")) {
                    self.key(channel, &statements.key_text(vec![name]));
                }
            }
            // All groups of a consumer are kept under its id.
            "acls" => {
                for consumer in both().filter_map(|record| field(record, "consumer")) {
                    self.key(channel, &statements.key_text(vec![consumer]));
                }
            }
            "targets" => {
                for upstream in both().filter_map(|record| field(record, "upstream")) {
                    self.rows.push(("balancer:targets", format!("{operation}:{upstream}")));
                }
            }
            "upstreams" => {
                let name = both().find_map(|record| field(record, "name")).unwrap_or_default();
                self.rows.push(("balancer:upstreams", format!("{operation}:{}:{}:{name}", shared.described().workspace, change.id)));
            }
            _ => {}
        }
    }

    /// A server name is kept under itself and under the wildcards that cover it.
    fn server_name(&mut self, name: &str) {
        self.key(CORE_KEYS, &format!("snis:{name}"));
        if name.contains('*') {
            return;
        }
        if let Some((_, rest)) = name.split_once('.') {
            self.key(CORE_KEYS, &format!("snis:*.{rest}"));
        }
        if let Some((rest, _)) = name.rsplit_once('.') {
            self.key(CORE_KEYS, &format!("snis:{rest}.*"));
        }
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => referenced(other).map(|id| id.to_string()),
    }
}

/// Writes the event, as part of the transaction it tells of.
pub(super) async fn announce(transaction: &Transaction<'_>, shared: &Shared, event: &Event) -> Result<(), tokio_postgres::Error> {
    let ids: Vec<Uuid> = std::iter::once(event.id).chain(event.kong.iter().map(|_| Uuid::new_v4())).collect();
    let channels: Vec<&str> = std::iter::once(CHANNEL).chain(event.kong.iter().map(|(channel, _)| *channel)).collect();
    let data: Vec<&str> = std::iter::once(event.data.as_str()).chain(event.kong.iter().map(|(_, data)| data.as_str())).collect();
    // The time is that of the statement, near the commit, not of the transaction's begin.
    let sql = "INSERT INTO cluster_events (id, node_id, at, nbf, expire_at, channel, data) \
               SELECT e.id, $1, date_trunc('milliseconds', clock_timestamp()), \
                      CASE WHEN $2::float8 > 0 THEN clock_timestamp() + make_interval(secs => $2) END, \
                      clock_timestamp() + make_interval(secs => $3), e.channel, e.data \
               FROM unnest($4::uuid[], $5::text[], $6::text[]) AS e (id, channel, data)";
    let (delay, kept) = (shared.propagation.as_secs_f64(), KEPT_SECONDS as f64);
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&shared.node, &delay, &kept, &ids, &channels, &data]).await?;
    let statement = transaction.prepare_cached("SELECT pg_notify($1, $2)").await?;
    transaction.query(&statement, &[&NOTIFIED, &event.id.to_string()]).await?;
    Ok(())
}
