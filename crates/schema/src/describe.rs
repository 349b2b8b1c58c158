//! What `/schemas` answers: fields and checks in Kong's vocabulary.

use std::borrow::Cow;

use serde_json::{Map, Number, Value, json};

use crate::field::Pattern;
use crate::prepare::config_field;
use crate::{Catalog, Check, ConfigSchema, Field, Kind, OnDelete, Rule, Schema, Shorthand};

impl Catalog {
    /// What `GET /schemas/:entity` answers.
    pub fn describe(&self, schema: &Schema) -> Value {
        json!({ "fields": describe_fields(&schema.fields), "entity_checks": describe_checks(&schema.checks) })
    }

    /// What `GET /schemas/plugins/:name` answers.
    pub fn describe_plugin(&self, plugin: &ConfigSchema) -> Value {
        let overrides = plugin.overrides.iter().filter(|(name, _)| *name != "config");
        let mut fields: Vec<Value> = overrides.map(|(name, field)| json!({ *name: describe_field(field) })).collect();
        fields.push(json!({ "config": describe_field(&config_field(plugin)) }));
        json!({ "fields": fields, "entity_checks": describe_checks(&plugin.checks) })
    }
}

fn describe_fields(fields: &[(Cow<'static, str>, Field)]) -> Value {
    fields.iter().map(|(name, field)| json!({ name.as_ref(): describe_field(field) })).collect()
}

/// One field as `/schemas` shows it.
pub fn describe_field(field: &Field) -> Value {
    let mut out = Map::new();
    describe_kind(&field.kind, &mut out);
    for rule in &field.rules {
        describe_rule(rule, &mut out);
    }
    for (name, set) in [
        ("required", field.required),
        ("auto", field.auto),
        ("unique", field.unique),
        ("unique_across_ws", field.unique_across_ws),
        ("immutable", field.immutable),
        ("transient", field.transient),
        ("referenceable", field.referenceable),
        ("encrypted", field.encrypted),
    ] {
        if set {
            out.insert(name.to_owned(), true.into());
        }
    }
    if let Some(default) = &field.default {
        out.insert("default".to_owned(), default.clone());
    }
    if let Some(error) = field.error {
        out.insert("err".to_owned(), error.into());
    }
    if !field.doc.is_empty() {
        out.insert("description".to_owned(), field.doc.as_ref().into());
    }
    for (name, value) in &field.shown {
        out.insert((*name).to_owned(), value.clone());
    }
    Value::Object(out)
}

fn describe_kind(kind: &Kind, out: &mut Map<String, Value>) {
    let name = match kind {
        Kind::String => "string",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Boolean => "boolean",
        Kind::Json => "json",
        Kind::Array(_) => "array",
        Kind::Set(_) => "set",
        Kind::Map { .. } => "map",
        Kind::Record(_) => "record",
        Kind::Foreign { .. } => "foreign",
    };
    out.insert("type".to_owned(), name.into());
    match kind {
        Kind::Array(element) | Kind::Set(element) => {
            out.insert("elements".to_owned(), describe_field(element));
        }
        Kind::Map { keys, values } => {
            out.insert("keys".to_owned(), describe_field(keys));
            out.insert("values".to_owned(), describe_field(values));
        }
        Kind::Record(record) => {
            if !record.fields.is_empty() {
                out.insert("fields".to_owned(), describe_fields(&record.fields));
            }
            if !record.checks.is_empty() {
                out.insert("entity_checks".to_owned(), describe_checks(&record.checks));
            }
            if !record.shorthands.is_empty() {
                out.insert("shorthand_fields".to_owned(), describe_shorthands(&record.shorthands));
            }
        }
        Kind::Foreign { entity, on_delete } => {
            out.insert("reference".to_owned(), (*entity).into());
            if *on_delete == OnDelete::Cascade {
                out.insert("on_delete".to_owned(), "cascade".into());
            }
        }
        _ => {}
    }
}

fn describe_shorthands(shorthands: &[Shorthand]) -> Value {
    shorthands.iter().map(|shorthand| json!({ shorthand.name: describe_field(&shorthand.field) })).collect()
}

fn describe_rule(rule: &Rule, out: &mut Map<String, Value>) {
    let message = |pattern: &Pattern, message: &Option<&str>| match message {
        Some(message) => json!({ "pattern": pattern.lua, "err": message }),
        None => json!({ "pattern": pattern.lua }),
    };
    let (name, value) = match rule {
        Rule::Eq(value) => ("eq", value.clone()),
        Rule::Ne(value) => ("ne", value.clone()),
        Rule::OneOf(values) => ("one_of", json!(values)),
        Rule::NotOneOf(values) => ("not_one_of", json!(values)),
        Rule::Gt(bound) => ("gt", number(*bound)),
        Rule::Between(low, high) => ("between", json!([number(*low), number(*high)])),
        Rule::LenEq(length) => ("len_eq", json!(length)),
        Rule::LenMin(length) => ("len_min", json!(length)),
        Rule::LenMax(length) => ("len_max", json!(length)),
        Rule::StartsWith(prefix) => ("starts_with", json!(prefix)),
        Rule::Contains(value) => ("contains", value.clone()),
        Rule::Match { pattern, message: None } => ("match", json!(pattern.lua)),
        Rule::NotMatch { pattern, message: None } => ("not_match", json!(pattern.lua)),
        // Several of one kind form a list.
        Rule::Match { pattern, message: complaint } => return append(out, "match_all", message(pattern, complaint)),
        Rule::NotMatch { pattern, message: complaint } => return append(out, "match_none", message(pattern, complaint)),
        Rule::MatchAny { patterns, message } => {
            let patterns: Vec<&str> = patterns.iter().map(|pattern| pattern.lua).collect();
            let described = match message {
                Some(message) => json!({ "patterns": patterns, "err": message }),
                None => json!({ "patterns": patterns }),
            };
            ("match_any", described)
        }
        Rule::Uuid => ("uuid", true.into()),
        Rule::IsRegex => ("is_regex", true.into()),
        Rule::Timestamp => ("timestamp", true.into()),
        Rule::Elements(rules) => {
            let mut inner = Map::from_iter([("type".to_owned(), json!("string")), ("required".to_owned(), true.into())]);
            rules.iter().for_each(|rule| describe_rule(rule, &mut inner));
            ("elements", Value::Object(inner))
        }
        Rule::MutuallyExclusiveSubsets(subsets) => ("mutually_exclusive_subsets", json!(subsets)),
        Rule::Custom(_) | Rule::Code(_) => return,
    };
    out.insert(name.to_owned(), value);
}

fn append(out: &mut Map<String, Value>, name: &str, value: Value) {
    if let Value::Array(list) = out.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
        list.push(value);
    }
}

fn number(float: f64) -> Value {
    if float.fract() == 0.0 { Value::from(float as i64) } else { Number::from_f64(float).map_or(Value::Null, Value::Number) }
}

fn describe_checks(checks: &[Check]) -> Value {
    checks.iter().filter_map(describe_check).collect()
}

fn describe_check(check: &Check) -> Option<Value> {
    Some(match check {
        Check::AtLeastOneOf(names) => json!({ "at_least_one_of": names }),
        Check::OnlyOneOf(names) => json!({ "only_one_of": names }),
        Check::MutuallyExclusive(names) => json!({ "mutually_exclusive": names }),
        Check::MutuallyRequired(names) => json!({ "mutually_required": names }),
        Check::Distinct(names) => json!({ "distinct": names }),
        Check::Conditional { if_field, if_match, then_field, then_match, then_required, then_error } => {
            let mut then = rules(then_match);
            if *then_required {
                then.insert("required".to_owned(), true.into());
            }
            let mut inner = json!({ "if_field": if_field, "if_match": rules(if_match), "then_field": then_field, "then_match": then });
            put_error(&mut inner, then_error);
            json!({ "conditional": inner })
        }
        Check::ConditionalAtLeastOneOf { if_field, if_match, then_at_least_one_of, then_error } => {
            let mut inner = json!({ "if_field": if_field, "if_match": rules(if_match), "then_at_least_one_of": then_at_least_one_of });
            put_error(&mut inner, then_error);
            json!({ "conditional_at_least_one_of": inner })
        }
        Check::Custom { fields, .. } | Check::Code { fields, .. } => json!({ "custom_entity_check": { "field_sources": fields } }),
        Check::Shown(value) => value.clone(),
        Check::Hidden { .. } => return None,
    })
}

fn rules(rules: &[Rule]) -> Map<String, Value> {
    let mut out = Map::new();
    rules.iter().for_each(|rule| describe_rule(rule, &mut out));
    out
}

fn put_error(inner: &mut Value, error: &Option<&'static str>) {
    if let (Value::Object(inner), Some(error)) = (inner, error) {
        inner.insert("then_err".to_owned(), (*error).into());
    }
}
