//! JSON text of Lua values, in the form cjson gives it.

use mlua::{LightUserData, Table, Value};

use super::Codec;
use crate::text;

/// The address of `cjson.empty_array`.
pub const EMPTY_ARRAY: usize = 4;

/// JSON text of a value. Errors with cjson's words for what has no place in JSON.
pub fn encode(codec: &Codec, value: &Value) -> mlua::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(64);
    one(codec, value, 0, &mut out)?;
    Ok(out)
}

fn refused(kind: &str, why: &str) -> mlua::Error {
    mlua::Error::runtime(format!("Cannot serialise {kind}: {why}"))
}

fn one(codec: &Codec, value: &Value, depth: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::LightUserData(LightUserData(pointer)) if pointer.is_null() => out.extend_from_slice(b"null"),
        Value::LightUserData(LightUserData(pointer)) if pointer.addr() == EMPTY_ARRAY => out.extend_from_slice(b"[]"),
        Value::Boolean(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Integer(number) => self::number(codec, *number as f64, out)?,
        Value::Number(number) => self::number(codec, *number, out)?,
        Value::String(text) => string(codec, &text.as_bytes(), out),
        Value::Table(table) => self::table(codec, table, depth + 1, out)?,
        other => return Err(refused(other.type_name(), "type not supported")),
    }
    Ok(())
}

fn number(codec: &Codec, number: f64, out: &mut Vec<u8>) -> mlua::Result<()> {
    if !number.is_finite() {
        return match codec.encode_invalid_numbers {
            super::Invalid::Refused => Err(refused("number", "must not be NaN or Infinity")),
            super::Invalid::Null => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            super::Invalid::Taken => {
                let text = if number.is_nan() {
                    "NaN"
                } else if number > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                out.extend_from_slice(text.as_bytes());
                Ok(())
            }
        };
    }
    out.extend_from_slice(text::number_of(number, codec.encode_number_precision).as_bytes());
    Ok(())
}

fn string(codec: &Codec, text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match *byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' if codec.encode_escape_forward_slash => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            byte @ (0..=31 | 127) => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

/// What a table is in JSON.
enum Shape {
    List(usize),
    Object,
}

fn shape(codec: &Codec, table: &Table) -> mlua::Result<Shape> {
    let (marked, if_empty) = match table.metatable() {
        Some(meta) => {
            let flag = |name: &str| meta.raw_get::<bool>(name).unwrap_or(false);
            (flag(super::ARRAY_MARK), flag(super::EMPTY_ARRAY_MARK))
        }
        None => (false, false),
    };
    if marked {
        return Ok(Shape::List(table.raw_len()));
    }
    let (mut count, mut greatest) = (0usize, 0usize);
    for pair in table.pairs::<Value, Value>() {
        let place = match pair?.0 {
            Value::Integer(place) if place > 0 => place as usize,
            Value::Number(place) if place > 0.0 && place.fract() == 0.0 => place as usize,
            _ => return Ok(Shape::Object),
        };
        count += 1;
        greatest = greatest.max(place);
    }
    if count == 0 {
        return Ok(if if_empty || !codec.encode_empty_table_as_object { Shape::List(0) } else { Shape::Object });
    }
    let (convert, ratio, safe) = codec.encode_sparse_array;
    if ratio > 0 && greatest > count.saturating_mul(ratio) && greatest > safe {
        return if convert { Ok(Shape::Object) } else { Err(refused("table", "excessively sparse array")) };
    }
    Ok(Shape::List(greatest))
}

fn table(codec: &Codec, table: &Table, depth: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    if depth > codec.encode_max_depth {
        return Err(mlua::Error::runtime(format!("Cannot serialise, excessive depth ({depth})")));
    }
    match shape(codec, table)? {
        Shape::List(length) => {
            out.push(b'[');
            for at in 1..=length {
                if at > 1 {
                    out.push(b',');
                }
                one(codec, &table.raw_get::<Value>(at)?, depth, out)?;
            }
            out.push(b']');
        }
        Shape::Object => {
            out.push(b'{');
            let mut first = true;
            for pair in table.pairs::<Value, Value>() {
                let (key, field) = pair?;
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                match key {
                    Value::String(name) => string(codec, &name.as_bytes(), out),
                    Value::Integer(_) | Value::Number(_) => {
                        out.push(b'"');
                        one(codec, &key, depth, out)?;
                        out.push(b'"');
                    }
                    _ => return Err(refused("table", "table key must be a number or string")),
                }
                out.push(b':');
                one(codec, &field, depth, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}
