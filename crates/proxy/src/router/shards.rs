//! A hash map over byte strings whose clones share their parts.
//!
//! A change copies the one small part that holds its key. The number of parts grows with the number of keys, so that a part
//! stays at some hundred keys at most.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Keys a part holds on average before the map is spread over four times as many parts.
const KEYS_PER_PART: usize = 64;
const MOST_PARTS: usize = 1024;

type Part<V> = HashMap<Arc<[u8]>, V, BuildHasherDefault<Mix>>;

#[derive(Clone)]
pub(super) struct Shards<V> {
    parts: Arc<Vec<Arc<Part<V>>>>,
    len: usize,
}

impl<V> Default for Shards<V> {
    fn default() -> Self {
        Self { parts: Arc::new(Vec::new()), len: 0 }
    }
}

impl<V: Clone> Shards<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        if self.len == 0 {
            return None;
        }
        self.parts[part_of(key, self.parts.len())].get(key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(|part| part.values())
    }

    /// Lets `change` edit the value of `key`, made anew if there was none. When it answers false the key is removed.
    pub(super) fn edit(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> bool)
    where
        V: Default,
    {
        self.grow();
        let parts = Arc::make_mut(&mut self.parts);
        let at = part_of(key, parts.len());
        let part = Arc::make_mut(&mut parts[at]);
        let before = part.len();
        if let Some(value) = part.get_mut(key) {
            if !change(value) {
                part.remove(key);
            }
        } else {
            let mut value = V::default();
            if change(&mut value) {
                part.insert(key.into(), value);
            }
        }
        self.len = self.len + part.len() - before;
    }

    pub(super) fn insert(&mut self, key: &[u8], value: V) {
        self.grow();
        let parts = Arc::make_mut(&mut self.parts);
        let at = part_of(key, parts.len());
        if Arc::make_mut(&mut parts[at]).insert(key.into(), value).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.get(key)?;
        let parts = Arc::make_mut(&mut self.parts);
        let at = part_of(key, parts.len());
        let removed = Arc::make_mut(&mut parts[at]).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    fn grow(&mut self) {
        let count = self.parts.len();
        if count == 0 {
            self.parts = Arc::new(vec![Arc::default()]);
        } else if self.len >= count * KEYS_PER_PART && count < MOST_PARTS {
            let mut parts = vec![Part::default(); count * 4];
            for (key, value) in self.parts.iter().flat_map(|part| part.iter()) {
                parts[part_of(key, count * 4)].insert(key.clone(), value.clone());
            }
            self.parts = Arc::new(parts.into_iter().map(Arc::new).collect());
        }
    }
}

fn part_of(key: &[u8], parts: usize) -> usize {
    let mut hasher = Mix::default();
    hasher.write(key);
    // The map inside a part uses the low and the highest bits; `parts` is a power of two.
    (hasher.finish() >> 40) as usize & (parts - 1)
}

/// A quick hash without a secret: keys come from the configuration, requests only look them up.
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93_u128;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_found_through_every_growth_and_clones_stay_as_they_were() {
        let mut map = Shards::<u32>::default();
        for number in 0..10_000u32 {
            map.insert(number.to_string().as_bytes(), number);
        }
        let before = map.clone();
        for number in (0..10_000u32).step_by(2) {
            assert_eq!(map.remove(number.to_string().as_bytes()), Some(number));
        }
        assert_eq!((map.len(), before.len()), (5_000, 10_000));
        for number in 0..10_000u32 {
            let key = number.to_string();
            assert_eq!(*before.get(key.as_bytes()).unwrap(), number);
            assert_eq!(map.get(key.as_bytes()).is_some(), number % 2 == 1);
        }
        map.edit(b"1", |value| {
            *value += 1;
            false
        });
        assert_eq!(map.len(), 4_999);
    }
}
