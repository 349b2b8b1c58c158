//! Values by key, found by every key that a text starts with; clones share their parts.
//!
//! Keys stand in one open-addressing table by their hash. A look-up asks it once for each length that some key has, so it costs
//! a few loads that don't wait for each other, where a tree of 100,000 keys costs some twenty that do. A change copies the one
//! part of the table that holds its key.

use std::sync::Arc;

use smallvec::SmallVec;

/// Keys that a part holds on average before the table is spread over four times as many parts.
const KEYS_PER_PART: usize = 64;
const MOST_PARTS: usize = 1024;

#[derive(Clone)]
pub(super) struct Prefixes<V> {
    /// A power of two of them, or none.
    parts: Arc<Vec<Part<V>>>,
    /// Every length that a key has, ascending, and how many keys have it.
    lengths: Arc<Vec<(u32, u32)>>,
    len: usize,
}

/// At most half full, and a power of two long.
type Part<V> = Arc<[Slot<V>]>;

#[derive(Clone)]
struct Slot<V> {
    tag: u32,
    held: Option<Arc<Held<V>>>,
}

#[derive(Clone)]
struct Held<V> {
    key: SmallVec<[u8; 32]>,
    value: V,
}

impl<V> Default for Prefixes<V> {
    fn default() -> Self {
        Self { parts: Arc::default(), lengths: Arc::default(), len: 0 }
    }
}

impl<V> Slot<V> {
    fn empty() -> Self {
        Self { tag: 0, held: None }
    }
}

/// Where a key is looked for.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    fn part(self, parts: usize) -> usize {
        (self.0 >> 40) as usize & (parts - 1)
    }
    fn slot(self, slots: usize) -> usize {
        self.0 as usize & (slots - 1)
    }
    fn tag(self) -> u32 {
        (self.0 >> 24) as u32
    }
}

/// Hashes a text and, on the way, its beginnings: a state after each eight bytes, closed with what is left.
#[derive(Clone, Copy)]
struct Hasher<'t> {
    text: &'t [u8],
    state: u64,
    words: usize,
}

impl<'t> Hasher<'t> {
    fn new(text: &'t [u8]) -> Self {
        Self { text, state: 0, words: 0 }
    }

    /// The hash of the first `length` bytes. Lengths must not descend from call to call, nor exceed the text.
    fn of_first(&mut self, length: usize) -> Hash {
        while let Some(word) = self.text[..length].get(self.words * 8..).and_then(|rest| rest.first_chunk::<8>()) {
            self.state = mix(self.state, u64::from_le_bytes(*word));
            self.words += 1;
        }
        let rest = &self.text[self.words * 8..length];
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        Hash(mix(self.state, u64::from_le_bytes(last) ^ (length as u64) << 56))
    }
}

/// Quick and without a secret: keys come from the configuration, requests only look them up.
fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93_u128;
    product as u64 ^ (product >> 64) as u64
}

/// The slot of a key, or the empty one where it would go. There is always an empty one.
fn seek<V>(part: &[Slot<V>], hash: Hash, key: &[u8]) -> usize {
    let mut at = hash.slot(part.len());
    loop {
        match &part[at].held {
            None => return at,
            Some(held) if part[at].tag == hash.tag() && held.key[..] == *key => return at,
            Some(_) => at = (at + 1) & (part.len() - 1),
        }
    }
}

fn hash_of(key: &[u8]) -> Hash {
    Hasher::new(key).of_first(key.len())
}

