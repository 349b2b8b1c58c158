//! The counts of every client of this process.
//!
//! One entry holds a client's counts of all periods, so a request costs one look-up. Entries live in shards by hash, each
//! behind a lock that is held for some tens of nanoseconds and never while waiting. Limits are exact: the comparison and
//! the count are one step under the lock, whichever thread a request runs on.
//!
//! Memory is bounded: entries whose windows have all ended go once a minute, and a shard that is full gives up an eighth of
//! its entries, those whose windows end soonest.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use foldhash::quality::{FoldHasher, RandomState};
use hashbrown::HashTable;
use uuid::Uuid;

use crate::secret::hex;

use super::window::{Counts, Hit, Limited, Window};

/// Many, so that going through a whole one takes well under a millisecond.
const SHARDS: usize = 256;
/// 2 million entries in all, some 400 MB at worst.
const MAX_ENTRIES_PER_SHARD: usize = 8192;
const SWEEP_EVERY_SECS: u64 = 60;

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who<'a> {
    Id(Uuid),
    Address(IpAddr),
    Text(&'a [u8]),
    /// A client without an address (a unix socket).
    Unknown,
}

/// Bytes of a header's value or a path that name a client as they are; of longer ones a digest does.
const LONGEST_NAME: usize = 512;

/// As others read it: in keys and columns.
impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Id(id) => write!(f, "{id}"),
            Who::Address(address) => write!(f, "{address}"),
            // Longer, it would be refused by the index of Postgres' table.
            Who::Text(text) if text.len() > LONGEST_NAME => f.write_str(&hex(digest(&SHA256, text).as_ref())),
            Who::Text(text) => f.write_str(&String::from_utf8_lossy(text)),
            Who::Unknown => f.write_str("unknown"),
        }
    }
}

#[derive(Debug)]
enum Owned {
    Id(Uuid),
    Address(IpAddr),
    Text(Box<[u8]>),
    Unknown,
}

impl Owned {
    fn borrow(&self) -> Who<'_> {
        match self {
            Owned::Id(id) => Who::Id(*id),
            Owned::Address(address) => Who::Address(*address),
            Owned::Text(text) => Who::Text(text),
            Owned::Unknown => Who::Unknown,
        }
    }
}

impl From<Who<'_>> for Owned {
    fn from(who: Who<'_>) -> Self {
        match who {
            Who::Id(id) => Owned::Id(id),
            Who::Address(address) => Owned::Address(address),
            Who::Text(text) => Owned::Text(text.into()),
            Who::Unknown => Owned::Unknown,
        }
    }
}

/// The route and service whose requests are counted together; either may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    pub route: Option<Uuid>,
    pub service: Option<Uuid>,
}

struct Entry {
    hash: u64,
    scope: Scope,
    who: Owned,
    /// When the last of its windows ends, in seconds since the epoch.
    ends: u64,
    counts: Counts,
}

#[derive(Default)]
struct Shard {
    entries: HashTable<Entry>,
    next_sweep: u64,
}

/// Every count of this process; outlives configurations.
pub struct Counters {
    shards: Vec<Mutex<Shard>>,
    max_entries_per_shard: usize,
    seed: RandomState,
}

impl Default for Counters {
    fn default() -> Self {
        Self::with_room_for(MAX_ENTRIES_PER_SHARD)
    }
}

/// A scope with the part of the hash that is the same for all its requests.
pub struct Scoped {
    scope: Scope,
    hasher: FoldHasher<'static>,
}

impl Counters {
    pub fn with_room_for(max_entries_per_shard: usize) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), max_entries_per_shard, seed: RandomState::default() }
    }

    pub fn scoped(&self, scope: Scope) -> Scoped {
        let mut hasher = self.seed.build_hasher();
        scope.hash(&mut hasher);
        Scoped { scope, hasher }
    }

    /// Counts a request of `who`, unless one of its limits is used up. `windows` are those of `limits` at `now`.
    pub fn hit(&self, scoped: &Scoped, who: Who<'_>, limits: &[Limited], windows: &[Window], now: u64) -> Hit {
        let mut hasher = scoped.hasher.clone();
        who.hash(&mut hasher);
        let hash = hasher.finish();
        let ends = windows.iter().map(|window| window.end).max().unwrap_or(now);
        // The table uses the low and the very high bits; the shard takes some from the middle.
        let shard = &self.shards[(hash >> 32) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= shard.next_sweep {
            shard.entries.retain(|entry| entry.ends > now);
            shard.next_sweep = now + SWEEP_EVERY_SECS;
        }
        let is_it = |entry: &Entry| entry.hash == hash && entry.scope == scoped.scope && entry.who.borrow() == who;
        if let Some(entry) = shard.entries.find_mut(hash, is_it) {
            entry.ends = entry.ends.max(ends);
            return entry.counts.hit(limits, windows);
        }
        if shard.entries.len() >= self.max_entries_per_shard {
            shard.make_room();
        }
        let mut entry = Entry { hash, scope: scoped.scope, who: who.into(), ends, counts: Counts::default() };
        let hit = entry.counts.hit(limits, windows);
        shard.entries.insert_unique(hash, entry, |entry| entry.hash);
        hit
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).entries.len()).sum()
    }
}

impl Shard {
    /// Removes an eighth of the entries, those whose windows end soonest.
    fn make_room(&mut self) {
        let mut ends: Vec<u64> = self.entries.iter().map(|entry| entry.ends).collect();
        let mut surplus = (ends.len() / 8).max(1).min(ends.len());
        if surplus == 0 {
            return;
        }
        let (_, last, _) = ends.select_nth_unstable(surplus - 1);
        let last = *last;
        let sooner = self.entries.iter().filter(|entry| entry.ends < last).count();
        // Of those that end together, only as many as are needed go.
        surplus -= sooner;
        self.entries.retain(|entry| {
            if entry.ends == last && surplus > 0 {
                surplus -= 1;
                return false;
            }
            entry.ends >= last
        });
    }
}
