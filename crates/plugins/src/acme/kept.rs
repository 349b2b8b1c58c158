//! Where certificates, the account's key and answers to challenges are kept, under the names that Kong gives them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_plugin::{Env, Error, Result, Rows, RowsError, Write};
use portcullis_schema::{Record, id_of};
use serde_json::json;

use super::config::Config;
use super::remote::Remote;
use crate::redis::Redis;
use crate::redis::link::{Link, Links};

const ENTITY: &str = "acme_storage";

/// Memory of this node. Outlives configurations, ends with the process.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<String, (String, Option<Instant>)>>);

#[derive(Clone)]
pub enum Kept {
    Memory(Arc<Memory>),
    Database(Rows),
    Redis { link: Arc<Link>, namespace: String },
    Remote(Box<Remote>),
}

impl Kept {
    /// Errors for a place that nobody knows.
    pub fn of(config: &Config, env: &Env) -> Result<Self> {
        match config.storage.as_deref().unwrap_or("shm") {
            "shm" => Ok(Self::Memory(env.state.get())),
            "kong" => Ok(Self::Database(env.rows.clone())),
            "redis" => {
                let redis = &config.storage_config.redis;
                let place = Redis {
                    host: redis.host.clone(),
                    port: redis.port,
                    timeout: redis.timeout,
                    username: redis.username.clone(),
                    password: redis.password.clone(),
                    database: redis.database,
                    ssl: redis.ssl,
                    ssl_verify: redis.ssl_verify,
                    server_name: redis.server_name.clone(),
                };
                let link = env.state.get::<Links>().to(&place, env);
                Ok(Self::Redis { link, namespace: redis.extra_options.namespace.clone() })
            }
            "consul" => Ok(Self::Remote(Box::new(Remote::consul(&config.storage_config.consul, env)))),
            "vault" => Ok(Self::Remote(Box::new(Remote::vault(&config.storage_config.vault, env)))),
            other => Err(Error::from(format!("there is no storage named {other}"))),
        }
    }

    pub async fn get(&self, key: &str) -> Result<Option<String>> {
        match self {
            Self::Memory(memory) => Ok(memory.with(|entries| entries.get(key).map(|(value, _)| value.clone()))),
            Self::Database(rows) => {
                let row = rows.find(ENTITY, "key", key).await?;
                Ok(row.and_then(|row| row.get("value")?.as_str().map(str::to_owned)))
            }
            Self::Redis { link, namespace } => {
                let key = format!("{namespace}{key}");
                let run = link.run(|mut redis| async move { ::redis::cmd("GET").arg(key).query_async(&mut redis).await });
                Ok(run.await?)
            }
            Self::Remote(remote) => remote.get(key).await,
        }
    }

    /// Keeps a value for so many seconds, or for good, in the place of an older one.
    pub async fn set(&self, key: &str, value: &str, ttl: Option<u64>) -> Result<()> {
        match self {
            Self::Memory(memory) => {
                memory.with(|entries| entries.insert(key.to_owned(), (value.to_owned(), until(ttl))));
                Ok(())
            }
            Self::Database(rows) => {
                let found = rows.find(ENTITY, "key", key).await?.and_then(|row| id_of(&row));
                let fields = row(key, value, ttl);
                let write = match found {
                    Some(id) => Write::Update { entity: ENTITY, id, fields },
                    None => Write::Insert { entity: ENTITY, row: fields },
                };
                rows.write(vec![write]).await?;
                Ok(())
            }
            Self::Redis { link, namespace } => {
                let (key, value) = (format!("{namespace}{key}"), value.to_owned());
                let run = link.run(move |mut redis| async move {
                    let mut command = ::redis::cmd("SET");
                    command.arg(key).arg(value);
                    if let Some(ttl) = ttl {
                        command.arg("EX").arg(ttl);
                    }
                    command.query_async::<()>(&mut redis).await
                });
                Ok(run.await?)
            }
            Self::Remote(remote) => remote.set(key, value, ttl).await,
        }
    }

