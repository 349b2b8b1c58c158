//! `ngx.shared`: values that all worker threads see, bounded in bytes.
//!
//! Each dictionary has a lock of its own, held for as long as a look-up or a change takes. Whoever needs room in a full one
//! takes that of expired values first, then of those that were written longest ago.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mlua::{IntoLua, Lua, LuaString, Table, Value};

use crate::settings::Settings;

/// Dictionaries there may be.
const DICTIONARIES: usize = 256;
/// What a value costs beside its bytes.
const OVERHEAD: usize = 96;
/// Values that make room for one at most.
const EVICTED: usize = 30;

#[derive(Clone)]
enum Held {
    Text(Vec<u8>),
    Number(f64),
    Flag(bool),
    List(VecDeque<Vec<u8>>),
}

impl Held {
    fn bytes(&self) -> usize {
        match self {
            Held::Text(text) => text.len(),
            Held::Number(_) | Held::Flag(_) => 0,
            Held::List(list) => list.iter().map(|text| text.len() + OVERHEAD / 2).sum(),
        }
    }
}

struct Entry {
    value: Held,
    until: Option<Instant>,
    flags: u32,
    /// When it was written, counted in writes.
    written: u64,
}

impl Entry {
    fn is_live(&self) -> bool {
        self.until.is_none_or(|until| until > Instant::now())
    }
}

/// One dictionary.
struct Dictionary {
    entries: HashMap<Vec<u8>, Entry>,
    /// Keys by when they were written.
    order: BTreeMap<u64, Vec<u8>>,
    writes: u64,
    bytes: usize,
    capacity: usize,
    /// No value expires before; none: none ever does. Spares a full dictionary the look at every value on each write.
    soonest: Option<Instant>,
}

impl Dictionary {
    fn live(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.is_live())
    }

    fn live_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        self.entries.get_mut(key).filter(|entry| entry.is_live())
    }

    /// Notes when a value expires.
    fn expires(&mut self, until: Option<Instant>) {
        self.soonest = self.soonest.into_iter().chain(until).min();
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= key.len() + entry.value.bytes() + OVERHEAD;
            self.order.remove(&entry.written);
        }
    }

    /// Keeps a value. Answers whether others that still lived had to go for it; errors if there is no room.
    fn put(&mut self, key: &[u8], value: Held, until: Option<Instant>, flags: u32, safe: bool) -> Result<bool, &'static str> {
        self.remove(key);
        let wanted = key.len() + value.bytes() + OVERHEAD;
        if wanted > self.capacity {
            return Err("no memory");
        }
        let mut forced = false;
        if self.bytes + wanted > self.capacity {
            self.sweep(0);
        }
        let mut gone = 0;
        while self.bytes + wanted > self.capacity {
            if safe || gone >= EVICTED {
                return Err("no memory");
            }
            let Some((_, oldest)) = self.order.pop_first() else { return Err("no memory") };
            self.remove(&oldest);
            gone += 1;
            forced = true;
        }
        self.expires(until);
        self.writes += 1;
        self.bytes += wanted;
        self.order.insert(self.writes, key.to_vec());
        self.entries.insert(key.to_vec(), Entry { value, until, flags, written: self.writes });
        Ok(forced)
    }

    /// Lets go of expired values, at most so many (0: all); answers how many.
    fn sweep(&mut self, most: usize) -> usize {
        if self.soonest.is_none_or(|soonest| soonest > Instant::now()) {
            return 0;
        }
        let most = if most == 0 { usize::MAX } else { most };
        let expired = self.entries.iter().filter(|(_, entry)| !entry.is_live()).map(|(key, _)| key.clone());
        let expired: Vec<Vec<u8>> = expired.take(most).collect();
        expired.iter().for_each(|key| self.remove(key));
        self.soonest = self.entries.values().filter_map(|entry| entry.until).min();
        expired.len()
    }
}

/// All dictionaries of the process, by name.
#[derive(Default)]
pub struct Shared {
    all: RwLock<HashMap<String, Arc<Mutex<Dictionary>>>>,
    sizes: Mutex<HashMap<String, usize>>,
}

