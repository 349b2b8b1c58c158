//! The response: before there is one, while its head passes, while its body passes.

use mlua::{Lua, LuaString, Table, Value};
use portcullis_plugin::{Answer, Body, Headers, Source};

use super::request::bound;
use super::{header_name, header_table, header_values, optional};
use crate::json;
use crate::moment::{Lent, Moment, Phase, misplaced, with};

pub fn add(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set("status", lua.create_function(|_, ()| with(|moment| Ok(status(&moment))))?)?;
    native.set(
        "set_status",
        lua.create_function(|_, status: u16| {
            with(|moment| match moment.response {
                Some(Lent::Mine(response)) => {
                    response.status = status;
                    Ok(())
                }
                Some(Lent::Shared(_)) => Err(misplaced(moment.phase, "rewrite, access, header_filter")),
                None => {
                    moment.run.status.set(Some(status));
                    Ok(())
                }
            })
        })?,
    )?;
    native.set(
        "source",
        lua.create_function(|_, ()| {
            with(|moment| {
                Ok(moment.source.map(|source| match source {
                    Source::Exit => "exit",
                    Source::Error => "error",
                    Source::Service => "service",
                }))
            })
        })?,
    )?;
    native.set(
        "response_header",
        lua.create_function(|lua, name: LuaString| {
            let name = name.to_string_lossy();
            with(|moment| {
                let headers = headers(&moment);
                let found = headers.and_then(|headers| headers.get(&name).or_else(|| headers.get(&name.replace('_', "-"))));
                optional(lua, found)
            })
        })?,
    )?;
    native.set(
        "response_header_values",
        lua.create_function(|lua, name: LuaString| {
            let name = name.to_string_lossy();
            with(|moment| {
                let found: Vec<_> = headers(&moment).into_iter().flat_map(|headers| headers.get_all(&name)).collect();
                match found.as_slice() {
                    [] => Ok(Value::Nil),
                    [one] => lua.create_string(one).map(Value::String),
                    several => {
                        let texts = several.iter().map(|value| lua.create_string(value)).collect::<mlua::Result<Vec<_>>>()?;
                        lua.create_sequence_from(texts).map(Value::Table)
                    }
                }
            })
        })?,
    )?;
    native.set(
        "response_headers",
        lua.create_function(|lua, (max, raw): (Option<f64>, Option<bool>)| {
            with(|moment| match headers(&moment) {
                Some(headers) => header_table(lua, headers, bound(max), raw.unwrap_or(false)),
                None => Ok((lua.create_table()?, Value::Nil)),
            })
        })?,
    )?;
    native.set(
        "set_response_header",
        lua.create_function(|_, (name, value): (LuaString, Value)| {
            let (name, values) = (header_name(&name), header_values(&value)?);
            edit(|headers| {
                headers.remove(&name);
                values.iter().for_each(|value| headers.append(&name, value));
            })
        })?,
    )?;
    native.set(
        "add_response_header",
        lua.create_function(|_, (name, value): (LuaString, Value)| {
            let (name, values) = (header_name(&name), header_values(&value)?);
            edit(|headers| values.iter().for_each(|value| headers.append(&name, value)))
        })?,
    )?;
    native.set(
        "clear_response_header",
        lua.create_function(|_, name: LuaString| {
            let name = name.to_string_lossy();
            edit(|headers| _ = headers.remove(&name))
        })?,
    )?;
    add_answers(lua, native)?;
    add_bodies(lua, native)
}

fn add_answers(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set(
        "answer",
        lua.create_function(|_, (status, body, headers): (u16, Value, Option<Table>)| {
            let mut answer = match &body {
                Value::Nil => Answer::status(status),
                Value::String(text) => Answer::bytes(status, None, text.as_bytes().to_vec()),
                Value::Table(_) => Answer::bytes(
                    status,
                    Some("application/json; charset=utf-8".into()),
                    json::encode::encode(&json::Codec::default(), &body)?,
                ),
                other => return Err(mlua::Error::runtime(format!("body must be a nil, string or table, got {}", other.type_name()))),
            };
            add_headers(&mut answer, headers)?;
            end_with(answer)
        })?,
    )?;
    native.set(
        "error_answer",
        lua.create_function(|_, (status, message, headers): (u16, String, Option<Table>)| {
            let mut answer = Answer::error(status, message);
            add_headers(&mut answer, headers)?;
            end_with(answer)
        })?,
    )?;
    native.set(
        "said",
        lua.create_function(|_, text: LuaString| {
            with(|moment| {
                moment.run.said.borrow_mut().extend_from_slice(&text.as_bytes());
                Ok(())
            })
        })?,
    )?;
    native.set("has_said", lua.create_function(|_, ()| with(|moment| Ok(!moment.run.said.borrow().is_empty())))?)
}

