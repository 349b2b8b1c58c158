//! One field: its kind, its rules and how it is kept.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::{Check, Shorthand};

/// What a value may be. Names follow Kong's schema types.
#[derive(Clone, Debug)]
pub enum Kind {
    String,
    Integer,
    Number,
    Boolean,
    /// Any JSON value, kept as it is.
    Json,
    /// Values in order, duplicates kept.
    Array(Box<Field>),
    /// Values in the order first given, duplicates dropped.
    Set(Box<Field>),
    Map {
        keys: Box<Field>,
        values: Box<Field>,
    },
    Record(Record),
    /// `{"id": …}` of a row of another entity, or null.
    Foreign {
        entity: &'static str,
        on_delete: OnDelete,
    },
}

/// A nested record: its fields, the checks that span them and the older spellings it still takes.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub fields: Vec<(Cow<'static, str>, Field)>,
    pub checks: Vec<Check>,
    pub shorthands: Vec<Shorthand>,
}

/// What happens to a row when the row it references is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// The delete is refused.
    Restrict,
    /// The row goes too.
    Cascade,
}

/// A rule that one value must keep. The order in which rules are tried is Kong's, not that of declaration.
#[derive(Clone, Debug)]
pub enum Rule {
    Eq(Value),
    Ne(Value),
    OneOf(Vec<Value>),
    NotOneOf(Vec<Value>),
    Gt(f64),
    Between(f64, f64),
    LenEq(usize),
    LenMin(usize),
    LenMax(usize),
    StartsWith(&'static str),
    /// An array must contain this value.
    Contains(Value),
    /// A string must match; `message` replaces Kong's default `invalid value: …`.
    Match {
        pattern: Pattern,
        message: Option<&'static str>,
    },
    /// A string must not match.
    NotMatch {
        pattern: Pattern,
        message: Option<&'static str>,
    },
    /// A string must match at least one.
    MatchAny {
        patterns: Vec<Pattern>,
        message: Option<&'static str>,
    },
    Uuid,
    IsRegex,
    Timestamp,
    /// Every element of an array or set must keep these (used in conditions over `protocols`).
    Elements(Vec<Rule>),
    /// Sets of values of which only one may be used, e.g. `protocols` of a route.
    MutuallyExclusiveSubsets(Vec<Vec<&'static str>>),
    /// Anything else: answers the complaint in Kong's words. Runs after the other rules.
    Custom(fn(&Value) -> Result<(), String>),
    /// As `Custom`, for what is known only when the program runs.
    Code(Code),
}

/// A check that is made while the program runs: users' own plugins bring some.
#[derive(Clone)]
pub struct Code(pub Arc<Checker>);

/// See [`Code`].
pub type Checker = dyn Fn(&Value) -> Result<(), String> + Send + Sync;

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code")
    }
}

/// A pattern with the spelling that `/schemas` shows (Kong shows Lua patterns) beside the regex that is run.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub lua: &'static str,
    pub regex: &'static str,
}

/// How one field is checked, defaulted and kept.
#[derive(Clone, Debug)]
pub struct Field {
    pub kind: Kind,
    pub required: bool,
    /// Filled by us when absent (ids, timestamps, generated secrets).
    pub auto: bool,
    /// No two rows of a workspace share the value.
    pub unique: bool,
    /// No two rows share the value, whatever their workspace.
    pub unique_across_ws: bool,
    pub immutable: bool,
    /// Accepted on write, never stored or shown by the store (e.g. the `snis` of a certificate).
    pub transient: bool,
    pub default: Option<Value>,
    pub rules: Vec<Rule>,
    /// Replaces the complaint of whichever rule is broken.
    pub error: Option<&'static str>,
    /// A vault reference may stand in place of the value.
    pub referenceable: bool,
    /// Marked for encryption at rest: shown in `/schemas` as Kong does.
    pub encrypted: bool,
    /// Further attributes that only `/schemas` shows, as they appear there.
    pub shown: Vec<(&'static str, Value)>,
    /// What it is for, in one or two sentences; the struct field's doc comment.
    pub doc: Cow<'static, str>,
}

impl Field {
    /// A field of this kind with nothing else said of it.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            required: false,
            auto: false,
            unique: false,
            unique_across_ws: false,
            immutable: false,
            transient: false,
            default: None,
            rules: Vec::new(),
            error: None,
            referenceable: false,
            encrypted: false,
            shown: Vec::new(),
            doc: Cow::Borrowed(""),
        }
    }

    /// Takes a value out of those that a field of this record may have.
    pub fn remove_choice(&mut self, name: &str, choice: &str) {
        let Kind::Record(record) = &mut self.kind else { return };
        for rule in record.fields.iter_mut().filter(|(known, _)| known == name).flat_map(|(_, field)| &mut field.rules) {
            if let Rule::OneOf(choices) = rule {
                choices.retain(|known| known.as_str() != Some(choice));
            }
        }
    }
}
