//! Complaints about a record: all of them at once, in Kong's shapes.

use serde_json::Value;

use crate::{Record, lua};

/// The complaints about one record, as a tree that mirrors it: a string (or, for `@entity`, a list of strings) where
/// something is wrong. Arrays are sparse: null stands for an element that is fine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Violations(pub Record);

/// The key under which complaints about the whole record are filed.
pub const ENTITY: &str = "@entity";

impl Violations {
    /// `schema violation (field: complaint)` or `N schema violations (…; …)`, sorted as Kong sorts them: complaints about
    /// the whole record first, then by field.
    pub fn message(&self) -> String {
        self.message_as("schema violation")
    }

    /// The same with another noun, for the bodies that share the shape (`invalid option`, `foreign key unresolved`).
    pub fn message_as(&self, noun: &str) -> String {
        let complaints = self.sentences();
        let plural = match noun {
            "foreign key unresolved" => "foreign keys unresolved".to_owned(),
            _ => format!("{noun}s"),
        };
        match complaints.as_slice() {
            [one] => format!("{noun} ({one})"),
            all => format!("{} {plural} ({})", all.len(), all.join("; ")),
        }
    }

    /// One sentence a complaint. Kong spells out two levels (`config.minute: …`) and prints what lies deeper as a table.
    fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        match self.0.get(ENTITY) {
            Some(Value::Array(list)) => sentences.extend(list.iter().map(plain)),
            Some(other) => sentences.push(plain(other)),
            None => {}
        }
        let mut fields: Vec<_> = self.0.iter().filter(|(name, _)| *name != ENTITY).collect();
        fields.sort_by_key(|(name, _)| name.as_str());
        for (name, complaint) in fields {
            match complaint {
                Value::Object(inner) => {
                    let mut inner: Vec<_> = inner.iter().collect();
                    inner.sort_by_key(|(key, _)| key.as_str());
                    sentences.extend(inner.into_iter().map(|(key, deep)| format!("{name}.{key}: {}", plain(deep))));
                }
                Value::Array(elements) => {
                    let wrong = elements.iter().enumerate().filter(|(_, deep)| !deep.is_null());
                    sentences.extend(wrong.map(|(at, deep)| format!("{name}.{}: {}", at + 1, plain(deep))));
                }
                other => sentences.push(format!("{name}: {}", plain(other))),
            }
        }
        sentences
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One complaint about one field.
    pub fn of(field: &str, complaint: impl Into<String>) -> Self {
        Self(Record::from_iter([(field.to_owned(), Value::String(complaint.into()))]))
    }

    /// Files a complaint at a dotted path in the place of what was said there before.
    pub fn put(&mut self, path: &str, complaint: Value) {
        let mut at = &mut self.0;
        let mut segments = path.split('.').peekable();
        while let Some(segment) = segments.next() {
            let entry = at.entry(segment).or_insert_with(|| Value::Object(Record::new()));
            if segments.peek().is_none() {
                *entry = complaint;
                return;
            }
            match entry {
                Value::Object(inner) => at = inner,
                _ => return,
            }
        }
    }

    /// Adds a complaint at a dotted path, or to the list about the whole record if the path is `@entity`.
    /// What was said about a field before stays.
    pub fn add(&mut self, path: &str, complaint: Value) {
        if path == ENTITY {
            let list = self.0.entry(ENTITY).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(complaint);
            }
            return;
        }
        let mut at = &mut self.0;
        let mut segments = path.split('.').peekable();
        while let Some(segment) = segments.next() {
            if segments.peek().is_none() {
                at.entry(segment).or_insert(complaint);
                return;
            }
            match at.entry(segment).or_insert_with(|| Value::Object(Record::new())) {
                Value::Object(inner) => at = inner,
                _ => return,
            }
        }
    }

    /// What has been said at a dotted path or above it.
    pub fn at(&self, path: &str) -> Option<&Value> {
        let mut at = &self.0;
        let mut found = None;
        for segment in path.split('.') {
            found = Some(at.get(segment)?);
            match found {
                Some(Value::Object(inner)) => at = inner,
                _ => return found,
            }
        }
        found
    }
}

fn plain(complaint: &Value) -> String {
    match complaint {
        Value::String(text) => text.clone(),
        other => lua::pretty(other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn message(tree: Value) -> String {
        let Value::Object(tree) = tree else { unreachable!("tests pass objects") };
        Violations(tree).message()
    }

    #[test]
    fn one_complaint_stands_alone_and_several_are_counted() {
        assert_eq!(message(json!({ "host": "required field missing" })), "schema violation (host: required field missing)");
        assert_eq!(message(json!({ "b": "y", "a": "x" })), "2 schema violations (a: x; b: y)");
    }

    #[test]
    fn complaints_about_the_whole_record_come_first() {
        assert_eq!(message(json!({ "a": "x", "@entity": ["z"] })), "2 schema violations (z; a: x)");
    }

    #[test]
    fn elements_are_counted_from_one_and_good_ones_left_out() {
        assert_eq!(message(json!({ "tags": [null, "bad"] })), "schema violation (tags.2: bad)");
    }

    #[test]
    fn what_lies_deeper_than_two_levels_is_printed_as_a_table() {
        let tree = json!({ "config": { "redis": { "host": "required field missing" } } });
        assert_eq!(message(tree), "schema violation (config.redis: {\n  host = \"required field missing\"\n})");
        let tree = json!({ "config": { "request_headers": [null, null, "bad"] } });
        assert_eq!(message(tree), "schema violation (config.request_headers: {\n  [3] = \"bad\"\n})");
    }
}
