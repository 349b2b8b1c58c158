//! Rules that span several fields of a record (Kong's entity checks).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::validate::{is_reference, keeps};
use crate::violation::ENTITY;
use crate::{Field, Kind, Op, Record, Rule, Violations};

/// Complaints, each under the field (dotted path, or `@entity`) that it is about.
pub type Complaints = Vec<(String, Value)>;

/// A check in Rust: gets the whole record.
pub type CustomCheck = fn(&Record) -> Result<(), Complaints>;

/// A check of whole records that is made while the program runs.
#[derive(Clone)]
pub struct RecordCode(pub Arc<RecordChecker>);

/// See [`RecordCode`].
pub type RecordChecker = dyn Fn(&Record) -> Result<(), Complaints> + Send + Sync;

impl fmt::Debug for RecordCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordCode")
    }
}

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
        check: CustomCheck,
    },
    /// As `Custom`, for what is known only when the program runs.
    Code {
        fields: Vec<&'static str>,
        check: RecordCode,
    },
    /// As `Custom`, but not shown by `/schemas`.
    Hidden {
        fields: Vec<&'static str>,
        check: CustomCheck,
    },
    /// Checks nothing: what `/schemas` shows in the place of a hidden check.
    Shown(Value),
}

/// Runs the checks of a record whose fields have been checked, adding to what was found there.
///
/// As in Kong a check is left out when a field it looks at holds a vault reference, when none of its fields is there, or when
/// one of them is wrong already; of nested fields (`config.minute`) it doesn't know that. Checks on presence look at whatever is
/// there.
pub(crate) fn run(checks: &[Check], fields: &[(Cow<'static, str>, Field)], record: &Record, op: Op, violations: &mut Violations) {
    for check in checks {
        if let Err(complaints) = run_one(check, fields, record, op, violations) {
            for (path, complaint) in complaints {
                match check {
                    // The last word on a field has the check that needs it.
                    Check::Conditional { then_field, .. } if path == *then_field => violations.put(&path, complaint),
                    _ if complaint == NEEDED => violations.put(&path, complaint),
                    // What cannot be set at all cannot, whatever else is wrong with it.
                    Check::Hidden { .. } if path != ENTITY => violations.put(&path, complaint),
                    _ => violations.add(&path, complaint),
                }
            }
        }
    }
}

/// The complaint about a field that was not given and that a check cannot do without.
const NEEDED: &str = "field required for entity check";

fn run_one(check: &Check, fields: &[(Cow<'static, str>, Field)], record: &Record, op: Op, so_far: &Violations) -> Result<(), Complaints> {
    let when_updating = if op == Op::Update { "when updating, " } else { "" };
    let entity = |text: String| Err(vec![(ENTITY.to_owned(), Value::String(text))]);
    let filled = |names: &[&str]| names.iter().filter(|name| is_filled(record, name)).count();
    let is_secret = |name: &str| field_at(fields, name).is_some_and(|field| field.referenceable && matches!(field.kind, Kind::String));
    let referenced = |names: &[&str]| names.iter().any(|name| at(record, name).is_some_and(is_reference) && is_secret(name));
    let wrong = |names: &[&str]| names.iter().any(|name| !name.contains('.') && so_far.at(name).is_some());
    // Nobody knows what a secret kept elsewhere will be.
    if referenced(&named(check)) {
        return Ok(());
    }
    let by_hand = matches!(check, Check::Custom { .. } | Check::Hidden { .. } | Check::Code { .. });
    if by_hand && wrong(&named(check)) {
        return Ok(());
    }
    if let Some(needed) = needed(check) {
        let named = named(check);
        if !named.is_empty() && named.iter().all(|name| at(record, name).is_none()) {
            return Ok(());
        }
        let absent = |name: &&&str| at(record, name).is_none() && field_at(fields, name).is_some_and(|field| field.required);
        let absent: Vec<_> = needed.iter().filter(absent).map(|name| ((*name).to_owned(), Value::from(NEEDED))).collect();
        if !absent.is_empty() {
            return Err(absent);
        }
    }
    match check {
        // A change that takes the whole record away is told of that only.
        Check::AtLeastOneOf(names) if op == Op::Update && names.iter().all(|name| at(record, name).is_none()) => Ok(()),
        Check::AtLeastOneOf(names) if filled(names) == 0 => {
            entity(format!("{when_updating}at least one of these fields must be non-empty: {}", quoted(names)))
        }
        Check::OnlyOneOf(names) if filled(names) != 1 => {
            entity(format!("exactly one of these fields must be non-empty: {}", quoted(names)))
        }
        Check::MutuallyExclusive(names) if filled(names) > 1 && !wrong(names) => {
            entity(format!("only one or none of these fields must be set: {}", quoted(names)))
        }
        Check::MutuallyRequired(names) if (1..names.len()).contains(&filled(names)) && !wrong(names) => {
            entity(format!("all or none of these fields must be set: {}", quoted(names)))
        }
        Check::Distinct(names) => {
            let values: Vec<&Value> = names.iter().filter_map(|name| at(record, name)).filter(|value| !value.is_null()).collect();
            let repeated = values.iter().enumerate().any(|(at, value)| values[..at].contains(value));
            if repeated { entity(format!("values of these fields must be distinct: {}", quoted(names))) } else { Ok(()) }
        }
        Check::Conditional { if_field, if_match, then_field, then_match, then_required, then_error } => {
            let (condition, value) = (at(record, if_field).unwrap_or(&Value::Null), at(record, then_field).unwrap_or(&Value::Null));
            if so_far.at(if_field).is_some() || keeps(if_match, false, condition).is_err() {
                return Ok(());
            }
            let text = then_error.map_or_else(|| format!("failed conditional validation given value of field '{if_field}'"), str::to_owned);
            // Kong tries the field's own rules again here, so one that is wrong anyway fails the condition too.
            let must_be_null = then_match.iter().any(|rule| matches!(rule, Rule::Eq(Value::Null)));
            let Err(complaint) = keeps(then_match, *then_required, value) else {
                return if so_far.at(then_field).is_some() { entity(text) } else { Ok(()) };
            };
            if !must_be_null && so_far.at(then_field).is_some_and(is_about_kind) {
                return entity(text);
            }
            Err(vec![(ENTITY.to_owned(), text.into()), ((*then_field).to_owned(), complaint.into())])
        }
        Check::ConditionalAtLeastOneOf { if_field, if_match, then_at_least_one_of, then_error } => {
            let Some(condition) = at(record, if_field) else { return Ok(()) };
            if so_far.at(if_field).is_some() || keeps(if_match, false, condition).is_err() || filled(then_at_least_one_of) > 0 {
                return Ok(());
            }
            let names = quoted(then_at_least_one_of);
            entity(then_error.map_or_else(
                || format!("{when_updating}at least one of these fields must be non-empty: {names}"),
                |text| text.replace("%s", &names),
            ))
        }
        Check::Custom { check, .. } | Check::Hidden { check, .. } => check(record),
        Check::Code { check, .. } => (check.0)(record),
        _ => Ok(()),
    }
}

/// Whether a complaint is about what a value is, which is looked at before its rules are.
fn is_about_kind(complaint: &Value) -> bool {
    complaint.as_str().is_none_or(|text| text.starts_with("expected a"))
}

/// The fields that a check looks at.
fn named(check: &Check) -> Vec<&'static str> {
    match check {
        Check::AtLeastOneOf(names)
        | Check::OnlyOneOf(names)
        | Check::MutuallyExclusive(names)
        | Check::MutuallyRequired(names)
        | Check::Distinct(names)
        | Check::Custom { fields: names, .. }
        | Check::Code { fields: names, .. }
        | Check::Hidden { fields: names, .. } => names.clone(),
        Check::Conditional { if_field, then_field, .. } => vec![if_field, then_field],
        Check::ConditionalAtLeastOneOf { if_field, then_at_least_one_of, .. } => {
            [*if_field].into_iter().chain(then_at_least_one_of.iter().copied()).collect()
        }
        Check::Shown(_) => Vec::new(),
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// The value at a dotted path. None if a record on the way is null.
pub(crate) fn at<'a>(record: &'a Record, path: &str) -> Option<&'a Value> {
    let mut segments = path.split('.');
    let mut value = record.get(segments.next()?)?;
    for segment in segments {
        value = value.as_object()?.get(segment)?;
    }
    Some(value)
}

/// What is said of the field at a dotted path.
fn field_at<'a>(fields: &'a [(Cow<'static, str>, Field)], path: &str) -> Option<&'a Field> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (_, field) = fields.iter().find(|(name, _)| name == first)?;
    match (rest, &field.kind) {
        (None, _) => Some(field),
        (Some(rest), Kind::Record(record)) => field_at(&record.fields, rest),
        _ => None,
    }
}

/// The fields that must be there, if only as null, for the check to make sense; none for checks on presence.
fn needed(check: &Check) -> Option<Vec<&'static str>> {
    match check {
        Check::AtLeastOneOf(_) | Check::MutuallyExclusive(_) | Check::MutuallyRequired(_) => None,
        Check::ConditionalAtLeastOneOf { .. } | Check::Shown(_) => None,
        Check::Conditional { if_field, .. } => Some(vec![if_field]),
        _ => Some(named(check)),
    }
}

/// Neither null nor empty.
pub(crate) fn is_filled(record: &Record, path: &str) -> bool {
    match at(record, path) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    }
}