fn add_bodies(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set(
        "chunk",
        lua.create_function(|lua, ()| {
            with(|moment| {
                let Some((chunk, last)) = moment.chunk else { return Ok((Value::Nil, false)) };
                let chunk = chunk.borrow();
                Ok((Value::String(lua.create_string(&*chunk)?), last))
            })
        })?,
    )?;
    native.set(
        "set_chunk",
        lua.create_function(|_, text: Option<LuaString>| {
            with(|moment| {
                let Some((chunk, _)) = moment.chunk else { return Err(misplaced(moment.phase, "body_filter")) };
                *chunk.borrow_mut() = text.map(|text| text.as_bytes().to_vec()).unwrap_or_default();
                Ok(())
            })
        })?,
    )?;
    native.set(
        "is_held",
        lua.create_function(|_, ()| with(|moment| Ok(moment.request.is_some_and(|request| request.get().upstream.buffer_response))))?,
    )?;
    // Gathers pieces until the last one; gives the whole body then.
    native.set(
        "gather",
        lua.create_function(|lua, ()| {
            with(|moment| {
                let Some((chunk, last)) = moment.chunk else { return Err(misplaced(moment.phase, "body_filter")) };
                let mut bodies = moment.run.bodies.borrow_mut();
                let mut chunk = chunk.borrow_mut();
                if !last {
                    bodies.entry(moment.owner.to_owned()).or_default().append(&mut chunk);
                    return Ok(Value::Nil);
                }
                if let Some(mut body) = bodies.remove(moment.owner) {
                    body.append(&mut chunk);
                    *chunk = body;
                }
                lua.create_string(&*chunk).map(Value::String)
            })
        })?,
    )
}

fn add_headers(answer: &mut Answer, headers: Option<Table>) -> mlua::Result<()> {
    let Some(headers) = headers else { return Ok(()) };
    for pair in headers.pairs::<String, Value>() {
        let (name, value) = pair?;
        for text in header_values(&value)? {
            answer.headers.push((name.clone().into(), text));
        }
    }
    Ok(())
}

fn end_with(answer: Answer) -> mlua::Result<()> {
    with(|moment| {
        if moment.phase == Phase::Response {
            return replace(answer, moment);
        }
        if moment.response.is_some() {
            return Err(misplaced(moment.phase, "rewrite, access, response"));
        }
        *moment.run.answer.borrow_mut() = Some(answer);
        Ok(())
    })
}

/// Puts an answer in the place of a response that was held back whole.
fn replace(answer: Answer, moment: Moment<'_>) -> mlua::Result<()> {
    let (Some(Lent::Mine(response)), Some((held, _))) = (moment.response, moment.chunk) else { return Ok(()) };
    let json = "application/json; charset=utf-8".into();
    let (content_type, bytes) = match answer.body {
        Body::Bytes { content_type, bytes } => (content_type, bytes),
        Body::Json(value) => (Some(json), value.to_string().into_bytes()),
        Body::Negotiated(message) => (Some(json), serde_json::json!({ "message": message }).to_string().into_bytes()),
        Body::Default | Body::Empty => (None, Vec::new()),
    };
    response.status = answer.status;
    for name in ["Content-Type", "Content-Encoding"] {
        response.headers.remove(name);
    }
    if let Some(content_type) = content_type {
        response.headers.set("Content-Type", content_type.as_bytes());
    }
    for (name, value) in &answer.headers {
        response.headers.set(name, value);
    }
    *held.borrow_mut() = bytes;
    Ok(())
}

fn status(moment: &Moment<'_>) -> Option<u16> {
    moment.response.as_ref().map(|response| response.get().status).or_else(|| moment.run.status.get())
}

/// The response's headers, or those set before there is one.
fn headers<'m>(moment: &'m Moment<'_>) -> Option<&'m Headers> {
    match &moment.response {
        Some(response) => Some(&response.get().headers),
        None => moment.request.as_ref().map(|request| &request.get().response_headers),
    }
}

fn edit(f: impl FnOnce(&mut Headers)) -> mlua::Result<()> {
    with(|moment| match (moment.response, moment.request) {
        (Some(Lent::Mine(response)), _) => {
            f(&mut response.headers);
            Ok(())
        }
        (None, Some(Lent::Mine(request))) => {
            f(&mut request.response_headers);
            Ok(())
        }
        _ => Err(misplaced(moment.phase, "rewrite, access, header_filter")),
    })
}
