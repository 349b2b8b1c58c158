//! A field and its rules as a JSON Schema (2020-12).
//!
//! A schema says no more than what holds: rules that JSON Schema cannot say (checks in Rust, rules across fields, lengths in
//! bytes) are left out, never tightened.

use std::borrow::Cow;

use portcullis_schema::{Catalog, Field, Kind, Rule, field};
use serde_json::{Map, Number, Value, json};

/// A text that stands for a secret kept elsewhere.
const REFERENCE: &str = r"^\{vault://.+\}$";

/// For whom a schema is.
#[derive(Clone, Copy, PartialEq)]
pub enum Use {
    /// What answers show.
    Read,
    /// What POST and PUT take.
    Write,
    /// What PATCH takes: nothing is required.
    Change,
}

/// Fields of one catalog.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    pub catalog: &'a Catalog,
    pub of: Use,
}

impl Fields<'_> {
    /// The schema of an object with these fields and the older spellings of some.
    pub fn object(self, fields: &[(Cow<'static, str>, Field)], shorthands: &[portcullis_schema::Shorthand]) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (name, field) in fields {
            properties.insert(name.to_string(), self.field(field));
            if self.is_required(field) {
                required.push(name.as_ref());
            }
        }
        for shorthand in shorthands {
            // In answers only those are seen that are other names of a field.
            let moved = shorthand.moved_to().is_some();
            if self.of != Use::Read || moved {
                let mut schema = nullable(self.field(&shorthand.field));
                if moved {
                    schema["deprecated"] = true.into();
                }
                properties.entry(shorthand.name).or_insert(schema);
            }
        }
        let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if !required.is_empty() {
            object["required"] = json!(required);
        }
        object
    }

    fn is_required(self, field: &Field) -> bool {
        match self.of {
            Use::Read => !field.transient && (field.required || field.auto),
            // Records that must be there are made of their defaults.
            Use::Write => field.required && field.default.is_none() && !field.auto && !matches!(field.kind, Kind::Record(_)),
            Use::Change => false,
        }
    }

    /// The schema of one field.
    pub fn field(self, field: &Field) -> Value {
        let mut schema = self.value(field);
        let null_is_meant = field.rules.iter().any(|rule| matches!(rule, Rule::Eq(value) if value.is_null()));
        if null_is_meant {
            schema = json!({ "type": "null" });
        } else if !field.required && !field.rules.iter().any(|rule| matches!(rule, Rule::Ne(Value::Null))) {
            schema = nullable(schema);
        }
        if !field.doc.is_empty() {
            schema["description"] = field.doc.as_ref().into();
        }
        if let Some(default) = &field.default
            && self.of == Use::Write
        {
            schema["default"] = default.clone();
        }
        if field.encrypted {
            schema["format"] = "password".into();
        }
        if field.shown.iter().any(|(name, _)| *name == "deprecation") {
            schema["deprecated"] = true.into();
        }
        schema
    }

    /// What the value may be if it isn't null.
    fn value(self, field: &Field) -> Value {
        let mut schema = self.kind(&field.kind);
        let bounded = field.rules.iter().any(|rule| matches!(rule, Rule::LenMin(_) | Rule::LenEq(_)));
        if matches!(field.kind, Kind::String) && !bounded {
            schema["minLength"] = 1.into();
        }
        for rule in &field.rules {
            self.rule(rule, &field.kind, &mut schema);
        }
        let plain_text = matches!(field.kind, Kind::String) && field.rules.is_empty();
        if field.referenceable && !plain_text {
            return json!({ "anyOf": [schema, { "type": "string", "pattern": REFERENCE, "description": "A reference into a vault." }] });
        }
        schema
    }

    fn kind(self, kind: &Kind) -> Value {
        match kind {
            Kind::String => json!({ "type": "string" }),
            Kind::Integer => json!({ "type": "integer" }),
            Kind::Number => json!({ "type": "number" }),
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Json => json!({}),
            Kind::Array(element) => json!({ "type": "array", "items": self.element(element) }),
            Kind::Set(element) => {
                let mut set = json!({ "type": "array", "items": self.element(element) });
                if self.of == Use::Read {
                    set["uniqueItems"] = true.into();
                }
                set
            }
            Kind::Map { keys, values } => {
                let mut map = json!({ "type": "object", "additionalProperties": self.element(values) });
                let names = self.value(keys);
                if names.as_object().is_some_and(|names| names.len() > 1) {
                    map["propertyNames"] = names;
                }
                map
            }
            Kind::Record(record) => self.object(&record.fields, &record.shorthands),
            Kind::Foreign { entity, .. } => self.foreign(entity),
        }
    }

    /// Elements, keys and values are never null.
    fn element(self, field: &Field) -> Value {
        if matches!(field.kind, Kind::Json) {
            return json!({});
        }
        let mut schema = self.value(field);
        if !field.doc.is_empty() {
            schema["description"] = field.doc.as_ref().into();
        }
        schema
    }

    fn foreign(self, entity: &str) -> Value {
        let id = json!({ "type": "string", "format": "uuid" });
        if self.of == Use::Read {
            return json!({ "type": "object", "required": ["id"], "properties": { "id": id }, "additionalProperties": false });
        }
        let mut properties = Map::from_iter([("id".to_owned(), id)]);
        let fields = self.catalog.entity(entity).into_iter().flat_map(|schema| &schema.fields);
        for (name, _) in fields.filter(|(_, field)| field.unique && matches!(field.kind, Kind::String)) {
            properties.insert(name.to_string(), json!({ "type": "string", "minLength": 1 }));
        }
        json!({
            "type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1,
            "description": format!("One of the {entity}, by its id or by what else is unique."),
        })
    }

    fn rule(self, rule: &Rule, kind: &Kind, schema: &mut Value) {
        let text = matches!(kind, Kind::String);
        let list = matches!(kind, Kind::Array(_) | Kind::Set(_));
        match rule {
            Rule::Eq(value) => schema["const"] = value.clone(),
            Rule::OneOf(values) if !values.is_empty() => schema["enum"] = json!(values),
            Rule::Ne(value) if !value.is_null() => exclude(schema, json!({ "const": value })),
            Rule::NotOneOf(values) => exclude(schema, json!({ "enum": values })),
            Rule::Gt(bound) => schema["exclusiveMinimum"] = number(*bound),
            Rule::Between(low, high) => {
                schema["minimum"] = number(*low);
                schema["maximum"] = number(*high);
            }
            Rule::LenEq(length) if list => {
                schema["minItems"] = json!(length);
                schema["maxItems"] = json!(length);
            }
            Rule::LenMin(length) if list => schema["minItems"] = json!(length),
            Rule::LenMax(length) if list => schema["maxItems"] = json!(length),
            // Lengths of texts are counted in bytes here and in characters there: never fewer bytes than characters.
            Rule::LenMin(length) | Rule::LenEq(length) if text && *length <= 1 => schema["minLength"] = json!(length),
            Rule::LenMax(length) | Rule::LenEq(length) if text => schema["maxLength"] = json!(length),
            Rule::StartsWith(prefix) => pattern(schema, &format!("^{}", regex_of_text(prefix))),
            Rule::Contains(value) if list => schema["contains"] = json!({ "const": value }),
            Rule::Match { pattern: wanted, .. } if text && portable(wanted) => pattern(schema, wanted.regex),
            Rule::NotMatch { pattern: unwanted, .. } if text && portable(unwanted) => {
                // Null would match: patterns only speak of texts.
                exclude(schema, json!({ "type": "string", "pattern": unwanted.regex }));
            }
            Rule::Uuid => schema["format"] = "uuid".into(),
            Rule::IsRegex => schema["format"] = "regex".into(),
            Rule::Timestamp => schema["exclusiveMinimum"] = 0.into(),
            _ => {}
        }
    }
}