impl<V: Clone + Default> Prefixes<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `visit` with the value of every key that `text` starts with, shortest key first.
    pub(super) fn walk<'a>(&'a self, text: &[u8], mut visit: impl FnMut(&'a V)) {
        let mut hasher = Hasher::new(text);
        for (length, _) in self.lengths.iter() {
            let length = *length as usize;
            if length > text.len() {
                return;
            }
            let hash = hasher.of_first(length);
            let part = &self.parts[hash.part(self.parts.len())];
            if part.is_empty() {
                continue;
            }
            if let Some(held) = &part[seek(part, hash, &text[..length])].held {
                visit(&held.value);
            }
        }
    }

    /// Lets `change` edit the value of `key`, made anew if there was none. When it answers false the value is removed.
    pub(super) fn edit(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> bool) {
        self.grow();
        let hash = hash_of(key);
        let parts = Arc::make_mut(&mut self.parts);
        let at = hash.part(parts.len());
        let part = &mut parts[at];
        let found = (!part.is_empty()).then(|| seek(part, hash, key)).filter(|slot| part[*slot].held.is_some());
        if let Some(slot) = found {
            let slots = Arc::make_mut(part);
            let keep = slots[slot].held.as_mut().is_some_and(|held| change(&mut Arc::make_mut(held).value));
            if !keep {
                slots[slot].held = None;
                *part = rebuilt(part, 0);
                self.len -= 1;
                self.count(key.len(), false);
            }
            return;
        }
        let mut value = V::default();
        if !change(&mut value) {
            return;
        }
        let held = part.iter().filter(|slot| slot.held.is_some()).count();
        if (held + 1) * 2 > part.len() {
            *part = rebuilt(part, 1);
        }
        let slots = Arc::make_mut(part);
        let slot = seek(slots, hash, key);
        slots[slot] = Slot { tag: hash.tag(), held: Some(Arc::new(Held { key: key.into(), value })) };
        self.len += 1;
        self.count(key.len(), true);
    }

    fn count(&mut self, length: usize, added: bool) {
        let length = length as u32;
        let lengths = Arc::make_mut(&mut self.lengths);
        match lengths.binary_search_by_key(&length, |(known, _)| *known) {
            Ok(at) if added => lengths[at].1 += 1,
            Ok(at) => {
                lengths[at].1 -= 1;
                if lengths[at].1 == 0 {
                    lengths.remove(at);
                }
            }
            Err(at) => lengths.insert(at, (length, 1)),
        }
    }

    fn grow(&mut self) {
        let count = self.parts.len();
        if count == 0 {
            self.parts = Arc::new(vec![Part::from([])]);
        } else if self.len >= count * KEYS_PER_PART && count < MOST_PARTS {
            let mut spread: Vec<Vec<Slot<V>>> = vec![Vec::new(); count * 4];
            for slot in self.parts.iter().flat_map(|part| part.iter()) {
                if let Some(held) = &slot.held {
                    spread[hash_of(&held.key).part(count * 4)].push(slot.clone());
                }
            }
            self.parts = Arc::new(spread.iter().map(|slots| rebuilt(slots, 0)).collect());
        }
    }
}

/// A part with the same keys and room for so many more.
fn rebuilt<V: Clone>(slots: &[Slot<V>], more: usize) -> Part<V> {
    let held: Vec<&Slot<V>> = slots.iter().filter(|slot| slot.held.is_some()).collect();
    let wanted = held.len() + more;
    if wanted == 0 {
        return Part::from([]);
    }
    let mut part = vec![Slot::empty(); (wanted * 2).next_power_of_two()];
    for slot in held {
        let Some(inner) = &slot.held else { continue };
        let at = seek(&part, hash_of(&inner.key), &inner.key);
        part[at] = slot.clone();
    }
    part.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(table: &Prefixes<Vec<u32>>, text: &str) -> Vec<u32> {
        let mut found = Vec::new();
        table.walk(text.as_bytes(), |value| found.extend(value));
        found
    }

    fn put(table: &mut Prefixes<Vec<u32>>, key: &str, number: u32) {
        table.edit(key.as_bytes(), |value| {
            value.push(number);
            true
        });
    }

    #[test]
    fn every_prefix_of_a_text_is_visited_shortest_first() {
        let mut table = Prefixes::<Vec<u32>>::default();
        for (number, key) in ["/api/v1/users", "/api", "", "/api/v2", "/b", "/api/v1"].iter().enumerate() {
            put(&mut table, key, number as u32);
        }
        assert_eq!(keys(&table, "/api/v1/users/1"), [2, 1, 5, 0]);
        assert_eq!(keys(&table, "/api/v"), [2, 1]);
        assert_eq!(keys(&table, "/c"), [2]);
    }

    #[test]
    fn keys_are_found_through_every_growth_and_clones_stay_as_they_were() {
        let mut table = Prefixes::<Vec<u32>>::default();
        let names: Vec<String> = (0..10_000).map(|number| format!("/service-{number}/x{}", number % 7)).collect();
        for (number, name) in names.iter().enumerate() {
            put(&mut table, name, number as u32);
        }
        let before = table.clone();
        for name in names.iter().step_by(2) {
            table.edit(name.as_bytes(), |value| {
                value.clear();
                false
            });
        }
        for (number, name) in names.iter().enumerate() {
            assert_eq!(keys(&before, &format!("{name}/more")), [number as u32]);
            assert_eq!(keys(&table, name).len(), number % 2);
        }
        for name in names.iter().skip(1).step_by(2) {
            table.edit(name.as_bytes(), |_| false);
        }
        assert!(table.is_empty() && table.lengths.is_empty());
        assert!(keys(&table, "/service-1/x1").is_empty());
    }

    #[test]
    fn an_edit_that_keeps_nothing_leaves_nothing_behind() {
        let mut table = Prefixes::<Vec<u32>>::default();
        table.edit(b"/a", |_| false);
        assert!(table.is_empty() && keys(&table, "/a").is_empty());
    }
}
