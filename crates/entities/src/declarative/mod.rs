//! The declarative format: one document that holds a whole configuration.
//!
//! A document is a map with `_format_version` and a list for each kind of entity, in which entities may hold others
//! (`services: [{routes: […]}]`) and refer to others by name or id. [`load`] reads one in three steps, each in a file:
//! text becomes a tree ([`yaml`]); every entity is prepared by its schema, nested ones lifted out with a reference to their
//! parent (`walk.rs`); references and uniqueness are settled over all (`settle.rs`). A refusal names everything that is wrong
//! ([`Refusal`]). [`export`] is the way back.

mod answer;
pub mod export;
mod ids;
mod old_paths;
mod refusal;
mod settle;
mod walk;
pub mod yaml;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use md5::{Digest, Md5};
use portcullis_schema::{Catalog, Record, Schema};
use serde_json::Value;

pub use refusal::Refusal;

/// The hash of an empty configuration.
pub const EMPTY_HASH: &str = "00000000000000000000000000000000";

/// A configuration, complete and checked.
#[derive(Clone, Debug)]
pub struct Document {
    /// Every entity with its rows, parents before children. Kinds without rows are left out.
    pub records: Vec<(Arc<Schema>, Vec<Record>)>,
    /// MD5 of the text that was read, in hexadecimal; zeros if it holds nothing.
    pub hash: String,
    /// By id, entities as they were before values (hashes, digests) were computed.
    untransformed: HashMap<String, Record>,
}

impl Document {
    /// Every row as it was given, before values were computed: what an Admin API is sent.
    pub fn given(&self) -> Vec<(Arc<Schema>, Vec<Record>)> {
        let given = |row: &Record| row.get("id").and_then(Value::as_str).and_then(|id| self.untransformed.get(id)).unwrap_or(row).clone();
        self.records.iter().map(|(schema, rows)| (Arc::clone(schema), rows.iter().map(given).collect())).collect()
    }

    /// What `POST /config` answers: every entity by kind and id, as it was given. Written out at once, as JSON: a tree of it
    /// would be a second copy of everything.
    pub fn answer(&self) -> Result<Vec<u8>, serde_json::Error> {
        answer::write(self)
    }
}

/// What a document is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    /// JSON if it reads as such, else YAML.
    #[default]
    Unknown,
}

impl Format {
    /// Goes by the file's ending. Errors with Kong's sentence for the command line.
    pub fn of(path: &Path) -> Result<Self, String> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Ok(Self::Json),
            Some("yml" | "yaml") => Ok(Self::Yaml),
            _ => Err(format!("unknown file type: {}. (Accepted types: json, yaml)", path.display())),
        }
    }
}

/// Reads a document. `now` (seconds) becomes the time of every entity that gives none.
pub fn load(catalog: &Catalog, text: &str, format: Format, now: f64) -> Result<Document, Box<Refusal>> {
    let read = || parse(text, format).map_err(|what| Box::new(Refusal::unreadable(&what)));
    finish(catalog, read()?, now, text, read)
}

/// As [`load`], for a tree that came inside something else. Its hash is that of its JSON.
pub fn load_value(catalog: &Catalog, tree: Value, now: f64) -> Result<Document, Box<Refusal>> {
    let text = tree.to_string();
    load_tree(catalog, tree, &text, now, || parse(&text, Format::Json))
}

/// As [`load`], for a tree that its owner reads from a text. It is used up; `again` reads it once more, should it be refused.
pub fn load_tree(
    catalog: &Catalog,
    tree: Value,
    text: &str,
    now: f64,
    again: impl FnOnce() -> Result<Value, String>,
) -> Result<Document, Box<Refusal>> {
    finish(catalog, tree, now, text, || again().map_err(|what| Box::new(Refusal::unreadable(&what))))
}

/// MD5 of a text, in hexadecimal: how configurations are told apart.
pub fn hash(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(text: &str, format: Format) -> Result<Value, String> {
    let json = || serde_json::from_str(text).map_err(|error| error.to_string());
    match format {
        Format::Json => json(),
        Format::Yaml => yaml::parse(text),
        Format::Unknown => json().or_else(|_: String| yaml::parse(text)),
    }
}

/// A good document is used up while it is read. Only for one that is refused is it read `again`, and kept to be quoted.
fn finish(
    catalog: &Catalog,
    tree: Value,
    now: f64,
    text: &str,
    again: impl FnOnce() -> Result<Value, Box<Refusal>>,
) -> Result<Document, Box<Refusal>> {
    let attempt = |tree: Value, quoted: bool| {
        let document = match tree {
            Value::Object(document) => document,
            // An empty Lua table is an empty map too.
            Value::Array(list) if list.is_empty() => Record::new(),
            _ => return Err(Box::new(Refusal::unreadable("expected an object"))),
        };
        settle::settle(catalog, walk::walk(catalog, document, now, quoted)?)
    };
    let settle::Settled { records, untransformed } = attempt(tree, false).or_else(|_| attempt(again()?, true))?;
    let hash = if records.is_empty() { EMPTY_HASH.to_owned() } else { hash(text) };
    Ok(Document { records, hash, untransformed })
}

#[cfg(test)]
mod tests;
