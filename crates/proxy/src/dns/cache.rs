//! Names and what is known about them. Readers take no lock; the few writers copy one small part of the cache.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use super::{Kind, Known};

const PARTS: usize = 64;

type Part = HashMap<Box<str>, Arc<Slot>>;

pub(super) struct Cache {
    parts: [ArcSwap<Part>; PARTS],
    hasher: RandomState,
    names_per_part: usize,
}

/// One name's entry.
pub(super) struct Slot {
    pub(super) known: Known,
    pub(super) fresh_until: Instant,
    /// The kind of record that answered last, kept when later queries fail.
    pub(super) last_kind: Option<Kind>,
    refreshing: AtomicBool,
}

impl Slot {
    pub(super) fn new(known: Known, fresh_until: Instant, last_kind: Option<Kind>) -> Self {
        Self { known, fresh_until, last_kind, refreshing: AtomicBool::new(false) }
    }

    /// True for the first who asks: that one refreshes.
    pub(super) fn start_refresh(&self) -> bool {
        !self.refreshing.load(Ordering::Relaxed) && !self.refreshing.swap(true, Ordering::Relaxed)
    }

    pub(super) fn end_refresh(&self) {
        self.refreshing.store(false, Ordering::Relaxed);
    }
}

impl Cache {
    pub(super) fn new(size: usize) -> Self {
        Self { parts: std::array::from_fn(|_| ArcSwap::default()), hasher: RandomState::new(), names_per_part: size.div_ceil(PARTS).max(4) }
    }

    fn part(&self, name: &str) -> &ArcSwap<Part> {
        &self.parts[self.hasher.hash_one(name) as usize % PARTS]
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Slot>> {
        let part: Guard<Arc<Part>> = self.part(name).load();
        part.get(name).cloned()
    }

    /// Puts a name in; a full part drops the entry that went or goes out of date first.
    pub(super) fn insert(&self, name: &str, slot: Slot) {
        let slot = Arc::new(slot);
        self.part(name).rcu(|part| {
            let mut part = Part::clone(part);
            if part.len() >= self.names_per_part
                && !part.contains_key(name)
                && let Some(oldest) = part.iter().min_by_key(|(_, slot)| slot.fresh_until).map(|(name, _)| name.clone())
            {
                part.remove(&oldest);
            }
            part.insert(name.into(), slot.clone());
            part
        });
    }

    pub(super) fn clear(&self) {
        for part in &self.parts {
            part.store(Arc::default());
        }
    }
}
