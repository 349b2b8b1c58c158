//! The errors a client of the Admin API can see, with Kong's codes, names and messages (behaviour checklist 3.1).

use serde_json::{Value, json};

use crate::{Record, Violations};

/// An error whose body clients match on. `status` is the HTTP status of the Admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    pub status: u16,
    /// Kong's error code (1–19), or none for bodies that only have a message.
    pub code: Option<u8>,
    pub name: &'static str,
    pub message: String,
    /// `fields` of the body (`options` for code 11).
    pub fields: Option<Value>,
}

impl ApiError {
    /// A body that only has a message.
    pub fn message(status: u16, message: impl Into<String>) -> Self {
        Self { status, code: None, name: "", message: message.into(), fields: None }
    }

    /// Code 2: the record breaks its schema.
    pub fn schema_violation(violations: Violations) -> Self {
        Self {
            status: 400,
            code: Some(2),
            name: "schema violation",
            message: violations.message(),
            fields: Some(Value::Object(violations.0)),
        }
    }

    /// The JSON body a client sees.
    pub fn body(&self) -> Value {
        let Some(code) = self.code else { return json!({ "message": self.message }) };
        let mut body = Record::new();
        body.insert("code".into(), code.into());
        body.insert("name".into(), self.name.into());
        body.insert("message".into(), self.message.clone().into());
        if let Some(fields) = &self.fields {
            body.insert(if code == 11 { "options" } else { "fields" }.into(), fields.clone());
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