/// Adds null to what a schema allows.
pub fn nullable(mut schema: Value) -> Value {
    if let Some(wanted) = schema.get("const").cloned() {
        schema["enum"] = json!([wanted]);
        if let Value::Object(schema) = &mut schema {
            schema.remove("const");
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("enum") {
        choices.push(Value::Null);
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.push(json!({ "type": "null" }));
    }
    if let Some(Value::String(kind)) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
    schema
}

fn exclude(schema: &mut Value, what: Value) {
    match schema.get_mut("allOf") {
        Some(Value::Array(all)) => all.push(json!({ "not": what })),
        _ => schema["allOf"] = json!([{ "not": what }]),
    }
}

fn pattern(schema: &mut Value, regex: &str) {
    if schema.get("pattern").is_none() {
        schema["pattern"] = regex.into();
        return;
    }
    match schema.get_mut("allOf") {
        Some(Value::Array(all)) => all.push(json!({ "pattern": regex })),
        _ => schema["allOf"] = json!([{ "pattern": regex }]),
    }
}

/// Whether the regex means the same in ECMAScript: no flags, no classes or escapes of its own.
fn portable(pattern: &field::Pattern) -> bool {
    let regex = pattern.regex;
    let mut escaped = regex.split('\\').skip(1).map(|rest| rest.chars().next());
    let known = |c: Option<char>| c.is_none_or(|c| r"dDwWsSnrt.\/()[]{}|+*?^$".contains(c));
    let flags = regex.replace("(?:", "").contains("(?");
    !flags && !regex.contains("[[") && !regex.contains("&&") && escaped.all(known)
}

fn regex_of_text(text: &str) -> String {
    text.chars().flat_map(|c| r"\.+*?()|[]{}^$/".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

fn number(float: f64) -> Value {
    if float.fract() == 0.0 { Value::from(float as i64) } else { Number::from_f64(float).map_or(Value::Null, Value::Number) }
}
