//! Checks a complete record against fields and rules, gathering every complaint.
//!
//! A value is checked in Kong's order: null first, then its kind (elements and nested fields included), then the rules in
//! the order of [`rank`], whatever the order of declaration. The first broken rule is the complaint.

use std::borrow::Cow;

use serde_json::Value;

use crate::field::Pattern;
use crate::fill::{Moment, fill_record};
use crate::{Check, Field, Kind, Op, Record, Rule, Violations, lua, pattern};

/// What a complaint tree is made of for one value: text, a sparse list, or a map by field.
type Complaint = Value;

/// Whether a value stands in for a secret kept elsewhere: `{vault://prefix/path}`.
pub fn is_reference(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("{vault://") && text.ends_with('}') && text.len() > 10)
}

/// Checks the fields of a record, then the checks that span them.
pub(crate) fn check_record(fields: &[(Cow<'static, str>, Field)], checks: &[Check], record: &Record, op: Op) -> Result<(), Violations> {
    let mut violations = Violations::default();
    let mut known = 0;
    for (name, field) in fields {
        let value = record.get(name.as_ref());
        known += usize::from(value.is_some());
        if let Err(complaint) = check_value(field, value.unwrap_or(&Value::Null), op) {
            violations.0.insert(name.to_string(), complaint);
        }
    }
    let unknown = known != record.len();
    for name in record.keys().filter(|name| unknown && !fields.iter().any(|(known, _)| known == *name)) {
        violations.0.insert(name.clone(), "unknown field".into());
    }
    crate::check::run(checks, fields, record, op, &mut violations);
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// Checks the fields that are there, and misses none.
pub(crate) fn check_partly(fields: &[(Cow<'static, str>, Field)], record: &Record, op: Op) -> Violations {
    let mut violations = Violations::default();
    for (name, value) in record {
        let field = fields.iter().find(|(known, _)| known == name.as_str()).map(|(_, field)| field);
        let complaint = field.map_or_else(|| Err("unknown field".into()), |field| check_value(field, value, op));
        if let Err(complaint) = complaint {
            violations.0.insert(name.clone(), complaint);
        }
    }
    violations
}

impl Field {
    /// Checks one value on its own, e.g. a name in a URL. Errors with the complaint a record would get for it.
    pub fn check(&self, value: &Value) -> Result<(), Value> {
        check_value(self, value, Op::Insert)
    }
}

/// Checks one value against its field.
pub(crate) fn check_value(field: &Field, value: &Value, op: Op) -> Result<(), Complaint> {
    if value.is_null() {
        // What is missing is told as such, whatever a wrong value is told.
        return check_null(field.required, &field.rules);
    }
    if field.rules.iter().any(|rule| matches!(rule, Rule::Eq(Value::Null))) {
        return Err(field.error.unwrap_or("value must be null").into());
    }
    if field.referenceable && is_reference(value) {
        return Ok(());
    }
    check_kind(&field.kind, value, op)?;
    check_rules(field, value).map_err(|complaint| field.error.map_or(complaint, str::to_owned).into())
}

fn check_null(required: bool, rules: &[Rule]) -> Result<(), Complaint> {
    for rule in rules {
        match rule {
            Rule::Ne(Value::Null) => return Err("value must not be null".into()),
            Rule::Eq(wanted) if !wanted.is_null() => return Err(format!("value must be {}", lua::text(wanted)).into()),
            _ => {}
        }
    }
    if required { Err("required field missing".into()) } else { Ok(()) }
}

fn check_kind(kind: &Kind, value: &Value, op: Op) -> Result<(), Complaint> {
    match (kind, value) {
        (Kind::String, Value::String(_)) | (Kind::Boolean, Value::Bool(_)) | (Kind::Number, Value::Number(_)) | (Kind::Json, _) => Ok(()),
        (Kind::Integer, Value::Number(number)) => {
            let whole = number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0);
            if whole { Ok(()) } else { Err("expected an integer".into()) }
        }
        (Kind::Array(element) | Kind::Set(element), Value::Array(list)) => check_elements(element, list, op),
        // Kong cannot tell an empty map from an empty list.
        (Kind::Array(_) | Kind::Set(_), Value::Object(fields)) if fields.is_empty() => Ok(()),
        (Kind::Map { keys, values }, Value::Object(entries)) => {
            for (key, entry) in entries {
                check_required(keys, &Value::String(key.clone()), op)?;
                check_required(values, entry, op)?;
            }
            Ok(())
        }
        // A list is a map whose keys are numbers.
        (Kind::Map { keys, .. }, Value::Array(list)) => match list.first() {
            None => Ok(()),
            Some(_) => check_required(keys, &Value::from(1), op),
        },
        (Kind::Record(record), Value::Object(fields)) => {
            check_record(&record.fields, &record.checks, fields, op).map_err(|violations| Value::Object(violations.0))
        }
        (Kind::Record(record), Value::Array(list)) if !list.is_empty() => Err(check_list_as_record(record, list, op)),
        (Kind::Foreign { .. }, _) => check_foreign(value),
        (kind, _) => Err(format!("expected {}", kind_with_article(kind)).into()),
    }
}

/// A list is a record whose fields are numbers, none of which is known. What a record needs, it lacks.
fn check_list_as_record(record: &crate::field::Record, list: &[Value], op: Op) -> Complaint {
    let mut fields = Record::new();
    fill_record(&record.fields, &mut fields, Moment { op: Op::Insert, now: 0.0 });
    let mut found = check_record(&record.fields, &record.checks, &fields, op).err().unwrap_or_default();
    if found.is_empty() {
        return list.iter().map(|_| Value::from("unknown field")).collect();
    }
    found.0.extend((1..=list.len()).map(|place| (place.to_string(), "unknown field".into())));
    Value::Object(found.0)
}

fn kind_with_article(kind: &Kind) -> &'static str {
    match kind {
        Kind::String => "a string",
        Kind::Integer => "an integer",
        Kind::Number => "a number",
        Kind::Boolean => "a boolean",
        Kind::Json => "a json value",
        Kind::Array(_) => "an array",
        Kind::Set(_) => "a set",
        Kind::Map { .. } => "a map",
        Kind::Record(_) => "a record",
        Kind::Foreign { .. } => "a foreign key",
    }
}

/// Elements, keys and values of collections are always required.
fn check_required(field: &Field, value: &Value, op: Op) -> Result<(), Complaint> {
    if value.is_null() && !matches!(field.kind, Kind::Json) {
        return check_null(true, &field.rules);
    }
    check_value(field, value, op)
}

fn check_elements(element: &Field, list: &[Value], op: Op) -> Result<(), Complaint> {
    let mut complaints = Vec::new();
    for (at, value) in list.iter().enumerate() {
        if let Err(complaint) = check_required(element, value, op) {
            complaints.resize(at, Value::Null);
            complaints.push(complaint);
        }
    }
    if complaints.is_empty() { Ok(()) } else { Err(Value::Array(complaints)) }
}

/// A reference carries the id of a row. One by a unique field (`{"name": …}`) was resolved, or is left to be, by the caller.
fn check_foreign(value: &Value) -> Result<(), Complaint> {
    let complaint = |field: &str, text: &str| Err(Value::Object(Violations::of(field, text).0));
    let reference = match value {
        Value::Object(reference) => reference,
        // A list is a record whose fields are numbers, none of which is known.
        Value::Array(list) if !list.is_empty() => return Err(list.iter().map(|_| Value::from("unknown field")).collect()),
        _ => return complaint("id", "missing primary key"),
    };
    match reference.get("id") {
        Some(Value::String(id)) if is_uuid(id) => Ok(()),
        Some(Value::String(_)) => complaint("id", "expected a valid UUID"),
        Some(Value::Null) | None if reference.keys().any(|key| key != "id") => Ok(()),
        Some(Value::Null) | None => complaint("id", "missing primary key"),
        Some(_) => complaint("id", "expected a string"),
    }
}

pub(crate) fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Checks a value that isn't null against all rules of a field.
fn check_rules(field: &Field, value: &Value) -> Result<(), String> {
    let bounded = field.rules.iter().any(|rule| matches!(rule, Rule::LenMin(_) | Rule::LenEq(_)));
    let implied = [Rule::LenMin(1)];
    let implied = if matches!(field.kind, Kind::String) && !bounded { &implied[..] } else { &[] };
    check_in_order(&field.rules, implied, value)
}

/// As [`check_value`] for the rules of a condition: null keeps them all but equality.
pub(crate) fn keeps(rules: &[Rule], required: bool, value: &Value) -> Result<(), String> {
    if value.is_null() {
        return check_null(required, rules).map_err(|complaint| complaint.as_str().unwrap_or_default().to_owned());
    }
    check_in_order(rules, &[], value)
}

/// Tries the rules in their order; those of one rank as they are declared.
fn check_in_order(rules: &[Rule], implied: &[Rule], value: &Value) -> Result<(), String> {
    if let ([rule], []) | ([], [rule]) = (rules, implied) {
        return check_rule(rule, value);
    }
    // Mostly all of them are kept, and then their order doesn't matter.
    let broken = |rule: &Rule| check_rule(rule, value).err().map(|complaint| (rank(rule), complaint));
    let mut first: Option<(u8, String)> = None;
    for (rank, complaint) in rules.iter().chain(implied).filter_map(broken) {
        if first.as_ref().is_none_or(|(lowest, _)| rank < *lowest) {
            first = Some((rank, complaint));
        }
    }
    first.map_or(Ok(()), |(_, complaint)| Err(complaint))
}

/// Kong's order of rules.
fn rank(rule: &Rule) -> u8 {
    match rule {
        Rule::Elements(_) => 0,
        Rule::Eq(_) => 1,
        Rule::Ne(_) => 2,
        Rule::NotOneOf(_) => 3,
        Rule::OneOf(_) => 4,
        Rule::Gt(_) => 5,
        Rule::Timestamp => 6,
        Rule::Uuid => 7,
        Rule::IsRegex => 8,
        Rule::Between(..) => 9,
        Rule::LenEq(_) => 10,
        Rule::LenMin(_) => 11,
        Rule::LenMax(_) => 12,
        Rule::StartsWith(_) => 13,
        Rule::NotMatch { .. } => 14,
        Rule::Match { message: None, .. } => 15,
        Rule::Match { .. } => 16,
        Rule::MatchAny { .. } => 17,
        Rule::Contains(_) => 18,
        Rule::Custom(_) | Rule::Code(_) => 19,
        Rule::MutuallyExclusiveSubsets(_) => 20,
    }
}

fn check_rule(rule: &Rule, value: &Value) -> Result<(), String> {
    let complain = |broken: bool, complaint: &dyn Fn() -> String| if broken { Err(complaint()) } else { Ok(()) };
    let text = value.as_str().unwrap_or_default();
    let float = value.as_f64();
    match rule {
        Rule::Eq(wanted) => complain(!same(value, wanted), &|| format!("value must be {}", lua::text(wanted))),
        Rule::Ne(unwanted) => complain(same(value, unwanted), &|| format!("value must not be {}", lua::text(unwanted))),
        Rule::OneOf(choices) => {
            complain(!choices.iter().any(|choice| same(choice, value)), &|| format!("expected one of: {}", list(choices)))
        }
        Rule::NotOneOf(choices) => {
            complain(choices.iter().any(|choice| same(choice, value)), &|| format!("must not be one of: {}", list(choices)))
        }
        Rule::Gt(bound) => {
            complain(float.is_some_and(|number| number <= *bound), &|| format!("value must be greater than {}", lua::number(*bound)))
        }
        Rule::Between(low, high) => complain(float.is_some_and(|number| number < *low || number > *high), &|| {
            // Kong writes both without what comes after the point.
            format!("value should be between {} and {}", lua::number(low.trunc()), lua::number(high.trunc()))
        }),
        Rule::LenEq(length) => complain(len(value) != *length, &|| format!("length must be {length}")),
        Rule::LenMin(length) => complain(len(value) < *length, &|| format!("length must be at least {length}")),
        Rule::LenMax(length) => complain(len(value) > *length, &|| format!("length must be at most {length}")),
        Rule::StartsWith(prefix) => complain(!text.starts_with(prefix), &|| format!("should start with: {prefix}")),
        Rule::Contains(wanted) => {
            let found = value.as_array().is_some_and(|list| list.iter().any(|element| same(element, wanted)));
            complain(!found, &|| format!("expected to contain: {}", lua::text(wanted)))
        }
        Rule::Match { pattern, message } => complain(!matches(pattern, text), &|| invalid(message, text)),
        Rule::NotMatch { pattern, message } => complain(matches(pattern, text), &|| invalid(message, text)),
        Rule::MatchAny { patterns, message } => {
            complain(!patterns.iter().any(|pattern| matches(pattern, text)), &|| invalid(message, text))
        }
        Rule::Uuid => complain(!is_uuid(text), &|| "expected a valid UUID".to_owned()),
        Rule::IsRegex => complain(regex::Regex::new(text).is_err(), &|| format!("not a valid regex: {text}")),
        Rule::Timestamp => complain(float.is_none_or(|number| number <= 0.0), &|| "expected a valid timestamp".to_owned()),
        Rule::Elements(rules) => value.as_array().into_iter().flatten().try_for_each(|element| keeps(rules, false, element)),
        Rule::MutuallyExclusiveSubsets(subsets) => check_subsets(subsets, value),
        Rule::Custom(check) => check(value),
        Rule::Code(check) => (check.0)(value),
    }
}

/// Equality in which `1` and `1.0` are one number.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn list(choices: &[Value]) -> String {
    choices.iter().map(lua::text).collect::<Vec<_>>().join(", ")
}

/// Bytes of a text, elements of a collection.
fn len(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

fn matches(pattern: &Pattern, text: &str) -> bool {
    pattern::matches(pattern.regex, text)
}

fn invalid(message: &Option<&'static str>, text: &str) -> String {
    message.map_or_else(|| format!("invalid value: {text}"), str::to_owned)
}

fn check_subsets(subsets: &[Vec<&'static str>], value: &Value) -> Result<(), String> {
    let mut used: Vec<&Vec<&'static str>> = Vec::new();
    for element in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
        let subset = subsets.iter().find(|subset| subset.contains(&element));
        used.extend(subset.filter(|subset| !used.contains(subset)));
    }
    if used.len() < 2 {
        return Ok(());
    }
    let spelled = |subset: &&Vec<&str>| format!("('{}')", subset.join("', '"));
    Err(format!("these sets are mutually exclusive: {}", used.iter().map(spelled).collect::<Vec<_>>().join(", ")))
}
