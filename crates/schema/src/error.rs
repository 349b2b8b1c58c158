//! The errors a client of the Admin API can see, with Kong's codes, names and messages (behaviour checklist 3.1).

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::{Record, Violations, lua};

const FOREIGN_KEY_VIOLATION: &str = "foreign key violation";

/// An error whose body clients match on. `status` is the HTTP status of the Admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    pub status: u16,
    /// Kong's error code (1–19), or none for bodies that only have a message.
    pub code: Option<u8>,
    pub name: Cow<'static, str>,
    pub message: String,
    /// `fields` of the body (`options` for code 11).
    pub fields: Option<Value>,
}

impl ApiError {
    /// A body that only has a message.
    pub fn message(status: u16, message: impl Into<String>) -> Self {
        Self { status, code: None, name: Cow::Borrowed(""), message: message.into(), fields: None }
    }

    /// Code 2: the record breaks its schema.
    pub fn schema_violation(violations: Violations) -> Self {
        Self::coded(400, 2, "schema violation", violations.message(), Some(Value::Object(violations.0)))
    }

    fn coded(status: u16, code: u8, name: impl Into<Cow<'static, str>>, message: impl Into<String>, fields: Option<Value>) -> Self {
        Self { status, code: Some(code), name: name.into(), message: message.into(), fields }
    }

    /// Code 1: what stands in the place of an id cannot be one. `fields` says what is wrong with which part of the key.
    pub fn invalid_primary_key(fields: Record) -> Self {
        let message = format!("invalid primary key: '{}'", lua::key(&fields));
        Self::coded(400, 1, "invalid primary key", message, Some(Value::Object(fields)))
    }

    /// Code 3: a row with this key exists already.
    pub fn primary_key_violation(key: Record) -> Self {
        let message = format!("primary key violation on key '{}'", lua::key(&key));
        Self::coded(400, 3, "primary key violation", message, Some(Value::Object(key)))
    }

    /// Code 3: a row cannot be made under no id. Kong tells it with the name its language has for a null pointer.
    pub fn null_primary_key() -> Self {
        let message = "primary key violation on key '{id=\"userdata: NULL\"}'";
        Self::coded(400, 3, "primary key violation", message, Some(json!({ "id": null })))
    }

    /// Code 4: `field` references a row of `entity` that isn't there.
    pub fn foreign_key_missing(field: &str, key: Record, entity: &str) -> Self {
        let message = format!("the foreign key '{}' does not reference an existing '{entity}' entity.", lua::key(&key));
        Self::coded(400, 4, FOREIGN_KEY_VIOLATION, message, Some(json!({ field: key })))
    }

    /// Code 4: a row of `child` still references the row of `parent` that is to be deleted.
    pub fn still_referenced(parent: &str, child: &str) -> Self {
        let message = format!("an existing '{child}' entity references this '{parent}' entity");
        Self::coded(400, 4, FOREIGN_KEY_VIOLATION, message, Some(json!({ "@referenced_by": child })))
    }

    /// Code 5: another row has these values.
    pub fn unique_violation(fields: Record) -> Self {
        let message = format!("UNIQUE violation detected on '{}'", lua::key(&fields));
        Self::coded(409, 5, "unique constraint violation", message, Some(Value::Object(fields)))
    }

    /// Code 6: nothing has this primary key.
    pub fn not_found(primary_key: Record) -> Self {
        let message = format!("could not find the entity with primary key '{}'", lua::key(&primary_key));
        Self::coded(404, 6, "not found", message, Some(Value::Object(primary_key)))
    }

    /// Code 6: nothing has this value in a unique field.
    pub fn not_found_by(unique: Record) -> Self {
        let message = format!("could not find the entity with '{}'", lua::key(&unique));
        Self::coded(404, 6, "not found", message, Some(Value::Object(unique)))
    }

    /// Code 7: a page cannot start there. `reason` is `bad base64 encoding` or `bad json encoding`.
    pub fn invalid_offset(offset: &str, reason: &str) -> Self {
        Self::coded(400, 7, "invalid offset", format!("'{offset}' is not a valid offset: {reason}"), None)
    }

