//! Query arguments taken apart, changed, and written in the order of their encoded text, as Kong writes them.

use std::collections::BTreeMap;

use super::{Operations, Values};
use crate::arguments;

/// The values of each argument, in order; none for an argument without `=`.
pub struct Arguments(BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>);

impl Arguments {
    pub fn read(query: &[u8]) -> Self {
        let mut read = BTreeMap::<_, Vec<_>>::new();
        for (name, value) in arguments::pairs(query) {
            let value = value.map(|value| arguments::decode(value).into_owned());
            read.entry(arguments::decode(name).into_owned()).or_default().push(value);
        }
        Self(read)
    }

    /// Everything that is to be done, in order. Answers whether anything was: to Kong removing always is something.
    pub fn change(&mut self, operations: &Operations, values: &Values) -> bool {
        let mut changed = !operations.remove.is_empty();
        operations.remove.iter().for_each(|name| self.remove(name));
        for (old, new) in &values.rename {
            changed |= self.rename(old, new);
        }
        for (name, value) in &values.replace {
            changed |= self.replace(name, value);
        }
        for (name, value) in &values.add {
            changed |= self.add(name, value);
        }
        for (name, value) in &values.append {
            self.append(name, value);
            changed = true;
        }
        changed
    }

    /// The arguments of another text behind those that are there.
    pub fn join(&mut self, other: Self) {
        for (name, values) in other.0 {
            self.0.entry(name).or_default().extend(values);
        }
    }

    fn remove(&mut self, name: &str) {
        self.0.remove(name.as_bytes());
    }

    fn rename(&mut self, old: &str, new: &str) -> bool {
        if old == new {
            return false;
        }
        let Some(values) = self.0.remove(old.as_bytes()) else { return false };
        self.0.insert(new.as_bytes().to_vec(), values);
        true
    }

    fn replace(&mut self, name: &str, value: &str) -> bool {
        let Some(values) = self.0.get_mut(name.as_bytes()) else { return false };
        *values = vec![Some(value.as_bytes().to_vec())];
        true
    }

    fn add(&mut self, name: &str, value: &str) -> bool {
        let absent = !self.0.contains_key(name.as_bytes());
        if absent {
            self.0.insert(name.as_bytes().to_vec(), vec![Some(value.as_bytes().to_vec())]);
        }
        absent
    }

    fn append(&mut self, name: &str, value: &str) {
        let values = self.0.entry(name.as_bytes().to_vec()).or_default();
        // An argument without `=` makes way, as in Kong.
        if values.as_slice() == [None] {
            values.clear();
        }
        values.push(Some(value.as_bytes().to_vec()));
    }

    /// None when no argument is left: then there is no `?` either.
    pub fn write(&self) -> Option<Vec<u8>> {
        let one = |name: &[u8], value: &Option<Vec<u8>>| {
            let mut out = Vec::new();
            encode(&mut out, name);
            if let Some(value) = value {
                out.push(b'=');
                encode(&mut out, value);
            }
            out
        };
        // The values of one name stay in their order.
        let texts = self.0.iter().map(|(name, values)| values.iter().map(|value| one(name, value)).collect::<Vec<_>>().join(&b'&'));
        let mut texts: Vec<Vec<u8>> = texts.filter(|text| !text.is_empty()).collect();
        texts.sort_unstable();
        (!texts.is_empty()).then(|| texts.join(&b'&'))
    }
}

fn encode(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'*' | b'\'' | b'(' | b')') {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}
