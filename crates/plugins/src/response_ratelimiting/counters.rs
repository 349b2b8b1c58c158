//! The counts of every client of this process.
//!
//! Counts live in shards by hash, each behind a lock held for a look-up. Memory is bounded: a shard that is full forgets clients
//! whose windows have all ended, and if that is not enough those whose windows end soonest.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::RandomState;
use uuid::Uuid;

use crate::rate_limiting::window::{PERIODS, Window};

const SHARDS: usize = 64;
/// Half a million clients in all.
const MAX_PER_SHARD: usize = 8192;

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Id(Uuid),
    Address(IpAddr),
    /// A client without an address (a unix socket).
    Unknown,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Id(id) => write!(f, "{id}"),
            Who::Address(address) => write!(f, "{address}"),
            Who::Unknown => f.write_str("unknown"),
        }
    }
}

/// Whose counts of what: those of a route and service are shared by all that is attached to them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub route: Option<Uuid>,
    pub service: Option<Uuid>,
    pub who: Who,
    pub limit: Arc<str>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    window: Window,
    number: f64,
}

type Counts = [Count; PERIODS.len()];

/// Every count of this process; outlives configurations.
pub struct Counters {
    shards: Vec<Mutex<HashMap<Key, Counts, RandomState>>>,
    seed: RandomState,
}

impl Default for Counters {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), seed: RandomState::default() }
    }
}

impl Counters {
    fn shard(&self, key: &Key) -> std::sync::MutexGuard<'_, HashMap<Key, Counts, RandomState>> {
        let at = (self.seed.hash_one(key) >> 32) as usize % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been used up in the current window of each period.
    pub fn used(&self, key: &Key, window: impl Fn(usize) -> Window) -> [f64; PERIODS.len()] {
        let shard = self.shard(key);
        let Some(counts) = shard.get(key) else { return [0.0; PERIODS.len()] };
        std::array::from_fn(|period| if counts[period].window == window(period) { counts[period].number } else { 0.0 })
    }

    /// Counts `number` in these windows. `now` is in seconds since the epoch.
    pub fn add(&self, key: Key, windows: impl Iterator<Item = (usize, Window)>, number: f64, now: u64) {
        let mut shard = self.shard(&key);
        if shard.len() >= MAX_PER_SHARD && !shard.contains_key(&key) {
            make_room(&mut shard, now);
        }
        let counts = shard.entry(key).or_default();
        for (period, window) in windows {
            let count = &mut counts[period];
            if count.window.start < window.start {
                *count = Count { window, number: 0.0 };
            }
            // What is late by a window is not counted in the newer one.
            if count.window == window {
                count.number += number;
            }
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

fn make_room(shard: &mut HashMap<Key, Counts, RandomState>, now: u64) {
    let end = |counts: &Counts| counts.iter().map(|count| count.window.end).max().unwrap_or_default();
    shard.retain(|_, counts| end(counts) > now);
    if shard.len() < MAX_PER_SHARD {
        return;
    }
    let mut ends: Vec<u64> = shard.values().map(end).collect();
    let surplus = ends.len() / 8;
    let (_, last, _) = ends.select_nth_unstable(surplus);
    let (last, mut left) = (*last, surplus);
    shard.retain(|_, counts| {
        let goes = left > 0 && end(counts) <= last;
        left -= usize::from(goes);
        !goes
    });
}
