//! The hash of a configuration in a database: the same on every node that holds the same rows, whatever order they came in.
//!
//! A sum over the rows, so that a change costs what it changes. Times of making and changing and what remains of a time to live
//! say when, not what: they don't count, and neither does null against absent.

use std::collections::HashMap;
use std::io::Write;

use aws_lc_rs::digest::{SHA256, digest};
use foldhash::fast::RandomState;
use portcullis_schema::Record;
use serde_json::Value;
use uuid::Uuid;

use crate::run::catalog::MOMENTS;

/// Which rows there are, each as a few bytes.
#[derive(Default)]
pub struct Fingerprint {
    rows: HashMap<u64, u64, RandomState>,
    sum: u128,
    text: Vec<u8>,
}

impl Fingerprint {
    /// Takes a row up in place of the one with its id. Answers whether they differ.
    pub fn put(&mut self, entity: &str, id: Uuid, row: &Record) -> bool {
        self.text.clear();
        spell_record(row, &mut self.text);
        let (key, hash) = (key(entity, id), first_half(&self.text));
        let before = self.rows.insert(key, hash);
        if before == Some(hash) {
            return false;
        }
        self.sum = self.sum.wrapping_sub(before.map_or(0, |before| share(key, before))).wrapping_add(share(key, hash));
        true
    }

    /// Leaves a row out. Answers whether there was one.
    pub fn remove(&mut self, entity: &str, id: Uuid) -> bool {
        let key = key(entity, id);
        let Some(before) = self.rows.remove(&key) else { return false };
        self.sum = self.sum.wrapping_sub(share(key, before));
        true
    }

    /// 32 hexadecimal digits; zeros for no rows.
    pub fn text(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

fn first_half(text: &[u8]) -> u64 {
    let hashed = digest(&SHA256, text);
    hashed.as_ref().iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Ids are random or hashes themselves, so that half of one is enough.
fn key(entity: &str, id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    let name = entity.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |all, byte| (all ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    high.rotate_left(32) ^ low ^ name
}

/// What a row adds to the sum.
fn share(key: u64, hash: u64) -> u128 {
    let mixed = |word: u64| u128::from(word ^ 0x9E37_79B9_7F4A_7C15) * u128::from(0xD6E8_FEB8_6659_FD93_u64);
    let (one, other) = (mixed(key ^ hash.rotate_left(17)), mixed(hash ^ key.rotate_left(43)));
    one ^ other.rotate_left(64) ^ u128::from(hash) << 64 ^ u128::from(key)
}

fn spell_record(row: &Record, out: &mut Vec<u8>) {
    out.push(b'{');
    for (name, value) in row.iter().filter(|(name, _)| !MOMENTS.contains(&name.as_str())) {
        spell_field(name, value, out);
    }
    out.push(b'}');
}

fn spell_field(name: &str, value: &Value, out: &mut Vec<u8>) {
    if value.is_null() {
        return;
    }
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(&mut *out, name);
    spell(value, out);
}

/// A value as every store spells it: numbers that are whole without a fraction, objects by name.
fn spell(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            out.push(b'{');
            fields.iter().for_each(|(name, value)| spell_field(name, value, out));
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                spell(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Value::Number(number) => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
            let _ = match whole {
                Some(whole) => write!(out, "{}", whole as i64),
                None => write!(out, "{number}"),
            };
        }
        other => _ = serde_json::to_writer(&mut *out, other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn record(row: Value) -> Record {
        row.as_object().unwrap().clone()
    }

    #[test]
    fn the_same_rows_have_the_same_hash_however_they_came() {
        let id = Uuid::from_u128;
        let (mut one, mut other) = (Fingerprint::default(), Fingerprint::default());
        assert_eq!(one.text(), "0".repeat(32));
        one.put("services", id(1), &record(json!({"name": "a", "port": 80.0, "path": null, "created_at": 1, "tags": ["x"]})));
        one.put("routes", id(1), &record(json!({"name": "r"})));
        other.put("routes", id(1), &record(json!({"name": "old"})));
        other.put("plugins", id(9), &record(json!({"name": "gone"})));
        assert!(other.put("routes", id(1), &record(json!({"name": "r", "ttl": 9}))));
        assert!(other.put("services", id(1), &record(json!({"name": "a", "port": 80, "created_at": 2.5, "tags": ["x"]}))));
        assert_ne!(one.text(), other.text());
        assert!(other.remove("plugins", id(9)) && !other.remove("plugins", id(9)));
        assert_eq!(one.text(), other.text());
        assert!(!one.put("routes", id(1), &record(json!({"name": "r", "created_at": 7}))));
        for name in [("routes", 1), ("services", 1)] {
            assert!(one.remove(name.0, id(name.1)));
        }
        assert_eq!(one.text(), "0".repeat(32));
    }

    #[test]
    fn rows_that_trade_their_contents_are_other_rows() {
        let (mut one, mut other) = (Fingerprint::default(), Fingerprint::default());
        for (id, name) in [(1, "a"), (2, "b")] {
            one.put("services", Uuid::from_u128(id), &record(json!({"name": name})));
            other.put("services", Uuid::from_u128(3 - id), &record(json!({"name": name})));
        }
        assert_ne!(one.text(), other.text());
    }
}
