//! A sorted list that is cheap to copy: chunks in order, each shared until it is written to.
//!
//! A copy costs a pointer a chunk, a change the copy of one chunk, whatever the length. Chunks are plain arrays: beside the
//! items themselves next to no memory goes into keeping them sorted.

use std::cmp::Ordering;
use std::sync::Arc;

/// Items of a chunk; one that grows beyond is cut in two.
const CHUNK: usize = 256;

#[derive(Clone)]
pub(super) struct Sorted<T> {
    /// None of them is empty.
    chunks: Vec<Arc<Vec<T>>>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

/// A place between two items, or at an end.
#[derive(Clone, Copy)]
struct Place {
    chunk: usize,
    at: usize,
}

impl<T: Ord + Clone> Sorted<T> {
    /// Of items that are in order, each once.
    pub fn of(items: Vec<T>) -> Self {
        let mut chunks = Vec::with_capacity(items.len().div_ceil(CHUNK));
        let mut items = items.into_iter();
        while items.len() > 0 {
            chunks.push(Arc::new(items.by_ref().take(CHUNK).collect()));
        }
        Self { chunks }
    }

    /// The place of the first item that doesn't lie before; `before` holds for a front part of the list only.
    fn seek(&self, before: impl Fn(&T) -> bool) -> Place {
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(&before));
        let at = self.chunks.get(chunk).map_or(0, |chunk| chunk.partition_point(before));
        Place { chunk, at }
    }

    /// The item that `order` finds equal; it tells how an item compares with what is looked for.
    pub fn get(&self, order: impl Fn(&T) -> Ordering) -> Option<&T> {
        let place = self.seek(|item| order(item).is_lt());
        self.chunks.get(place.chunk)?.get(place.at).filter(|item| order(item).is_eq())
    }

    /// Every item that doesn't lie before, in order.
    pub fn from(&self, before: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
        let place = self.seek(before);
        let first = self.chunks.get(place.chunk).map(|chunk| &chunk[place.at..]);
        let others = self.chunks.iter().skip(place.chunk + 1);
        first.into_iter().flatten().chain(others.flat_map(|chunk| chunk.iter()))
    }

    /// How many items lie before.
    pub fn rank(&self, before: impl Fn(&T) -> bool) -> usize {
        let place = self.seek(before);
        self.chunks[..place.chunk].iter().map(|chunk| chunk.len()).sum::<usize>() + place.at
    }

    /// Adds an item, in place of an equal one.
    pub fn insert(&mut self, item: T) {
        let Place { chunk, at } = self.seek(|other| *other < item);
        if let Some(items) = self.chunks.get_mut(chunk) {
            let items = Arc::make_mut(items);
            if items[at] == item {
                items[at] = item;
                return;
            }
            items.insert(at, item);
            if items.len() > CHUNK {
                let back = items.split_off(CHUNK / 2);
                self.chunks.insert(chunk + 1, Arc::new(back));
            }
            return;
        }
        // Behind everything: the last chunk goes on until it is full, so what comes in order leaves full chunks.
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(item),
            _ => self.chunks.push(Arc::new(vec![item])),
        }
    }

    /// Takes out the item that `order` finds equal.
    pub fn remove(&mut self, order: impl Fn(&T) -> Ordering) {
        let Place { chunk, at } = self.seek(|item| order(item).is_lt());
        let there = self.chunks.get(chunk).is_some_and(|items| order(&items[at]).is_eq());
        if !there {
            return;
        }
        if self.chunks[chunk].len() == 1 {
            self.chunks.remove(chunk);
            return;
        }
        Arc::make_mut(&mut self.chunks[chunk]).remove(at);
    }

    /// Gives back the room that was kept for items to come.
    pub fn shrink(&mut self) {
        for chunk in &mut self.chunks {
            if let Some(items) = Arc::get_mut(chunk) {
                items.shrink_to_fit();
            }
        }
        self.chunks.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    fn all(sorted: &Sorted<u32>) -> Vec<u32> {
        sorted.from(|_| false).copied().collect()
    }

    #[test]
    fn it_holds_what_an_ordinary_set_holds() {
        let (mut sorted, mut set) = (Sorted::default(), BTreeSet::new());
        // A fixed walk over a small space: items come, come again, and go, in no order.
        let mut state = 7_u32;
        for step in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let item = (state >> 8) % 3000;
            if step % 3 == 2 {
                sorted.remove(|other: &u32| other.cmp(&item));
                set.remove(&item);
            } else {
                sorted.insert(item);
                set.insert(item);
            }
        }
        sorted.shrink();
        assert_eq!(all(&sorted), set.iter().copied().collect::<Vec<_>>());
        for item in 0..3000 {
            assert_eq!(sorted.get(|other| other.cmp(&item)).is_some(), set.contains(&item));
            assert_eq!(sorted.from(|other| *other < item).next(), set.range(item..).next());
            assert_eq!(sorted.rank(|other| *other < item), set.range(..item).count());
        }
    }

    #[test]
    fn a_list_made_at_once_is_like_one_made_item_by_item() {
        let mut one_by_one = Sorted::default();
        (0..1000).for_each(|item| one_by_one.insert(item));
        let mut at_once = Sorted::of((0..1000).collect());
        assert_eq!((all(&at_once), at_once.chunks.len()), (all(&one_by_one), one_by_one.chunks.len()));
        at_once.insert(2000);
        assert_eq!(at_once.rank(|other| *other < 2000), 1000);
        assert!(all(&Sorted::of(Vec::new())).is_empty());
    }

    #[test]
    fn a_copy_does_not_see_later_changes() {
        let mut sorted = Sorted::default();
        (0..1000).for_each(|item| sorted.insert(item));
        let copy = sorted.clone();
        sorted.remove(|other| other.cmp(&500));
        sorted.insert(5000);
        assert_eq!(all(&copy), (0..1000).collect::<Vec<_>>());
        let shared = sorted.chunks.iter().filter(|chunk| copy.chunks.iter().any(|other| Arc::ptr_eq(other, chunk))).count();
        assert!(shared >= sorted.chunks.len() - 2, "only what changed was copied");
    }
}
