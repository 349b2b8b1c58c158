//! The words that `#[field(…)]` attributes are written in.
//!
//! Ordinary functions and methods: `array(header_name()).required().default(["apikey"])`. Typed definitions that many
//! entities share (`uuid`, `port`, `timeout`, `path`, …) are Kong's `typedefs` (section 3.2 of the behaviour checklist).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use crate::field::{Field, Kind, OnDelete, Pattern, Record, Rule};
use crate::{Check, Fields, Shorthand};

pub use crate::typedefs::*;

pub fn string() -> Field {
    Field::new(Kind::String)
}
pub fn integer() -> Field {
    Field::new(Kind::Integer)
}
pub fn number() -> Field {
    Field::new(Kind::Number)
}
pub fn boolean() -> Field {
    Field::new(Kind::Boolean)
}
pub fn json() -> Field {
    Field::new(Kind::Json)
}
pub fn array(elements: Field) -> Field {
    Field::new(Kind::Array(Box::new(elements)))
}
pub fn set(elements: Field) -> Field {
    Field::new(Kind::Set(Box::new(elements)))
}
pub fn map(keys: Field, values: Field) -> Field {
    Field::new(Kind::Map { keys: Box::new(keys), values: Box::new(values) })
}
/// A nested record described by a struct of its own.
pub fn record<T: Fields>() -> Field {
    record_of(T::fields(), Vec::new())
}
/// A nested record given field by field, with checks that span its fields.
pub fn record_of(fields: Vec<(&'static str, Field)>, checks: Vec<Check>) -> Field {
    let fields = fields.into_iter().map(|(name, field)| (Cow::Borrowed(name), field)).collect();
    Field::new(Kind::Record(Record { fields, checks, shorthands: Vec::new() }))
}
/// A reference to a row of `entity`, whose delete it stops.
pub fn foreign(entity: &'static str) -> Field {
    Field::new(Kind::Foreign { entity, on_delete: OnDelete::Restrict })
}
/// A reference to a row of `entity`, with which this row goes.
pub fn foreign_cascade(entity: &'static str) -> Field {
    Field::new(Kind::Foreign { entity, on_delete: OnDelete::Cascade })
}

impl Field {
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }
    pub fn auto(mut self) -> Self {
        self.auto = true;
        self
    }
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }
    pub fn unique_across_ws(mut self) -> Self {
        self.unique_across_ws = true;
        self.unique = true;
        self
    }
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }
    pub fn referenceable(mut self) -> Self {
        self.referenceable = true;
        self
    }
    pub fn encrypted(mut self) -> Self {
        self.encrypted = true;
        self
    }
    /// The value used when none is given. Panics only if `value` cannot be JSON, which no caller's literal is.
    pub fn default(mut self, value: impl Serialize) -> Self {
        self.default = Some(json_of(value));
        self
    }
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }
    pub fn eq(self, value: impl Serialize) -> Self {
        self.rule(Rule::Eq(json_of(value)))
    }
    pub fn ne(self, value: impl Serialize) -> Self {
        self.rule(Rule::Ne(json_of(value)))
    }
    pub fn one_of<T: Serialize>(self, values: impl IntoIterator<Item = T>) -> Self {
        self.rule(Rule::OneOf(values.into_iter().map(json_of).collect()))
    }
    pub fn not_one_of<T: Serialize>(self, values: impl IntoIterator<Item = T>) -> Self {
        self.rule(Rule::NotOneOf(values.into_iter().map(json_of).collect()))
    }
    pub fn gt(self, bound: f64) -> Self {
        self.rule(Rule::Gt(bound))
    }
    pub fn between(self, low: impl Into<f64>, high: impl Into<f64>) -> Self {
        self.rule(Rule::Between(low.into(), high.into()))
    }
    pub fn len_eq(self, length: usize) -> Self {
        self.rule(Rule::LenEq(length))
    }
    /// Strings have at least one character unless this says otherwise (Kong's default).
    pub fn len_min(self, length: usize) -> Self {
        self.rule(Rule::LenMin(length))
    }
    pub fn len_max(self, length: usize) -> Self {
        self.rule(Rule::LenMax(length))
    }
    pub fn starts_with(self, prefix: &'static str) -> Self {
        self.rule(Rule::StartsWith(prefix))
    }
    pub fn contains(self, value: impl Serialize) -> Self {
        self.rule(Rule::Contains(json_of(value)))
    }
    /// `lua` is the spelling `/schemas` shows, `regex` the one that runs.
    pub fn matches(self, lua: &'static str, regex: &'static str) -> Self {
        self.rule(Rule::Match { pattern: Pattern { lua, regex }, message: None })
    }
    pub fn uuid_text(self) -> Self {
        self.rule(Rule::Uuid)
    }
    pub fn is_regex(self) -> Self {
        self.rule(Rule::IsRegex)
    }
    pub fn timestamp(self) -> Self {
        self.rule(Rule::Timestamp)
    }
    pub fn custom(self, check: fn(&Value) -> Result<(), String>) -> Self {
        self.rule(Rule::Custom(check))
    }
    /// Replaces the complaint of whichever rule is broken.
    pub fn error(mut self, message: &'static str) -> Self {
        self.error = Some(message);
        self
    }
    /// As [`Field::matches`], with its own complaint.
    pub fn matches_or(self, lua: &'static str, regex: &'static str, message: &'static str) -> Self {
        self.rule(Rule::Match { pattern: Pattern { lua, regex }, message: Some(message) })
    }
    pub fn matches_none(self, lua: &'static str, regex: &'static str, message: &'static str) -> Self {
        self.rule(Rule::NotMatch { pattern: Pattern { lua, regex }, message: Some(message) })
    }
    /// Each pattern is a pair of the spelling shown and the regex run.
    pub fn matches_any(self, patterns: &[(&'static str, &'static str)], message: Option<&'static str>) -> Self {
        let patterns = patterns.iter().map(|&(lua, regex)| Pattern { lua, regex }).collect();
        self.rule(Rule::MatchAny { patterns, message })
    }
    /// Older spellings that a record still takes. No effect on other kinds.
    pub fn shorthands(mut self, shorthands: Vec<Shorthand>) -> Self {
        if let Kind::Record(record) = &mut self.kind {
            record.shorthands.extend(shorthands);
        }
        self
    }
    /// Checks that span a record's fields. No effect on other kinds.
    pub fn checks(mut self, checks: Vec<Check>) -> Self {
        if let Kind::Record(record) = &mut self.kind {
            record.checks.extend(checks);
        }
        self
    }
    /// An attribute that `/schemas` shows and nothing else reads.
    pub fn shown(mut self, name: &'static str, value: impl Serialize) -> Self {
        self.shown.push((name, json_of(value)));
        self
    }
    pub fn doc(mut self, text: &'static str) -> Self {
        if self.doc.is_empty() {
            self.doc = Cow::Borrowed(text);
        }
        self
    }
}

fn json_of(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