    /// Code 8: the store failed. `message` must not carry a cause that is none of the client's business.
    pub fn database(message: impl Into<String>) -> Self {
        Self::coded(500, 8, "database error", message, None)
    }

    /// Code 9: a page cannot have that size.
    pub fn invalid_size(message: impl Into<String>) -> Self {
        Self::coded(400, 9, "invalid size", message, None)
    }

    /// Code 10: what stands in the place of a name cannot be one.
    pub fn invalid_unique(field: &str, complaint: impl Into<String>) -> Self {
        Self::coded(400, 10, format!("invalid unique {field}"), complaint, None)
    }

    /// Code 11: options of a request (`tags`, `ttl`) that make no sense.
    pub fn invalid_options(options: Violations) -> Self {
        Self::coded(400, 11, "invalid options", options.message_as("invalid option"), Some(Value::Object(options.0)))
    }

    /// Code 12: this node cannot do that, e.g. `cannot create 'services' entities when not using a database`.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::coded(405, 12, "operation unsupported", message, None)
    }

    /// Code 13: references by a unique field that lead nowhere. Build the tree with [`ApiError::unresolved`].
    pub fn foreign_keys_unresolved(fields: Violations) -> Self {
        let message = fields.message_as("foreign key unresolved");
        Self::coded(400, 13, "foreign keys unresolved", message, Some(Value::Object(fields.0)))
    }

    /// The complaint about `{"name": "x"}` that no row of `entity` has, to be filed under the reference's field and key.
    pub fn unresolved(key: &Record, entity: &str) -> String {
        format!("the foreign key cannot be resolved with '{}' for an existing '{entity}' entity", lua::key(key))
    }

    /// Code 14: a declarative document with these complaints, a tree that mirrors the document.
    pub fn invalid_declarative(fields: Record) -> Self {
        let tree = Value::Object(fields);
        let message = format!("declarative config is invalid: {}", lua::inline(&tree));
        Self::coded(400, 14, "invalid declarative configuration", message, Some(tree))
    }

    /// Code 15: a value that should be computed on write could not be.
    pub fn transformation(message: impl Into<String>) -> Self {
        Self::coded(400, 15, "transformation error", message, None)
    }

    /// Code 16: what is given in the place of a reference cannot be one.
    pub fn invalid_foreign_key(fields: Record) -> Self {
        let message = format!("invalid foreign key: '{}'", lua::key(&fields));
        Self::coded(400, 16, "invalid foreign key", message, Some(Value::Object(fields)))
    }

    /// Code 17: there is no such workspace.
    pub fn invalid_workspace(workspace: &str) -> Self {
        Self::coded(400, 17, "invalid workspace", format!("invalid workspace '{workspace}'"), None)
    }

    /// Code 18: a question that cannot be asked of this entity.
    pub fn invalid_global_query(message: impl Into<String>) -> Self {
        Self::coded(400, 18, "invalid global query", message, None)
    }

    /// Code 19: other rows mention this one without a reference that the store knows of.
    pub fn referenced_by_others(message: impl Into<String>) -> Self {
        Self::coded(400, 19, "referenced by others", message, None)
    }

    /// A row is no longer as the client takes it to be. None of Kong's: it has no number, but the shape of its errors.
    pub fn precondition_failed(entity: &str, key: Record) -> Self {
        let message = format!("the '{entity}' entity with '{}' is not as the request expects it", lua::key(&key));
        Self { status: 412, code: None, name: Cow::Borrowed("precondition failed"), message, fields: Some(Value::Object(key)) }
    }

    /// The JSON body a client sees.
    pub fn body(&self) -> Value {
        let mut body = Record::new();
        if let Some(code) = self.code {
            body.insert("code".into(), code.into());
        }
        if !self.name.is_empty() {
            body.insert("name".into(), self.name.as_ref().into());
        }
        body.insert("message".into(), self.message.clone().into());
        if let Some(fields) = &self.fields {
            body.insert(if self.code == Some(11) { "options" } else { "fields" }.into(), fields.clone());
        }
        Value::Object(body)
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}