impl Shared {
    /// How many bytes a dictionary of this name may take, from now on until it is first used.
    pub fn size(&self, name: &str, bytes: usize) {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bytes);
    }

    fn with<R>(&self, name: &str, f: impl FnOnce(&mut Dictionary) -> R) -> mlua::Result<R> {
        let known = self.all.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let dictionary = match known {
            Some(dictionary) => dictionary,
            None => self.made(name)?,
        };
        let mut dictionary = dictionary.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(f(&mut dictionary))
    }

    fn made(&self, name: &str) -> mlua::Result<Arc<Mutex<Dictionary>>> {
        let capacity = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or_else(|| usual(name));
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= DICTIONARIES && !all.contains_key(name) {
            return Err(mlua::Error::runtime("too many shared dictionaries"));
        }
        let fresh = || Dictionary { entries: HashMap::new(), order: BTreeMap::new(), writes: 0, bytes: 0, capacity, soonest: None };
        Ok(all.entry(name.to_owned()).or_insert_with(|| Arc::new(Mutex::new(fresh()))).clone())
    }
}

/// The bytes that Kong gives a dictionary of this name.
fn usual(name: &str) -> usize {
    let mebibytes = match name {
        "kong_core_db_cache" | "kong_db_cache" | "kong_vaults" | "kong_secrets" => 128,
        "kong_core_db_cache_miss" | "kong_db_cache_miss" | "kong_rate_limiting_counters" => 12,
        "kong_locks" => 8,
        _ => 5,
    };
    mebibytes << 20
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

fn until(seconds: Option<f64>) -> Option<Instant> {
    seconds.filter(|seconds| *seconds > 0.0).map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.min(1e9)))
}

