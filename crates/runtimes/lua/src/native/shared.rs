//! `ngx.shared`: values that all worker threads see, bounded in number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mlua::{IntoLua, Lua, Table, Value};

use crate::settings::Settings;

/// Keys that one dictionary holds.
const KEYS: usize = 100_000;

#[derive(Clone)]
enum Held {
    Text(Vec<u8>),
    Number(f64),
    Flag(bool),
}

struct Entry {
    value: Held,
    until: Option<Instant>,
}

impl Entry {
    fn is_live(&self) -> bool {
        self.until.is_none_or(|until| until > Instant::now())
    }
}

type Dictionary = HashMap<Vec<u8>, Entry>;

/// All dictionaries of the process, by name.
#[derive(Default)]
pub struct Shared(Mutex<HashMap<String, Dictionary>>);

impl Shared {
    fn with<R>(&self, name: &str, f: impl FnOnce(&mut Dictionary) -> R) -> R {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(all.entry(name.to_owned()).or_default())
    }
}

fn held(value: &Value) -> Option<Held> {
    match value {
        Value::String(text) => Some(Held::Text(text.as_bytes().to_vec())),
        Value::Integer(number) => Some(Held::Number(*number as f64)),
        Value::Number(number) => Some(Held::Number(*number)),
        Value::Boolean(flag) => Some(Held::Flag(*flag)),
        _ => None,
    }
}

fn shown(lua: &Lua, value: Held) -> mlua::Result<Value> {
    match value {
        Held::Text(bytes) => lua.create_string(bytes)?.into_lua(lua),
        Held::Number(number) => Ok(Value::Number(number)),
        Held::Flag(flag) => Ok(Value::Boolean(flag)),
    }
}

fn until(seconds: Option<f64>) -> Option<Instant> {
    seconds.filter(|seconds| *seconds > 0.0).map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.min(1e9)))
}

type Bytes = mlua::LuaString;

pub fn add(lua: &Lua, native: &Table, settings: &Arc<Settings>) -> mlua::Result<()> {
    let shared = settings.shared.clone();
    native.set(
        "shared_get",
        lua.create_function(move |lua, (name, key): (String, Bytes)| {
            let value =
                shared.with(&name, |all| all.get(&*key.as_bytes()).filter(|entry| entry.is_live()).map(|entry| entry.value.clone()));
            value.map_or(Ok(Value::Nil), |value| shown(lua, value))
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_set",
        lua.create_function(move |_, (name, key, value, ttl, mode): (String, Bytes, Value, Option<f64>, String)| {
            let key = key.as_bytes().to_vec();
            let value = held(&value);
            Ok(shared.with(&name, |all| {
                let exists = all.get(&key).is_some_and(Entry::is_live);
                match (mode.as_str(), value) {
                    ("add", _) if exists => Some("exists"),
                    ("replace", _) if !exists => Some("not found"),
                    (_, None) => {
                        all.remove(&key);
                        None
                    }
                    (_, Some(value)) => {
                        if !exists && all.len() >= KEYS {
                            all.retain(|_, entry| entry.is_live());
                            if all.len() >= KEYS {
                                return Some("no memory");
                            }
                        }
                        all.insert(key, Entry { value, until: until(ttl) });
                        None
                    }
                }
            }))
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_increase",
        lua.create_function(move |_, (name, key, by, start, ttl): (String, Bytes, f64, Option<f64>, Option<f64>)| {
            let key = key.as_bytes().to_vec();
            Ok(shared.with(&name, |all| match all.get_mut(&key).filter(|entry| entry.is_live()) {
                Some(Entry { value: Held::Number(number), .. }) => {
                    *number += by;
                    (Some(*number), None)
                }
                Some(_) => (None, Some("not a number")),
                None => match start {
                    None => (None, Some("not found")),
                    Some(_) if all.len() >= KEYS => (None, Some("no memory")),
                    Some(start) => {
                        all.insert(key, Entry { value: Held::Number(start + by), until: until(ttl) });
                        (Some(start + by), None)
                    }
                },
            }))
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_expire",
        lua.create_function(move |_, (name, key, ttl): (String, Bytes, f64)| {
            Ok(shared.with(&name, |all| match all.get_mut(&*key.as_bytes()).filter(|entry| entry.is_live()) {
                Some(entry) => {
                    entry.until = until(Some(ttl));
                    true
                }
                None => false,
            }))
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_ttl",
        lua.create_function(move |_, (name, key): (String, Bytes)| {
            Ok(shared.with(&name, |all| {
                let entry = all.get(&*key.as_bytes()).filter(|entry| entry.is_live())?;
                Some(entry.until.map_or(0.0, |until| until.saturating_duration_since(Instant::now()).as_secs_f64()))
            }))
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_keys",
        lua.create_function(move |lua, (name, max): (String, usize)| {
            let keys: Vec<Vec<u8>> = shared.with(&name, |all| {
                let live = all.iter().filter(|(_, entry)| entry.is_live()).map(|(key, _)| key.clone());
                live.take(if max == 0 { usize::MAX } else { max }).collect()
            });
            keys.into_iter().map(|key| lua.create_string(key)).collect::<mlua::Result<Vec<_>>>()
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_clear",
        lua.create_function(move |_, name: String| {
            shared.with(&name, HashMap::clear);
            Ok(())
        })?,
    )
}
