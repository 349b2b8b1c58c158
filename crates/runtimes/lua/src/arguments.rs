//! Query arguments and forms as tables: `true` for a name without a value, a list for a name given several times.

use mlua::{Lua, Table, Value};

use crate::text;

/// The arguments of a query or a form; those behind the first `max` are left out (0: none is), and `truncated` says so. One without a
/// name counts for nothing.
pub fn decode(lua: &Lua, query: &[u8], max: usize) -> mlua::Result<(Table, Value)> {
    let table = lua.create_table()?;
    let mut pairs = query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    for pair in pairs.by_ref().take(if max == 0 { usize::MAX } else { max }) {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], Some(&pair[at + 1..])),
            None => (pair, None),
        };
        let name = text::unescape(name, true);
        if name.is_empty() {
            continue;
        }
        let name = lua.create_string(name)?;
        let value = match value {
            Some(value) => Value::String(lua.create_string(text::unescape(value, true))?),
            None => Value::Boolean(true),
        };
        match table.raw_get::<Value>(&name)? {
            Value::Nil => table.raw_set(name, value)?,
            Value::Table(list) => list.raw_push(value)?,
            first => {
                let list = lua.create_table_with_capacity(2, 0)?;
                list.raw_push(first)?;
                list.raw_push(value)?;
                table.raw_set(name, list)?;
            }
        }
    }
    let truncated = pairs.next().is_some();
    Ok((table, if truncated { Value::String(lua.create_string("truncated")?) } else { Value::Nil }))
}

/// A table as a query, sorted by name.
pub fn encode(table: &Table) -> mlua::Result<Vec<u8>> {
    let mut pairs: Vec<(Vec<u8>, Value)> = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (name, value) = pair?;
        let name = scalar(&name).ok_or_else(|| mlua::Error::runtime("expected a string as the name of an argument"))?;
        pairs.push((name, value));
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = Vec::new();
    for (name, value) in &pairs {
        match value {
            Value::Table(list) => {
                for element in list.sequence_values::<Value>() {
                    one(&mut out, name, &element?)?;
                }
            }
            value => one(&mut out, name, value)?,
        }
    }
    Ok(out)
}

fn one(out: &mut Vec<u8>, name: &[u8], value: &Value) -> mlua::Result<()> {
    if *value == Value::Boolean(false) {
        return Ok(());
    }
    if !out.is_empty() {
        out.push(b'&');
    }
    text::escape(name, out);
    if *value == Value::Boolean(true) {
        return Ok(());
    }
    let text = scalar(value).ok_or_else(|| {
        let kind = value.type_name();
        mlua::Error::runtime(format!("attempt to use {kind} as query arg value"))
    })?;
    out.push(b'=');
    text::escape(&text, out);
    Ok(())
}

/// A string or number as bytes.
pub fn scalar(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(number) => Some(number.to_string().into_bytes()),
        Value::Number(number) => Some(text::number(*number).into_bytes()),
        _ => None,
    }
}

/// The query without an argument; the others keep their order.
pub fn without(query: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(query.len());
    for pair in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let end = pair.iter().position(|byte| *byte == b'=');
        if text::unescape(&pair[..end.unwrap_or(pair.len())], true) == name {
            continue;
        }
        if !out.is_empty() {
            out.push(b'&');
        }
        out.extend_from_slice(pair);
        // A bare name is written back with its `=`, as Kong does.
        if end.is_none() {
            out.push(b'=');
        }
    }
    out
}
