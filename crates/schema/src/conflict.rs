//! Refusals that depend on what else is stored: keys that are taken, references to nothing, rows that are still needed.
//!
//! Codes, names and messages are Kong's (behaviour checklist 3.1, recorded cases).

use serde_json::{Value, json};

use crate::{ApiError, Record};

impl ApiError {
    /// Code 5: another row has these values.
    pub fn unique_violation(fields: Record) -> Self {
        Self {
            status: 409,
            code: Some(5),
            name: "unique constraint violation".into(),
            message: format!("UNIQUE violation detected on '{}'", lua_key(&fields)),
            fields: Some(Value::Object(fields)),
        }
    }

    /// Code 3: a row with this id exists.
    pub fn primary_key_violation(id: &str) -> Self {
        let fields = by_id(id);
        Self {
            status: 400,
            code: Some(3),
            name: "primary key violation".into(),
            message: format!("primary key violation on key '{}'", lua_key(&fields)),
            fields: Some(Value::Object(fields)),
        }
    }

    /// Code 4: `field` references a row of `parent` that isn't there.
    pub fn foreign_key_violation(field: &str, parent: &str, id: &str) -> Self {
        Self {
            status: 400,
            code: Some(4),
            name: "foreign key violation".into(),
            message: format!("the foreign key '{}' does not reference an existing '{parent}' entity.", lua_key(&by_id(id))),
            fields: Some(json!({ field: { "id": id } })),
        }
    }

    /// Code 4: a row of `child` references the row of `parent` that should go.
    pub fn still_referenced(child: &str, parent: &str) -> Self {
        Self {
            status: 400,
            code: Some(4),
            name: "foreign key violation".into(),
            message: format!("an existing '{child}' entity references this '{parent}' entity"),
            fields: Some(json!({ "@referenced_by": child })),
        }
    }

    /// Code 6: no row has this id.
    pub fn id_not_found(id: &str) -> Self {
        let fields = by_id(id);
        Self {
            status: 404,
            code: Some(6),
            name: "not found".into(),
            message: format!("could not find the entity with primary key '{}'", lua_key(&fields)),
            fields: Some(Value::Object(fields)),
        }
    }
}

fn by_id(id: &str) -> Record {
    Record::from_iter([("id".to_owned(), Value::from(id))])
}

/// A key as Kong spells it: a Lua table on one line, sorted.
fn lua_key(fields: &Record) -> String {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    let pairs: Vec<String> = fields
        .into_iter()
        .map(|(name, value)| match value {
            Value::Object(nested) => format!("{name}={}", lua_key(nested)),
            Value::String(text) => format!("{name}=\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            other => format!("{name}={other}"),
        })
        .collect();
    format!("{{{}}}", pairs.join(","))
}
