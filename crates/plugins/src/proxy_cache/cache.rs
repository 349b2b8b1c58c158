//! The kept responses of this process, within a fixed number of bytes.
//!
//! Entries live in shards by key, each behind a lock that is never held while waiting. What all of them take is counted in
//! one place, and room is made before a response goes in, so the bound holds at every moment. Who goes is decided shard by
//! shard: in the order they came, but one that was asked for since gets another turn. Outlives configurations.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use uuid::Uuid;

use super::key::Key;

const SHARDS: usize = 64;
/// What an entry costs beside its contents: its places in the table and in the order, lengths, pointers.
const OVERHEAD: usize = 320;

/// Name and value.
type Header = (Box<[u8]>, Box<[u8]>);

/// A response that was kept.
#[derive(Debug)]
pub struct Kept {
    pub status: u16,
    pub headers: Vec<Header>,
    pub body: Bytes,
    /// What came with the request it answered.
    pub request_body: Box<[u8]>,
    /// Seconds since the epoch when it was kept.
    pub at: u64,
    /// Seconds for which it is fresh.
    pub lifetime: f64,
    /// Seconds since the epoch from which on it is as if it had never been.
    pub gone_at: u64,
}

impl Kept {
    /// Bytes it takes, about.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        OVERHEAD + headers + self.body.len() + self.request_body.len()
    }
}

struct Place {
    kept: Arc<Kept>,
    /// Tells this entry from an earlier one under the same key.
    number: u64,
    asked_for: AtomicBool,
}

#[derive(Default)]
struct Shard {
    places: HashMap<Key, Place, FixedState>,
    /// Keys in the order they came; some may be gone already.
    order: VecDeque<(Key, u64)>,
    next: u64,
}

/// All kept responses.
pub struct Cache {
    shards: Vec<Mutex<Shard>>,
    used: AtomicUsize,
    /// Zero until the first instance told how much there may be.
    capacity: AtomicUsize,
    /// The instances there are.
    instances: Mutex<std::collections::HashMap<Uuid, Weak<()>>>,
    next_victim: AtomicUsize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            used: AtomicUsize::new(0),
            capacity: AtomicUsize::new(0),
            instances: Mutex::default(),
            next_victim: AtomicUsize::new(0),
        }
    }
}

impl Cache {
    pub fn set_capacity(&self, bytes: usize) {
        self.capacity.store(bytes, Ordering::Relaxed);
    }

    /// Bytes a single response may take at most.
    pub fn largest(&self) -> usize {
        self.capacity.load(Ordering::Relaxed) / 4
    }

    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Notes that an instance is there for as long as the returned value is held.
    pub fn register(&self, instance: Uuid) -> Arc<()> {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = instances.get(&instance).and_then(Weak::upgrade) {
            return known;
        }
        let alive = Arc::new(());
        instances.insert(instance, Arc::downgrade(&alive));
        alive
    }

    pub fn has_instance(&self, instance: Uuid) -> bool {
        let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.get(&instance).is_some_and(|known| known.strong_count() > 0)
    }

    pub fn has_instances(&self) -> bool {
        let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.values().any(|known| known.strong_count() > 0)
    }

    /// The response under a key, unless its time is over.
    pub fn get(&self, key: &Key, now: u64) -> Option<Arc<Kept>> {
        let mut shard = self.shard(key);
        let place = shard.places.get(key)?;
        if place.kept.gone_at <= now {
            self.take(&mut shard, key);
            return None;
        }
        place.asked_for.store(true, Ordering::Relaxed);
        Some(place.kept.clone())
    }

    /// Keeps a response under a key, in place of an earlier one. One that takes too much is not kept.
    pub fn put(&self, key: Key, kept: Kept) {
        let size = kept.size();
        if size > self.largest() {
            self.remove(&key);
            return;
        }
        self.remove(&key);
        if !self.reserve(size) {
            return;
        }
        let mut shard = self.shard(&key);
        shard.next += 1;
        let number = shard.next;
        let place = Place { kept: Arc::new(kept), number, asked_for: AtomicBool::new(false) };
        // Another thread may have kept one meanwhile.
        if let Some(other) = shard.places.insert(key, place) {
            self.used.fetch_sub(other.kept.size(), Ordering::Relaxed);
        }
        shard.order.push_back((key, number));
        shard.tidy();
    }

    /// Whether there was one.
    pub fn remove(&self, key: &Key) -> bool {
        let mut shard = self.shard(key);
        self.take(&mut shard, key)
    }

    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let freed: usize = shard.places.values().map(|place| place.kept.size()).sum();
            let next = shard.next;
            *shard = Shard { next, ..Shard::default() };
            self.used.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(key[31]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, shard: &mut Shard, key: &Key) -> bool {
        let Some(place) = shard.places.remove(key) else { return false };
        self.used.fetch_sub(place.kept.size(), Ordering::Relaxed);
        true
    }

    /// Takes this many bytes of the capacity, making room where there is none. False when there is nothing left to drop.
    fn reserve(&self, size: usize) -> bool {
        let capacity = self.capacity.load(Ordering::Relaxed);
        let mut empty = 0;
        loop {
            let fits = |used: usize| used.checked_add(size).filter(|total| *total <= capacity);
            if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
                return true;
            }
            let victim = self.next_victim.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let mut shard = self.shards[victim].lock().unwrap_or_else(PoisonError::into_inner);
            match shard.oldest() {
                Some(key) => {
                    empty = 0;
                    self.take(&mut shard, &key);
                }
                None => {
                    empty += 1;
                    if empty > SHARDS {
                        return false;
                    }
                }
            }
        }
    }
}

impl Shard {
    /// Who goes next: the first to come that nobody asked for since its last turn.
    fn oldest(&mut self) -> Option<Key> {
        while let Some((key, number)) = self.order.pop_front() {
            let Some(place) = self.places.get(&key).filter(|place| place.number == number) else { continue };
            if !place.asked_for.swap(false, Ordering::Relaxed) {
                return Some(key);
            }
            self.order.push_back((key, number));
        }
        None
    }

    /// Forgets the places of those that are gone, once they are as many as the others.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.places.len() + 16 {
            let places = &self.places;
            self.order.retain(|(key, number)| places.get(key).is_some_and(|place| place.number == *number));
        }
    }
}
