//! The request as it came, and as it goes on.

use mlua::{Lua, LuaString, Table, Value};
use portcullis_plugin::{Headers, Request};

use super::{header_name, header_table, header_values, optional};
use crate::moment::{request, request_mut};
use crate::{arguments, json};

pub fn add(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set(
        "request_header",
        lua.create_function(|lua, name: LuaString| request(|request| optional(lua, header(&request.head.headers, &name))))?,
    )?;
    native.set(
        "request_headers",
        lua.create_function(|lua, (max, raw): (Option<f64>, Option<bool>)| {
            let raw = raw.unwrap_or(false);
            request(|request| {
                let (table, truncated) = header_table(lua, &request.head.headers, bound(max), raw)?;
                seen(request, &table, raw)?;
                Ok((table, truncated))
            })
        })?,
    )?;
    native.set(
        "set_request_header",
        lua.create_function(|_, (name, value): (LuaString, Value)| {
            let (name, values) = (header_name(&name), header_values(&value)?);
            request_mut(|request| {
                set_header(request, &name, &values);
                Ok(())
            })
        })?,
    )?;
    native.set(
        "add_request_header",
        lua.create_function(|_, (name, value): (LuaString, Value)| {
            let (name, values) = (header_name(&name), header_values(&value)?);
            request_mut(|request| {
                if name.eq_ignore_ascii_case("host") {
                    set_header(request, &name, &values);
                } else {
                    values.iter().for_each(|value| request.head.headers.append(&name, value));
                }
                Ok(())
            })
        })?,
    )?;
    native.set(
        "clear_request_header",
        lua.create_function(|_, name: LuaString| {
            let name = name.to_string_lossy();
            request_mut(|request| {
                request.head.headers.remove(&name);
                Ok(())
            })
        })?,
    )?;
    native.set(
        "raw_body",
        lua.create_function(|lua, ()| {
            request(|request| {
                let body = request.upstream.body.as_deref().or(request.body.as_deref());
                let none = request.head.framing == portcullis_wire::Framing::None;
                optional(lua, body.or(none.then_some(&b""[..])))
            })
        })?,
    )?;
    native.set(
        "raw_header",
        lua.create_function(|lua, ()| {
            request(|request| {
                let mut out = Vec::new();
                for (name, value) in request.head.headers.iter() {
                    for piece in [name, b": ".as_slice(), value, b"\r\n"] {
                        out.extend_from_slice(piece);
                    }
                }
                lua.create_string(out)
            })
        })?,
    )?;
    native.set("captures", lua.create_function(|lua, ()| request(|request| captures(lua, request)))?)?;
    native.set(
        "decode_args",
        lua.create_function(|lua, (text, max): (LuaString, Option<f64>)| arguments::decode(lua, &text.as_bytes(), bound(max)))?,
    )?;
    native.set("encode_args", lua.create_function(|lua, table: Table| lua.create_string(arguments::encode(&table)?))?)?;
    native.set(
        "entity",
        lua.create_function(|lua, kind: String| {
            request(|request| match kind.as_str() {
                "route" => entity(lua, request.route.as_deref()),
                "service" => entity(lua, request.service.as_deref()),
                _ => entity(lua, request.consumer.as_deref()),
            })
        })?,
    )?;
    native.set("credential", lua.create_function(|lua, ()| request(|request| credential(lua, request)))?)?;
    add_people(lua, native)
}

