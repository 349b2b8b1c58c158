//! Rules that span several fields of a record (Kong's entity checks).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::validate::{is_reference, keeps};
use crate::violation::ENTITY;
use crate::{Field, Kind, Op, Record, Rule, Violations};

type Fields = [(Cow<'static, str>, Field)];

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
pub(crate) fn run(fields: &Fields, checks: &[Check], record: &Record, op: Op, violations: &mut Violations) {
    for check in checks {
        let complaints = match stand(fields, check, record, op, violations) {
            Stand::Due => run_one(check, record, op, violations).err().unwrap_or_default(),
            Stand::Moot => continue,
            Stand::Lacking(names) => {
                let when_updating = if op == Op::Update { " when updating" } else { "" };
                let text = format!("field required for entity check{when_updating}");
                names.into_iter().map(|name| (name.to_owned(), Value::from(text.as_str()))).collect()
            }
        };
        for (path, complaint) in complaints {
            // The last word on a field has the check that it broke.
            if path == ENTITY { violations.add(&path, complaint) } else { violations.put(&path, complaint) }
        }
    }
}

/// Whether a check can be made.
enum Stand {
    Due,
    Moot,
    /// Not without these fields, which is a complaint of its own.
    Lacking(Vec<&'static str>),
}

/// A check is moot when a field it looks at holds a vault reference, when it looks at fields none of which is there, or, for
/// the kinds of check that need sound values, when a field of the outermost record is wrong already.
fn stand(fields: &Fields, check: &Check, record: &Record, op: Op, so_far: &Violations) -> Stand {
    let names = named(check);
    let presence = matches!(
        check,
        Check::AtLeastOneOf(_) | Check::ConditionalAtLeastOneOf { .. } | Check::MutuallyExclusive(_) | Check::MutuallyRequired(_)
    );
    let sound = matches!(
        check,
        Check::MutuallyExclusive(_) | Check::MutuallyRequired(_) | Check::Custom { .. } | Check::Code { .. } | Check::Hidden { .. }
    );
    let needed: &[&str] = match check {
        Check::OnlyOneOf(_) | Check::Distinct(_) | Check::Custom { .. } | Check::Code { .. } => &names,
        Check::Conditional { if_field, .. } => std::slice::from_ref(if_field),
        _ => &[],
    };
    let mut all_missing = true;
    let mut lacking = Vec::new();
    for name in &names {
        match at(record, name) {
            Some(value) => {
                all_missing = false;
                // Nobody knows what a secret kept elsewhere will be.
                if is_reference(value) && field_at(fields, name).is_some_and(|field| field.referenceable && matches!(field.kind, Kind::String)) {
                    return Stand::Moot;
                }
            }
            None if needed.contains(name) => lacking.push(*name),
            None => {}
        }
    }
    // Kong keeps its complaints by the whole path, so what is wrong in a nested record holds no check up.
    if sound && names.iter().any(|name| so_far.0.contains_key(*name)) {
        return Stand::Moot;
    }
    if all_missing && !names.is_empty() && !(presence && op != Op::Update) {
        return Stand::Moot;
    }
    if lacking.is_empty() { Stand::Due } else { Stand::Lacking(lacking) }
}

/// The field at a dotted path.
fn field_at<'a>(fields: &'a Fields, path: &str) -> Option<&'a Field> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let field = fields.iter().find(|(name, _)| name == first).map(|(_, field)| field)?;
    match (rest, &field.kind) {
        (None, _) => Some(field),
        (Some(rest), Kind::Record(inner)) => field_at(&inner.fields, rest),
        _ => None,
    }
}

fn run_one(check: &Check, record: &Record, op: Op, so_far: &Violations) -> Result<(), Complaints> {
    let when_updating = if op == Op::Update { "when updating, " } else { "" };
    let entity = |text: String| Err(vec![(ENTITY.to_owned(), Value::String(text))]);
    let filled = |names: &[&str]| names.iter().filter(|name| is_filled(record, name)).count();
    let wrong = |names: &[&str]| names.iter().any(|name| so_far.at(name).is_some());
    match check {
        Check::AtLeastOneOf(names) if filled(names) == 0 => {
            entity(format!("{when_updating}at least one of these fields must be non-empty: {}", quoted(names)))
        }
        Check::OnlyOneOf(names) if filled(names) != 1 => {
            entity(format!("exactly one of these fields must be non-empty: {}", quoted(names)))
        }
        Check::MutuallyExclusive(names) if filled(names) > 1 => {
            entity(format!("only one or none of these fields must be set: {}", quoted(names)))
        }
        Check::MutuallyRequired(names) if (1..names.len()).contains(&filled(names)) => {
            entity(format!("all or none of these fields must be set: {}", quoted(names)))
        }
        Check::Distinct(names) => {
            let values: Vec<&Value> = names.iter().filter_map(|name| at(record, name)).filter(|value| !value.is_null()).collect();
            let repeated = values.iter().enumerate().any(|(at, value)| values[..at].contains(value));
            if repeated { entity(format!("values of these fields must be distinct: {}", quoted(names))) } else { Ok(()) }
        }
        Check::Conditional { if_field, if_match, then_field, then_match, then_required, then_error } => {
            let Some(condition) = at(record, if_field) else { return Ok(()) };
            let value = at(record, then_field).unwrap_or(&Value::Null);
            if wrong(&[*if_field]) || keeps(if_match, false, condition).is_err() {
                return Ok(());
            }
            let text = then_error.map_or_else(|| format!("failed conditional validation given value of field '{if_field}'"), str::to_owned);
            // Kong tries the field's own rules again here, so one that is wrong anyway fails the condition too.
            let must_be_null = then_match.iter().any(|rule| matches!(rule, Rule::Eq(Value::Null)));
            let Err(complaint) = keeps(then_match, *then_required, value) else {
                return if wrong(&[*then_field]) { entity(text) } else { Ok(()) };
            };
            if !must_be_null && so_far.at(then_field).is_some_and(is_about_kind) {
                return entity(text);
            }
            Err(vec![(ENTITY.to_owned(), text.into()), ((*then_field).to_owned(), complaint.into())])
        }
        Check::ConditionalAtLeastOneOf { if_field, if_match, then_at_least_one_of, then_error } => {
            let Some(condition) = at(record, if_field) else { return Ok(()) };
            if wrong(&[*if_field]) || keeps(if_match, false, condition).is_err() || filled(then_at_least_one_of) > 0 {
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

/// Neither null nor empty.
fn is_filled(record: &Record, path: &str) -> bool {
    match at(record, path) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    }
}
