//! From what a client sent to a record that can be stored: shorthands, merge, defaults, checks, transformations.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::check::{at, is_filled};
use crate::fill::{Moment, fill_record};
use crate::validate::{check_partly, check_record, check_value, is_uuid, same};
use crate::violation::ENTITY;
use crate::{ApiError, Catalog, Check, ConfigSchema, Field, Kind, Op, Record, Schema, Shorthand, Transform, Violations, lua};

/// How a record is to be prepared.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    pub op: Op,
    /// The stored row, for [`Op::Update`].
    pub existing: Option<&'a Record>,
    /// Seconds since the epoch.
    pub now: f64,
    /// Whether values computed on write (hashes, normal forms) are computed. Exported documents carry them already.
    pub transform: bool,
    /// Whether references have been resolved: one without an id is wrong then.
    pub resolved: bool,
}

type Fields = [(Cow<'static, str>, Field)];

impl Catalog {
    /// Makes a complete, valid record of `input`: shorthands expanded, defaults and automatic fields filled, foreign
    /// references as `{"id": …}`, everything checked. References by another unique field (`{"name": …}`) have been resolved.
    ///
    /// `existing` is the stored row for [`Op::Update`], into which `input` is merged as PATCH does. `now` is in seconds.
    /// Errors with every complaint at once.
    pub fn prepare(&self, schema: &Schema, input: Record, op: Op, existing: Option<&Record>, now: f64) -> Result<Record, ApiError> {
        self.prepare_given(schema, input, Given { op, existing, now, transform: true, resolved: true })
    }

    /// As [`Catalog::prepare`], with a say over transformations and references.
    pub fn prepare_given(&self, schema: &Schema, mut input: Record, given: Given<'_>) -> Result<Record, ApiError> {
        if schema.read_only {
            let complaint = "does not support insert/upsert/update/delete operations";
            return Err(ApiError::schema_violation(Violations::of(&schema.name, complaint)));
        }
        let ttl = take_ttl(schema, &mut input)?;
        let existing = given.existing.filter(|_| given.op == Op::Update);
        let kind = self.config_schema(schema, &input, existing);
        let fields = effective_fields(schema, kind.as_ref().ok().and_then(|kind| *kind));

        let mut wrong_shorthands = Violations::default();
        expand_shorthands(&fields, &schema.shorthands, &mut input, &mut wrong_shorthands);
        if !wrong_shorthands.is_empty() {
            return Err(ApiError::schema_violation(wrong_shorthands));
        }
        if let Some(shape) = schema.shape {
            shape(&mut input);
        }
        let transforms: Vec<_> = schema.transforms.iter().filter(|transform| given.transform && transform.is_due(&input)).collect();
        let mut violations = Violations::default();
        let unmet: Vec<String> =
            schema.transforms.iter().filter_map(|transform| unmet_needs(&fields, transform, &input, existing)).collect();
        let mut hidden = Record::new();
        let mut record = match existing {
            Some(existing) => {
                check_same_id(&input, existing)?;
                note_immutable(&fields, &input, existing, &mut violations);
                let mut merged = existing.clone();
                // What the store keeps beside the fields of the schema (workspace, expiry) travels along unseen.
                hidden = merged
                    .keys()
                    .filter(|key| !fields.iter().any(|(name, _)| name == *key))
                    .cloned()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .filter_map(|key| merged.remove_entry(&key))
                    .collect();
                merge(&fields, &mut merged, input);
                merged
            }
            None => input,
        };
        if let Some(settle) = schema.settle {
            settle(&mut record);
        }
        fill_record(&fields, &mut record, Moment { op: given.op, now: given.now });
        pass_gate(schema, &record, kind.as_ref().err()).map_err(ApiError::schema_violation)?;
        let checks: Cow<'_, [Check]> = match kind {
            Ok(Some(config)) if !config.checks.is_empty() => schema.checks.iter().chain(&config.checks).cloned().collect(),
            _ => Cow::Borrowed(&schema.checks),
        };
        if let Err(found) = check_record(&fields, &checks, &record, given.op) {
            violations.0.extend(found.0);
        }
        if given.resolved {
            self.check_references(schema, &record, given.op, &mut violations);
        }
        unmet.into_iter().for_each(|complaint| violations.add(ENTITY, complaint.into()));
        if !violations.is_empty() {
            return Err(ApiError::schema_violation(violations));
        }
        for transform in transforms {
            (transform.apply)(&mut record).map_err(ApiError::schema_violation)?;
        }
        record.extend(hidden);
        if let Some(ttl) = ttl {
            record.insert("ttl".to_owned(), ttl);
        }
        Ok(record)
    }

    /// The schema of `config` that the record's `name` picks; none if the entity has no such field or no name is given.
    /// Errors with the field to complain about.
    fn config_schema(&self, schema: &Schema, input: &Record, existing: Option<&Record>) -> Result<Option<&ConfigSchema>, (String, String)> {
        let Some(by) = schema.config_by else { return Ok(None) };
        let name = input.get(by).or_else(|| existing.and_then(|existing| existing.get(by)));
        // Kong takes the first element of what isn't text, and has none of an object.
        let name: Cow<'_, str> = match name {
            Some(Value::String(name)) => Cow::Borrowed(name),
            Some(Value::Array(list)) => Cow::Owned(lua::first(list)),
            Some(Value::Object(_)) => Cow::Borrowed("nil"),
            _ => return Ok(None),
        };
        let of_vaults = schema.name == "vaults";
        let known = if of_vaults { &self.vaults } else { &self.plugins };
        match known.get(name.as_ref()) {
            Some(config) => Ok(Some(config)),
            None if of_vaults => Err((by.to_owned(), format!("vault '{name}' is not installed"))),
            None => Err((by.to_owned(), format!("plugin '{name}' not enabled; add it to the 'plugins' configuration property"))),
        }
    }

    /// Complains about references without an id in the words of the entity they would point to.
    fn check_references(&self, schema: &Schema, record: &Record, op: Op, violations: &mut Violations) {
        for (field, entity, _) in schema.foreigns() {
            let Some(parent) = self.entity(entity) else { continue };
            let reference = match record.get(field) {
                Some(Value::Object(reference)) => Cow::Borrowed(reference),
                // A list is a record whose fields are numbers.
                Some(Value::Array(list)) => {
                    Cow::Owned(list.iter().enumerate().map(|(at, value)| ((at + 1).to_string(), value.clone())).collect::<Record>())
                }
                _ => continue,
            };
            let known = matches!(reference.get("id"), Some(Value::String(id)) if is_uuid(id));
            if known || violations.0.get(field).is_some_and(Value::is_string) {
                continue;
            }
            let mut found = parent.gate.map(|gate| gate(&reference)).and_then(Result::err).unwrap_or_default();
            if found.is_empty() {
                found = check_partly(&parent.fields, &reference, op);
            }
            if found.is_empty() {
                let text = if reference.contains_key("id") { "required field missing" } else { "missing primary key" };
                found = Violations::of("id", text);
            }
            let counted = found.0.keys().enumerate().all(|(at, key)| *key == (at + 1).to_string());
            let found =
                if counted { Value::Array(found.0.into_iter().map(|(_, complaint)| complaint).collect()) } else { Value::Object(found.0) };
            violations.0.insert(field.to_owned(), found);
        }
    }

    /// The record as clients see it: moved settings also appear under their older names.
    pub fn shown(&self, schema: &Schema, mut record: Record) -> Record {
        if let Ok(Some(config)) = self.config_schema(schema, &record, None) {
            let fields = effective_fields(schema, Some(config));
            show_moved(&fields, &schema.shorthands, &mut record);
        }
        record
    }

    /// The entity's fields as they apply to this record: with the `config` and the overrides of its plugin or vault.
    pub fn fields_for<'a>(&self, schema: &'a Schema, input: &Record, existing: Option<&Record>) -> Cow<'a, Fields> {
        effective_fields(schema, self.config_schema(schema, input, existing).ok().flatten())
    }
}