fn add_people(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set(
        "load_consumer",
        lua.create_function(|lua, (name, by_username): (String, Option<bool>)| {
            request(|request| {
                let directory = &request.directory;
                let found = match uuid::Uuid::try_parse(&name) {
                    Ok(id) => directory.consumer(id),
                    Err(_) => None,
                };
                let named = || by_username.unwrap_or(false).then(|| directory.consumer_by_username(&name)).flatten();
                entity(lua, found.or_else(named).as_deref())
            })
        })?,
    )?;
    native.set(
        "authenticate",
        lua.create_function(|_, (consumer, given): (Option<Table>, Option<Table>)| {
            let id = |table: &Table| -> Option<uuid::Uuid> { uuid::Uuid::try_parse(&table.get::<Option<String>>("id").ok()??).ok() };
            let fields = match &given {
                Some(table) => json::from_lua(&Value::Table(table.clone()))?,
                None => None,
            };
            let consumer_id = consumer.as_ref().and_then(id);
            request_mut(|request| {
                let consumer = consumer_id.and_then(|id| request.directory.consumer(id));
                let credential = fields.and_then(|fields| {
                    let serde_json::Value::Object(fields) = fields else { return None };
                    let text = |name: &str| fields.get(name).and_then(|value| value.as_str());
                    Some(std::sync::Arc::new(portcullis_plugin::Credential {
                        id: text("id").and_then(|id| uuid::Uuid::try_parse(id).ok()).unwrap_or_default(),
                        consumer: consumer_id,
                        key: text("key").or(text("username")).unwrap_or_default().into(),
                        expires_at: None,
                        fields: Some(Box::new(fields)),
                    }))
                });
                request.authenticate(consumer, credential);
                Ok(())
            })
        })?,
    )
}

/// How many headers or arguments are read: a hundred unless said otherwise, 0 for all.
pub fn bound(max: Option<f64>) -> usize {
    max.map_or(100, |max| max.max(0.0) as usize)
}

/// What code has changed shows in the headers it reads: the host, and the length of another body.
fn seen(request: &Request, table: &Table, raw: bool) -> mlua::Result<()> {
    let changed = [
        ("Host", request.upstream.host_header.clone()),
        ("Content-Length", request.upstream.body.as_ref().map(|body| body.len().to_string().into_bytes())),
    ];
    for (name, value) in changed {
        let name = if raw { name.to_owned() } else { name.to_ascii_lowercase() };
        if let Some(value) = value
            && table.contains_key(name.as_str())?
        {
            table.raw_set(name, mlua::BString::from(value))?;
        }
    }
    Ok(())
}

/// The first value of a header; `_` in the name stands for `-` if there is no header of exactly that name.
fn header<'a>(headers: &'a Headers, name: &LuaString) -> Option<&'a [u8]> {
    let name = name.to_string_lossy();
    headers.get(&name).or_else(|| if name.contains('_') { headers.get(&name.replace('_', "-")) } else { None })
}

fn set_header(request: &mut Request, name: &str, values: &[Vec<u8>]) {
    if name.eq_ignore_ascii_case("host") {
        request.upstream.host_header = values.first().cloned();
        return;
    }
    request.head.headers.remove(name);
    values.iter().for_each(|value| request.head.headers.append(name, value));
}

fn captures(lua: &Lua, request: &Request) -> mlua::Result<Value> {
    let Some(captures) = &request.captures else { return Ok(Value::Nil) };
    let table = lua.create_table()?;
    let (named, unnamed) = (lua.create_table()?, lua.create_table()?);
    for (name, value) in &captures.named {
        named.raw_set(&**name, &**value)?;
    }
    for (at, value) in captures.numbered.iter().enumerate() {
        if let Some(value) = value {
            unnamed.raw_set(at, &**value)?;
        }
    }
    table.raw_set("named", named)?;
    table.raw_set("unnamed", unnamed)?;
    Ok(Value::Table(table))
}

/// An entity as a table, without what is null.
pub fn entity(lua: &Lua, entity: Option<&impl serde::Serialize>) -> mlua::Result<Value> {
    let Some(entity) = entity else { return Ok(Value::Nil) };
    let record = serde_json::to_value(entity).map_err(mlua::Error::external)?;
    json::to_lua(lua, &record, false)
}

fn credential(lua: &Lua, request: &Request) -> mlua::Result<Value> {
    let Some(credential) = &request.credential else { return Ok(Value::Nil) };
    let mut record = credential.fields.as_deref().cloned().unwrap_or_default();
    record.insert("id".to_owned(), credential.id.to_string().into());
    if !credential.key.is_empty() && !record.contains_key("key") {
        record.insert("key".to_owned(), (*credential.key).into());
    }
    if let Some(consumer) = credential.consumer {
        record.insert("consumer".to_owned(), serde_json::json!({ "id": consumer }));
    }
    json::to_lua(lua, &serde_json::Value::Object(record), false)
}