    /// Keeps a value unless there is one. Answers whether it was kept: of several nodes one is told yes.
    pub async fn add(&self, key: &str, value: &str, ttl: u64) -> Result<bool> {
        match self {
            Self::Memory(memory) => Ok(memory.with(|entries| {
                let free = !entries.contains_key(key);
                if free {
                    entries.insert(key.to_owned(), (value.to_owned(), until(Some(ttl))));
                }
                free
            })),
            Self::Database(rows) => match rows.write(vec![Write::Insert { entity: ENTITY, row: row(key, value, Some(ttl)) }]).await {
                Ok(_) => Ok(true),
                Err(RowsError::Refused(_)) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Self::Redis { link, namespace } => {
                let (key, value) = (format!("{namespace}{key}"), value.to_owned());
                let run = link.run(move |mut redis| async move {
                    let mut command = ::redis::cmd("SET");
                    command.arg(key).arg(value).arg("EX").arg(ttl).arg("NX");
                    command.query_async::<Option<String>>(&mut redis).await
                });
                Ok(run.await?.is_some())
            }
            Self::Remote(remote) => remote.add(key, value, ttl).await,
        }
    }

    pub async fn delete(&self, key: &str) -> Result<()> {
        match self {
            Self::Memory(memory) => {
                memory.with(|entries| entries.remove(key));
                Ok(())
            }
            Self::Database(rows) => {
                if let Some(id) = rows.find(ENTITY, "key", key).await?.and_then(|row| id_of(&row)) {
                    rows.write(vec![Write::Delete { entity: ENTITY, id }]).await?;
                }
                Ok(())
            }
            Self::Redis { link, namespace } => {
                let key = format!("{namespace}{key}");
                let run = link.run(|mut redis| async move { ::redis::cmd("DEL").arg(key).query_async::<()>(&mut redis).await });
                Ok(run.await?)
            }
            Self::Remote(remote) => remote.delete(key).await,
        }
    }

    /// What keys with this beginning are called behind it, sorted.
    pub async fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let keys: Vec<String> = match self {
            Self::Memory(memory) => memory.with(|entries| entries.keys().cloned().collect()),
            Self::Database(rows) => {
                let (mut keys, mut after) = (Vec::new(), None);
                loop {
                    let (page, next) = rows.page(ENTITY, 1000, after, None).await?;
                    keys.extend(page.iter().filter_map(|row| Some(row.get("key")?.as_str()?.to_owned())));
                    after = next;
                    if after.is_none() {
                        break keys;
                    }
                }
            }
            Self::Redis { link, namespace } => {
                let (pattern, skipped) = (format!("{namespace}{prefix}*"), namespace.len());
                let run = link.run(move |mut redis| async move {
                    let (mut found, mut cursor) = (Vec::<String>::new(), 0_u64);
                    loop {
                        let mut command = ::redis::cmd("SCAN");
                        command.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(100);
                        let (next, keys): (u64, Vec<String>) = command.query_async(&mut redis).await?;
                        found.extend(keys);
                        cursor = next;
                        if cursor == 0 {
                            return Ok(found);
                        }
                    }
                });
                run.await?.iter().filter_map(|key| key.get(skipped..).map(str::to_owned)).collect()
            }
            Self::Remote(remote) => remote.names().await?,
        };
        let mut names: Vec<String> = keys.iter().filter_map(|key| key.strip_prefix(prefix).map(str::to_owned)).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl Memory {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, (String, Option<Instant>)>) -> T) -> T {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        entries.retain(|_, (_, until)| until.is_none_or(|until| now < until));
        work(&mut entries)
    }
}

fn until(ttl: Option<u64>) -> Option<Instant> {
    ttl.map(|seconds| Instant::now() + Duration::from_secs(seconds))
}

fn row(key: &str, value: &str, ttl: Option<u64>) -> Record {
    let mut row = Record::from_iter([("key".to_owned(), json!(key)), ("value".to_owned(), json!(value))]);
    row.extend(ttl.map(|ttl| ("ttl".to_owned(), ttl.into())));
    row
}