/// Nothing else is looked at without a plugin (or vault) whose settings are known, or where an entity has a gate of its own.
fn pass_gate(schema: &Schema, record: &Record, unknown: Option<&(String, String)>) -> Result<(), Violations> {
    if let Some((field, complaint)) = unknown {
        return Err(Violations::of(field, complaint.as_str()));
    }
    if let Some(by) = schema.config_by.filter(|by| record.get(*by).is_none_or(Value::is_null)) {
        return Err(Violations::of(by, "required field missing"));
    }
    schema.gate.map_or(Ok(()), |gate| gate(record))
}

/// The entity's fields with those of its plugin or vault in their place.
pub(crate) fn effective_fields<'a>(schema: &'a Schema, config: Option<&ConfigSchema>) -> Cow<'a, Fields> {
    if schema.config_by.is_none() {
        return Cow::Borrowed(&schema.fields);
    }
    let mut fields = schema.fields.clone();
    for (name, field) in &mut fields {
        match config {
            Some(config) if name == "config" => *field = config_field(config),
            Some(config) => {
                if let Some((_, wanted)) = config.overrides.iter().find(|(overridden, _)| *overridden == name.as_ref()) {
                    let default = wanted.default.clone().or_else(|| field.default.clone());
                    *field = Field { default, required: wanted.required || field.required, ..wanted.clone() };
                }
            }
            None if name == "config" => *field = Field::new(Kind::Json),
            None => {}
        }
    }
    Cow::Owned(fields)
}