pub fn add(lua: &Lua, native: &Table, settings: &Arc<Settings>) -> mlua::Result<()> {
    let shared = settings.shared.clone();
    // A value, its flags, and whether it has expired.
    native.set(
        "shared_get",
        lua.create_function(move |lua, (name, key, stale): (String, LuaString, Option<bool>)| {
            let found = shared.with(&name, |all| {
                let entry = all.entries.get(&*key.as_bytes())?;
                let live = entry.is_live();
                (live || stale.unwrap_or(false)).then(|| (entry.value.clone(), entry.flags, !live))
            })?;
            Ok(match found {
                None => (Value::Nil, Value::Nil, false),
                Some((Held::List(_), ..)) => (Value::Nil, Value::String(lua.create_string("value is a list")?), false),
                Some((value, flags, stale)) => {
                    let value = match value {
                        Held::Text(bytes) => lua.create_string(bytes)?.into_lua(lua)?,
                        Held::Number(number) => Value::Number(number),
                        Held::Flag(flag) => Value::Boolean(flag),
                        Held::List(_) => Value::Nil,
                    };
                    (value, if flags == 0 { Value::Nil } else { Value::Integer(flags.into()) }, stale)
                }
            })
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_set",
        lua.create_function(
            move |_, (name, key, value, ttl, flags, mode): (String, LuaString, Value, Option<f64>, Option<u32>, String)| {
                let key = key.as_bytes();
                if key.is_empty() {
                    return Ok((Some("empty key"), false));
                }
                if key.len() > 65_535 {
                    return Ok((Some("key too long"), false));
                }
                let value = match value {
                    Value::Nil => None,
                    value => match held(&value) {
                        Some(value) => Some(value),
                        None => return Ok((Some("bad value type"), false)),
                    },
                };
                let (mode, safe) = match mode.strip_prefix("safe_") {
                    Some(mode) => (mode, true),
                    None => (mode.as_str(), false),
                };
                shared.with(&name, |all| {
                    let exists = all.live(&key).is_some();
                    match (mode, value) {
                        ("add", _) if exists => (Some("exists"), false),
                        ("replace", _) if !exists => (Some("not found"), false),
                        (_, None) => {
                            all.remove(&key);
                            (None, false)
                        }
                        (_, Some(value)) => match all.put(&key, value, until(ttl), flags.unwrap_or(0), safe) {
                            Ok(forced) => (None, forced),
                            Err(problem) => (Some(problem), false),
                        },
                    }
                })
            },
        )?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_increase",
        lua.create_function(move |_, (name, key, by, start, ttl): (String, LuaString, f64, Option<f64>, Option<f64>)| {
            let key = key.as_bytes();
            shared.with(&name, |all| match all.live_mut(&key) {
                Some(Entry { value: Held::Number(number), .. }) => {
                    *number += by;
                    (Some(*number), None)
                }
                Some(_) => (None, Some("not a number")),
                None => match start {
                    None => (None, Some("not found")),
                    Some(start) => match all.put(&key, Held::Number(start + by), until(ttl), 0, false) {
                        Ok(_) => (Some(start + by), None),
                        Err(problem) => (None, Some(problem)),
                    },
                },
            })
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_expire",
        lua.create_function(move |_, (name, key, ttl): (String, LuaString, f64)| {
            shared.with(&name, |all| {
                let until = until(Some(ttl));
                let found = all.live_mut(&key.as_bytes()).map(|entry| entry.until = until).is_some();
                all.expires(until);
                found
            })
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_ttl",
        lua.create_function(move |_, (name, key): (String, LuaString)| {
            shared.with(&name, |all| {
                let entry = all.live(&key.as_bytes())?;
                Some(entry.until.map_or(0.0, |until| until.saturating_duration_since(Instant::now()).as_secs_f64()))
            })
        })?,
    )?;
    add_lists(lua, native, settings)?;
    add_whole(lua, native, settings)
}

/// What concerns dictionaries as a whole.
fn add_whole(lua: &Lua, native: &Table, settings: &Arc<Settings>) -> mlua::Result<()> {
    let shared = settings.shared.clone();
    native.set(
        "shared_keys",
        lua.create_function(move |lua, (name, max): (String, usize)| {
            let keys: Vec<Vec<u8>> = shared.with(&name, |all| {
                let live = all.entries.iter().filter(|(_, entry)| entry.is_live()).map(|(key, _)| key.clone());
                live.take(if max == 0 { usize::MAX } else { max }).collect()
            })?;
            keys.into_iter().map(|key| lua.create_string(key)).collect::<mlua::Result<Vec<_>>>()
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_clear",
        lua.create_function(move |_, name: String| {
            shared.with(&name, |all| {
                all.entries.clear();
                all.order.clear();
                all.bytes = 0;
            })
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_sweep",
        lua.create_function(move |_, (name, most): (String, Option<usize>)| shared.with(&name, |all| all.sweep(most.unwrap_or(0))))?,
    )?;
    let shared = settings.shared.clone();
    // The bytes it may take, and those that are left.
    native.set(
        "shared_room",
        lua.create_function(move |_, name: String| shared.with(&name, |all| (all.capacity, all.capacity.saturating_sub(all.bytes))))?,
    )
}

/// Lists in dictionaries.
fn add_lists(lua: &Lua, native: &Table, settings: &Arc<Settings>) -> mlua::Result<()> {
    let shared = settings.shared.clone();
    native.set(
        "shared_push",
        lua.create_function(move |_, (name, key, value, front): (String, LuaString, LuaString, bool)| {
            let (key, value) = (key.as_bytes(), value.as_bytes().to_vec());
            shared.with(&name, |all| {
                let more = value.len() + OVERHEAD / 2;
                let full = all.bytes + more > all.capacity;
                match all.live_mut(&key) {
                    None => match all.put(&key, Held::List(VecDeque::from([value])), None, 0, true) {
                        Ok(_) => (Some(1), None),
                        Err(problem) => (None, Some(problem)),
                    },
                    Some(Entry { value: Held::List(_), .. }) if full => (None, Some("no memory")),
                    Some(Entry { value: Held::List(list), .. }) => {
                        if front {
                            list.push_front(value);
                        } else {
                            list.push_back(value);
                        }
                        let length = list.len();
                        all.bytes += more;
                        (Some(length), None)
                    }
                    Some(_) => (None, Some("value not a list")),
                }
            })
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_pop",
        lua.create_function(move |lua, (name, key, front): (String, LuaString, bool)| {
            let key = key.as_bytes();
            let popped = shared.with(&name, |all| {
                let Some(entry) = all.live_mut(&key) else { return Ok(None) };
                let Held::List(list) = &mut entry.value else { return Err("value not a list") };
                let popped = if front { list.pop_front() } else { list.pop_back() };
                let empty = list.is_empty();
                all.bytes -= popped.as_ref().map_or(0, |text| text.len() + OVERHEAD / 2);
                if empty {
                    all.remove(&key);
                }
                Ok(popped)
            })?;
            match popped {
                Ok(popped) => Ok((super::optional(lua, popped)?, None)),
                Err(problem) => Ok((Value::Nil, Some(problem))),
            }
        })?,
    )?;
    let shared = settings.shared.clone();
    native.set(
        "shared_length",
        lua.create_function(move |_, (name, key): (String, LuaString)| {
            shared.with(&name, |all| match all.live(&key.as_bytes()) {
                None => (Some(0), None),
                Some(Entry { value: Held::List(list), .. }) => (Some(list.len()), None),
                Some(_) => (None, Some("value not a list")),
            })
        })?,
    )
}
