//! A hash table that is cheap to copy: a fixed number of shards, each shared until it is written to.
//!
//! A snapshot and the one after it share every shard that the change between them did not touch, so a change costs one
//! shard's copy and not the table's, while a look-up costs one hash as in an ordinary table. A table that no change touched is
//! one pointer to its copies.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

const SHARDS: usize = 256;

/// A value that knows the key it is found by.
pub trait Keyed {
    type Key: ?Sized + Hash + Eq;
    fn key(&self) -> &Self::Key;
}

#[derive(Clone)]
pub struct Sharded<V> {
    /// None until there is a value.
    shards: Arc<[Arc<HashTable<V>>]>,
    hasher: RandomState,
    len: usize,
}

impl<V> Default for Sharded<V> {
    fn default() -> Self {
        Self { shards: Arc::from([]), hasher: RandomState::default(), len: 0 }
    }
}

impl<V: Keyed + Clone> Sharded<V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The shard is picked by the top byte; tables index by the low bits and tag by bits below the top seven.
    fn shard_of(hash: u64) -> usize {
        (hash >> 48) as usize % SHARDS
    }

    #[inline]
    pub fn get(&self, key: &V::Key) -> Option<&V> {
        if self.len == 0 {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        self.shards[Self::shard_of(hash)].find(hash, |value| value.key() == key)
    }

    /// Adds a value; answers the one of the same key that it replaces.
    pub fn insert(&mut self, value: V) -> Option<V> {
        if self.shards.is_empty() {
            self.shards = (0..SHARDS).map(|_| Arc::new(HashTable::new())).collect();
        }
        let hash = self.hasher.hash_one(value.key());
        let hasher = &self.hasher;
        let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[Self::shard_of(hash)]);
        if let Some(old) = shard.find_mut(hash, |old| old.key() == value.key()) {
            return Some(std::mem::replace(old, value));
        }
        shard.insert_unique(hash, value, |value| hasher.hash_one(value.key()));
        self.len += 1;
        None
    }

    pub fn remove(&mut self, key: &V::Key) -> Option<V> {
        if self.len == 0 {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let at = Self::shard_of(hash);
        self.shards[at].find(hash, |value| value.key() == key)?;
        let entry = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[at]).find_entry(hash, |value| value.key() == key).ok()?;
        self.len -= 1;
        Some(entry.remove().0)
    }

    pub fn iter(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Row(u32, &'static str);
    impl Keyed for Row {
        type Key = u32;
        fn key(&self) -> &u32 {
            &self.0
        }
    }

    #[test]
    fn a_copy_does_not_see_later_changes() {
        let mut table = Sharded::default();
        for key in 0..1000 {
            assert!(table.insert(Row(key, "old")).is_none());
        }
        let copy = table.clone();
        assert_eq!(table.insert(Row(7, "new")), Some(Row(7, "old")));
        assert_eq!(table.remove(&8), Some(Row(8, "old")));
        assert_eq!(table.remove(&8), None);
        assert_eq!((table.len(), copy.len()), (999, 1000));
        assert_eq!(copy.get(&7), Some(&Row(7, "old")));
        assert_eq!(copy.get(&8), Some(&Row(8, "old")));
        assert_eq!(table.get(&7), Some(&Row(7, "new")));
        assert_eq!(table.iter().count(), 999);
    }
}
