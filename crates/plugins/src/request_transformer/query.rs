//! Query arguments taken apart, changed, and written sorted by name as Kong writes them.

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

    /// Everything that is to be done, in order.
    pub fn change(&mut self, operations: &Operations, values: &Values) {
        operations.remove.iter().for_each(|name| self.remove(name));
        values.rename.iter().for_each(|(old, new)| self.rename(old, new));
        values.replace.iter().for_each(|(name, value)| self.replace(name, value));
        values.add.iter().for_each(|(name, value)| self.add(name, value));
        values.append.iter().for_each(|(name, value)| self.append(name, value));
    }

    fn remove(&mut self, name: &str) {
        self.0.remove(name.as_bytes());
    }

    fn rename(&mut self, old: &str, new: &str) {
        if let Some(values) = self.0.remove(old.as_bytes()) {
            self.0.insert(new.as_bytes().to_vec(), values);
        }
    }

    fn replace(&mut self, name: &str, value: &str) {
        if let Some(values) = self.0.get_mut(name.as_bytes()) {
            *values = vec![Some(value.as_bytes().to_vec())];
        }
    }

    fn add(&mut self, name: &str, value: &str) {
        self.0.entry(name.as_bytes().to_vec()).or_insert_with(|| vec![Some(value.as_bytes().to_vec())]);
    }

    fn append(&mut self, name: &str, value: &str) {
        self.0.entry(name.as_bytes().to_vec()).or_default().push(Some(value.as_bytes().to_vec()));
    }

    /// None when no argument is left: then there is no `?` either.
    pub fn write(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for (name, values) in &self.0 {
            for value in values {
                if !out.is_empty() {
                    out.push(b'&');
                }
                encode(&mut out, name);
                if let Some(value) = value {
                    out.push(b'=');
                    encode(&mut out, value);
                }
            }
        }
        (!out.is_empty()).then_some(out)
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
