//! Values between Lua, JSON text and the gateway's records, as cjson maps them.
//!
//! - [`encode`], [`decode`]: JSON text, as a cjson of certain settings writes and reads it
//! - the rest: records of the gateway

pub mod decode;
pub mod encode;

use mlua::{Lua, Table, UserData, Value};
use serde_json::{Map, Value as Json};

/// The field of a metatable that makes a table a list in JSON.
pub const ARRAY_MARK: &str = "__jsontype_array";
/// The field of a metatable that makes an empty table a list in JSON.
pub const EMPTY_ARRAY_MARK: &str = "__jsontype_empty_array";

/// What becomes of numbers that JSON does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    Refused,
    Taken,
    Null,
}

/// The settings of one cjson.
#[derive(Clone, Debug)]
pub struct Codec {
    pub encode_max_depth: usize,
    pub decode_max_depth: usize,
    /// Digits of numbers.
    pub encode_number_precision: usize,
    /// Whether sparse lists become objects; how many places for one that is taken make a list sparse; up to which place it never is.
    pub encode_sparse_array: (bool, usize, usize),
    pub encode_invalid_numbers: Invalid,
    pub decode_invalid_numbers: Invalid,
    pub encode_empty_table_as_object: bool,
    pub decode_array_with_array_mt: bool,
    pub encode_escape_forward_slash: bool,
}

impl Default for Codec {
    fn default() -> Self {
        Self {
            encode_max_depth: DEPTH,
            decode_max_depth: DEPTH,
            encode_number_precision: 14,
            encode_sparse_array: (false, 2, 10),
            encode_invalid_numbers: Invalid::Refused,
            decode_invalid_numbers: Invalid::Taken,
            encode_empty_table_as_object: true,
            decode_array_with_array_mt: false,
            encode_escape_forward_slash: true,
        }
    }
}

impl UserData for Codec {}

/// Tables nested deeper than this are refused. cjson takes 1000; a thread's stack has to hold them here.
pub const DEPTH: usize = 200;

/// A JSON value as Lua sees it; null becomes `ngx.null` (or nothing, inside objects, where `nulls` is off).
pub fn to_lua(lua: &Lua, value: &Json, nulls: bool) -> mlua::Result<Value> {
    Ok(match value {
        Json::Null if nulls => Value::NULL,
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or_default()),
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(list) => {
            let table = lua.create_table_with_capacity(list.len(), 0)?;
            for (at, element) in list.iter().enumerate() {
                table.raw_set(at + 1, to_lua(lua, element, nulls)?)?;
            }
            Value::Table(table)
        }
        Json::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (name, field) in fields {
                table.raw_set(name.as_str(), to_lua(lua, field, nulls)?)?;
            }
            Value::Table(table)
        }
    })
}

/// A Lua value as JSON. None for nil; errors with cjson's words for what has no place in JSON.
pub fn from_lua(value: &Value) -> mlua::Result<Option<Json>> {
    from_lua_at(value, 0)
}

fn from_lua_at(value: &Value, depth: usize) -> mlua::Result<Option<Json>> {
    if depth > DEPTH {
        return Err(mlua::Error::runtime(format!("Cannot serialise, excessive depth ({depth})")));
    }
    Ok(Some(match value {
        Value::Nil => return Ok(None),
        Value::LightUserData(pointer) if pointer.0.is_null() => Json::Null,
        Value::LightUserData(pointer) if pointer.0.addr() == encode::EMPTY_ARRAY => Json::Array(Vec::new()),
        Value::Boolean(flag) => Json::Bool(*flag),
        Value::Integer(number) => Json::from(*number),
        Value::Number(number) => self::number(*number)?,
        Value::String(text) => Json::String(text.to_string_lossy()),
        Value::Table(table) => match shape(table)? {
            Shape::List(length) => {
                let mut list = Vec::with_capacity(length);
                for at in 1..=length {
                    list.push(from_lua_at(&table.raw_get::<Value>(at)?, depth + 1)?.unwrap_or(Json::Null));
                }
                Json::Array(list)
            }
            Shape::Object => {
                let mut fields = Map::new();
                for pair in table.pairs::<Value, Value>() {
                    let (key, field) = pair?;
                    let name = match key {
                        Value::String(text) => text.to_string_lossy(),
                        Value::Integer(number) => number.to_string(),
                        Value::Number(number) => crate::text::number(number),
                        _ => return Err(mlua::Error::runtime("Cannot serialise table: table key must be a number or string")),
                    };
                    if let Some(field) = from_lua_at(&field, depth + 1)? {
                        fields.insert(name, field);
                    }
                }
                Json::Object(fields)
            }
        },
        other => return Err(mlua::Error::runtime(format!("Cannot serialise {}: type not supported", other.type_name()))),
    }))
}

fn number(number: f64) -> mlua::Result<Json> {
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return Ok(Json::from(number as i64));
    }
    match serde_json::Number::from_f64(number) {
        Some(number) => Ok(Json::Number(number)),
        None => Err(mlua::Error::runtime("Cannot serialise number: must not be NaN or Infinity")),
    }
}

enum Shape {
    List(usize),
    Object,
}

/// Whether a table is a list: its keys are whole numbers from one on, few of them missing, or it is marked as one.
fn shape(table: &Table) -> mlua::Result<Shape> {
    let marked = table.metatable().is_some_and(|meta| meta.raw_get::<bool>(ARRAY_MARK).unwrap_or(false));
    let (mut count, mut greatest) = (0usize, 0usize);
    for pair in table.pairs::<Value, Value>() {
        let place = match pair?.0 {
            Value::Integer(place) if place > 0 => place as usize,
            Value::Number(place) if place > 0.0 && place.fract() == 0.0 => place as usize,
            _ => return Ok(if marked { Shape::List(table.raw_len()) } else { Shape::Object }),
        };
        count += 1;
        greatest = greatest.max(place);
    }
    if count == 0 {
        return Ok(if marked { Shape::List(0) } else { Shape::Object });
    }
    if greatest > 10 && greatest > count * 2 {
        return Err(mlua::Error::runtime("Cannot serialise table: excessively sparse array"));
    }
    Ok(Shape::List(greatest))
}
