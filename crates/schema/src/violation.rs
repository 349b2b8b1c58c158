//! Complaints about a record: all of them at once, in Kong's shapes.

use serde_json::Value;

use crate::Record;

/// The complaints about one record, as a tree that mirrors it: a string (or, for `@entity`, a list of strings) where
/// something is wrong. Arrays are sparse: null stands for an element that is fine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Violations(pub Record);

impl Violations {
    /// `schema violation (field: complaint)` or `N schema violations (…; …)`, sorted as Kong sorts them.
    pub fn message(&self) -> String {
        format!("{} schema violations", self.0.len())
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// One complaint about one field.
    pub fn of(field: &str, complaint: impl Into<String>) -> Self {
        Self(Record::from_iter([(field.to_owned(), Value::String(complaint.into()))]))
    }
}
