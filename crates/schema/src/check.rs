//! Rules that span several fields of a record (Kong's entity checks).

use serde_json::Value;

use crate::{Record, Rule};

/// One rule over several fields. Field names may be dotted paths into nested records (`config.minute`).
#[derive(Clone, Debug)]
pub enum Check {
    AtLeastOneOf(Vec<&'static str>),
    OnlyOneOf(Vec<&'static str>),
    MutuallyExclusive(Vec<&'static str>),
    MutuallyRequired(Vec<&'static str>),
    Distinct(Vec<&'static str>),
    /// When `if_field` keeps `if_match`, `then_field` must keep `then_match` (and be present if `then_required`).
    Conditional {
        if_field: &'static str,
        if_match: Vec<Rule>,
        then_field: &'static str,
        then_match: Vec<Rule>,
        then_required: bool,
        then_error: Option<&'static str>,
    },
    ConditionalAtLeastOneOf {
        if_field: &'static str,
        if_match: Vec<Rule>,
        then_at_least_one_of: Vec<&'static str>,
        then_error: Option<&'static str>,
    },
    /// Anything else. Gets the whole record; complaints name the field (or `@entity`) and say what is wrong.
    Custom {
        fields: Vec<&'static str>,
        check: fn(&Record) -> Result<(), Vec<(String, Value)>>,
    },
}
