//! One value on its way between a record and a column, in Postgres' binary format.

use std::error::Error;

use bytes::BytesMut;
use portcullis_schema::{Field, Kind};
use serde_json::{Map, Value};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::layout::referenced;

/// A value of a column. What a column takes is the column's business; see [`Column::to_sql`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sql {
    Null,
    Uuid(Uuid),
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// Microseconds since 1970.
    Time(i64),
    Json(Value),
    Texts(Vec<String>),
    Uuids(Vec<Uuid>),
    Jsons(Vec<Value>),
}

/// Seconds from 1970 to 2000, where Postgres' time begins.
const POSTGRES_EPOCH: i64 = 946_684_800;

type Failure = Box<dyn Error + Sync + Send>;

impl ToSql for Sql {
    fn to_sql(&self, wanted: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Uuid(id) => id.to_sql(wanted, out),
            Self::Text(text) => text.to_sql(wanted, out),
            Self::Integer(number) => match *wanted {
                Type::INT2 => i16::try_from(*number)?.to_sql(wanted, out),
                Type::INT4 => i32::try_from(*number)?.to_sql(wanted, out),
                _ => number.to_sql(wanted, out),
            },
            Self::Float(number) => number.to_sql(wanted, out),
            Self::Bool(truth) => truth.to_sql(wanted, out),
            Self::Time(micros) => {
                let since = micros.saturating_sub(POSTGRES_EPOCH * 1_000_000);
                out.extend_from_slice(&since.to_be_bytes());
                Ok(IsNull::No)
            }
            Self::Json(value) => value.to_sql(wanted, out),
            Self::Texts(texts) => texts.to_sql(wanted, out),
            Self::Uuids(ids) => ids.to_sql(wanted, out),
            Self::Jsons(values) => values.to_sql(wanted, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Sql {
    fn from_sql(found: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(match *found {
            Type::UUID => Self::Uuid(Uuid::from_sql(found, raw)?),
            Type::TEXT | Type::VARCHAR | Type::NAME => Self::Text(String::from_sql(found, raw)?),
            Type::INT2 => Self::Integer(i16::from_sql(found, raw)?.into()),
            Type::INT4 => Self::Integer(i32::from_sql(found, raw)?.into()),
            Type::INT8 => Self::Integer(i64::from_sql(found, raw)?),
            Type::FLOAT8 => Self::Float(f64::from_sql(found, raw)?),
            Type::BOOL => Self::Bool(bool::from_sql(found, raw)?),
            Type::TIMESTAMPTZ | Type::TIMESTAMP => {
                let since = i64::from_be_bytes(raw.try_into()?);
                Self::Time(since.saturating_add(POSTGRES_EPOCH * 1_000_000))
            }
            Type::JSON | Type::JSONB => Self::Json(Value::from_sql(found, raw)?),
            Type::TEXT_ARRAY => Self::Texts(Vec::<Option<String>>::from_sql(found, raw)?.into_iter().flatten().collect()),
            Type::UUID_ARRAY => Self::Uuids(Vec::from_sql(found, raw)?),
            Type::JSONB_ARRAY => Self::Jsons(Vec::from_sql(found, raw)?),
            _ => return Err(format!("no value of type {found} was expected").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A column that keeps a field.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// The column's name, quoted.
    pub name: String,
    pub field: String,
    /// Its type, as `pg_type` calls it.
    pub sort: String,
    /// A reference: the field shows `{"id": …}`.
    pub reference: bool,
    /// A time shown in whole seconds, however exactly it is kept.
    pub whole_seconds: bool,
}

/// Why a value cannot be kept.
#[derive(Debug)]
pub(super) enum Misfit {
    /// Postgres keeps no text with this character.
    Nul,
    Other(String),
}

impl Column {
    /// The field's value as the column keeps it.
    pub fn to_sql(&self, value: &Value) -> Result<Sql, Misfit> {
        if has_nul(value) {
            return Err(Misfit::Nul);
        }
        let misfit = || Misfit::Other(format!("{} of type {} cannot keep {value}", self.name, self.sort));
        let id = |value: &Value| referenced(value).ok_or_else(misfit);
        let items = || value.as_array().ok_or_else(misfit);
        Ok(match (value, self.sort.as_str()) {
            (Value::Null, _) => Sql::Null,
            (_, "uuid") => Sql::Uuid(id(value)?),
            (_, "int2" | "int4" | "int8") => Sql::Integer(whole(value).ok_or_else(misfit)?),
            (_, "float8") => Sql::Float(value.as_f64().ok_or_else(misfit)?),
            (_, "bool") => Sql::Bool(value.as_bool().ok_or_else(misfit)?),
            (_, "timestamptz" | "timestamp") => match value.as_i64() {
                Some(seconds) => Sql::Time(seconds.saturating_mul(1_000_000)),
                None => Sql::Time(((value.as_f64().ok_or_else(misfit)? * 1000.0).round() as i64).saturating_mul(1000)),
            },
            (_, "json" | "jsonb") => Sql::Json(value.clone()),
            (_, "_text") => Sql::Texts(items()?.iter().map(text_of).collect()),
            (_, "_uuid") => Sql::Uuids(items()?.iter().map(id).collect::<Result<_, _>>()?),
            (_, "_jsonb") => Sql::Jsons(items()?.clone()),
            (_, "text" | "varchar") => Sql::Text(text_of(value)),
            _ => return Err(misfit()),
        })
    }

    /// What the column keeps as the field shows it.
    pub fn to_value(&self, kept: Sql) -> Value {
        match kept {
            Sql::Null => Value::Null,
            Sql::Uuid(id) if self.reference => Value::Object(Map::from_iter([("id".to_owned(), id.to_string().into())])),
            Sql::Uuid(id) => id.to_string().into(),
            Sql::Text(text) => text.into(),
            Sql::Integer(number) => number.into(),
            Sql::Float(number) => number.into(),
            Sql::Bool(truth) => truth.into(),
            Sql::Time(micros) if self.whole_seconds || micros % 1_000_000 == 0 => micros.div_euclid(1_000_000).into(),
            Sql::Time(micros) => (micros.div_euclid(1000) as f64 / 1000.0).into(),
            Sql::Json(value) => value,
            Sql::Texts(texts) => texts.into(),
            Sql::Uuids(ids) => ids.into_iter().map(|id| Value::from(id.to_string())).collect(),
            Sql::Jsons(values) => values.into(),
        }
    }
}

fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64))
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// Tells lists from objects again where they are empty: a Lua table doesn't say which it is, and Kong may have written it.
pub(super) fn mend(field: &Field, value: &mut Value) {
    match (&field.kind, &mut *value) {
        (Kind::Array(_) | Kind::Set(_), Value::Object(fields)) if fields.is_empty() => *value = Value::Array(Vec::new()),
        (Kind::Map { .. } | Kind::Record(_), Value::Array(items)) if items.is_empty() => *value = Value::Object(Map::new()),
        (Kind::Array(item) | Kind::Set(item), Value::Array(items)) => items.iter_mut().for_each(|value| mend(item, value)),
        (Kind::Map { values, .. }, Value::Object(fields)) => fields.values_mut().for_each(|value| mend(values, value)),
        (Kind::Record(record), Value::Object(fields)) => {
            for (name, field) in &record.fields {
                if let Some(value) = fields.get_mut(name.as_ref()) {
                    mend(field, value);
                }
            }
        }
        _ => {}
    }
}