/// The `config` field with the shorthands its schema lists beside it.
pub(crate) fn config_field(config: &ConfigSchema) -> Field {
    config.config.clone().shorthands(config.shorthands.clone())
}

fn take_ttl(schema: &Schema, input: &mut Record) -> Result<Option<Value>, ApiError> {
    if !schema.ttl {
        return Ok(None);
    }
    let Some(ttl) = input.remove("ttl").filter(|ttl| !ttl.is_null()) else { return Ok(None) };
    match ttl.as_f64() {
        Some(seconds) if seconds.fract() == 0.0 && (0.0..=100_000_000.0).contains(&seconds) => Ok(Some(json!(seconds as u64))),
        _ => Err(ApiError::invalid_options(Violations::of("ttl", "must be an integer between 0 and 100000000"))),
    }
}

/// Replaces every shorthand, at any depth, by what it stands for. Complaints are filed at the top, as Kong does.
fn expand_shorthands(fields: &[(Cow<'static, str>, Field)], shorthands: &[Shorthand], record: &mut Record, wrong: &mut Violations) {
    for shorthand in shorthands {
        let Some(value) = record.remove(shorthand.name) else { continue };
        if let Err(complaint) = check_value(&shorthand.field, &value, Op::Insert) {
            wrong.0.insert(shorthand.name.to_owned(), complaint);
            continue;
        }
        let done = match shorthand.moved_to() {
            Some(path) => move_value(shorthand.name, &path, value, record),
            None => (shorthand.expand)(&value, record),
        };
        if let Err(complaint) = done {
            wrong.0.insert(shorthand.name.to_owned(), complaint.into());
        }
    }
    for (name, field) in fields {
        if let Some(value) = record.get_mut(name.as_ref()) {
            expand_inside(&field.kind, value, wrong);
        }
    }
}

fn expand_inside(kind: &Kind, value: &mut Value, wrong: &mut Violations) {
    match (kind, value) {
        (Kind::Record(inner), Value::Object(record)) => expand_shorthands(&inner.fields, &inner.shorthands, record, wrong),
        (Kind::Array(element) | Kind::Set(element), Value::Array(list)) => {
            list.iter_mut().for_each(|value| expand_inside(&element.kind, value, wrong));
        }
        (Kind::Map { values, .. }, Value::Object(entries)) => {
            entries.values_mut().for_each(|value| expand_inside(&values.kind, value, wrong));
        }
        _ => {}
    }
}

fn move_value(name: &str, path: &[&str], value: Value, record: &mut Record) -> Result<(), String> {
    let Some((last, parents)) = path.split_last() else { return Ok(()) };
    let mut at = record;
    for parent in parents {
        let inner = at.entry(*parent).or_insert_with(|| Value::Object(Record::new()));
        if inner.is_null() {
            *inner = Value::Object(Record::new());
        }
        let Value::Object(inner) = inner else { return Ok(()) };
        at = inner;
    }
    match at.get(*last).filter(|other| !other.is_null()) {
        Some(_) if value.is_null() => Ok(()),
        Some(other) if !same(other, &value) => Err(format!(
            "both deprecated and new field are used but their values mismatch: {name} = {} vs {} = {}",
            lua::text(&value),
            path.join("."),
            lua::text(other)
        )),
        _ => {
            at.insert((*last).to_owned(), value);
            Ok(())
        }
    }
}

fn show_moved(fields: &[(Cow<'static, str>, Field)], shorthands: &[Shorthand], record: &mut Record) {
    for (name, field) in fields {
        if let (Kind::Record(inner), Some(Value::Object(value))) = (&field.kind, record.get_mut(name.as_ref())) {
            show_moved(&inner.fields, &inner.shorthands, value);
        }
    }
    for shorthand in shorthands {
        if let Some(path) = shorthand.moved_to() {
            let value = at(record, &path.join(".")).cloned().unwrap_or(Value::Null);
            record.insert(shorthand.name.to_owned(), value);
        }
    }
}

/// A transformation gets its inputs and what it needs together. A change that alters what it needs, or leaves it out, has to
/// bring all of it; one that doesn't finds it in the row. Answers the complaint if something is missing.
fn unmet_needs(fields: &Fields, transform: &Transform, input: &Record, existing: Option<&Record>) -> Option<String> {
    if transform.needs.is_empty() {
        return None;
    }
    let given = |path: &str| is_filled(input, path);
    let kept = |path: &str| existing.is_some_and(|existing| is_filled(existing, path));
    // A new row makes some of it by itself.
    let made = |path: &str| existing.is_none() && fields.iter().any(|(name, field)| name == path && field.auto);
    let changed = existing.is_some_and(|existing| transform.needs.iter().any(|path| at(input, path) != at(existing, path)));
    if !changed && !transform.inputs.iter().any(|path| given(path)) {
        return None;
    }
    let all = || transform.inputs.iter().chain(transform.needs);
    let there = all().filter(|path| given(path) || !changed && (kept(path) || made(path))).count();
    if there == 0 || there == all().count() {
        return None;
    }
    let names: Vec<String> = all().map(|name| format!("'{name}'")).collect();
    Some(format!("all or none of these fields must be set: {}", names.join(", ")))
}

/// A row keeps its id: to Kong, changing it means changing another row, which isn't there.
fn check_same_id(input: &Record, existing: &Record) -> Result<(), ApiError> {
    let id = |record: &Record| record.get("id").and_then(Value::as_str).map(str::to_owned);
    match (id(input), id(existing)) {
        (Some(wanted), Some(kept)) if is_uuid(&wanted) && !wanted.eq_ignore_ascii_case(&kept) => {
            Err(ApiError::not_found(Record::from_iter([("id".to_owned(), kept.into())])))
        }
        _ => Ok(()),
    }
}

fn note_immutable(fields: &[(Cow<'static, str>, Field)], input: &Record, existing: &Record, violations: &mut Violations) {
    for (name, _) in fields.iter().filter(|(_, field)| field.immutable) {
        if let (Some(wanted), Some(kept)) = (input.get(name.as_ref()), existing.get(name.as_ref()))
            && !same(wanted, kept)
        {
            violations.0.insert(name.to_string(), "immutable field cannot be updated".into());
        }
    }
}

/// PATCH: records merge field by field, everything else is replaced; null unsets.
fn merge(fields: &[(Cow<'static, str>, Field)], kept: &mut Record, input: Record) {
    for (name, value) in input {
        let kind = fields.iter().find(|(known, _)| *known == name.as_str()).map(|(_, field)| &field.kind);
        match (kind, kept.get_mut(&name), value) {
            (Some(Kind::Record(inner)), Some(Value::Object(old)), Value::Object(new)) => merge(&inner.fields, old, new),
            // An empty Lua table: a record of which nothing changes.
            (Some(Kind::Record(_)), Some(Value::Object(_)), Value::Array(new)) if new.is_empty() => {}
            (_, _, value) => {
                kept.insert(name, value);
            }
        }
    }
}
