//! What the queues of the process hold, sent and lost, by plugin: figures that outlive every queue.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Kept in [`portcullis_plugin::State`].
#[derive(Default)]
pub struct Counts {
    by_plugin: Mutex<BTreeMap<&'static str, Arc<Count>>>,
}

/// The queues of one plugin, taken together.
#[derive(Default)]
pub struct Count {
    waiting: AtomicI64,
    sent: AtomicU64,
    lost: AtomicU64,
}

/// A plugin's figures at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    pub plugin: &'static str,
    /// Entries held.
    pub waiting: u64,
    /// Entries that arrived.
    pub sent: u64,
    /// Entries pushed out of full queues or given up on.
    pub lost: u64,
}

impl Counts {
    pub fn of(&self, plugin: &'static str) -> Arc<Count> {
        self.by_plugin.lock().unwrap_or_else(PoisonError::into_inner).entry(plugin).or_default().clone()
    }

    /// Of every plugin that had a queue, by name.
    pub fn figures(&self) -> Vec<Figures> {
        let by_plugin = self.by_plugin.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = by_plugin.iter().map(|(plugin, count)| Figures {
            plugin,
            waiting: u64::try_from(count.waiting.load(Ordering::Relaxed)).unwrap_or(0),
            sent: count.sent.load(Ordering::Relaxed),
            lost: count.lost.load(Ordering::Relaxed),
        });
        figures.collect()
    }
}

impl Count {
    pub fn came(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub fn left(&self, entries: usize) {
        self.waiting.fetch_sub(entries as i64, Ordering::Relaxed);
    }

    pub fn sent(&self, entries: usize) {
        self.sent.fetch_add(entries as u64, Ordering::Relaxed);
    }

    pub fn lost(&self, entries: usize) {
        self.lost.fetch_add(entries as u64, Ordering::Relaxed);
    }
}
