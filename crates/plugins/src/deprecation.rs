//! Settings that are to go.

use portcullis_schema::Field;
use serde_json::{Value, json};

/// A field that is to go with Kong 4.0; `message` says what to use instead, `old_default` what it was when nothing was given.
pub fn deprecated(field: Field, message: impl Into<String>, old_default: impl Into<Value>) -> Field {
    field.shown("deprecation", json!({ "message": message.into(), "removal_in_version": "4.0", "old_default": old_default.into() }))
}
