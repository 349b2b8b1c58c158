//! Log lines and log entries.

use std::borrow::Cow;
use std::sync::Arc;

use mlua::{Lua, LuaString, Table, Value};
use portcullis_plugin::log_lines::{self, Details, LogLine};
use tracing::{debug, error, info, warn};

use crate::json;
use crate::moment::{Lent, with};
use crate::settings::Settings;

pub fn add(lua: &Lua, native: &Table, settings: &Arc<Settings>) -> mlua::Result<()> {
    native.set(
        "log",
        lua.create_function(|lua, (level, words, message, depth): (u8, LuaString, LuaString, usize)| {
            let details = || Details { text: message.to_string_lossy(), attributes: caller(lua, depth) };
            log_lines::with_details(details, || write(level, &format!("{}{}", words.to_string_lossy(), message.to_string_lossy())));
            Ok(())
        })?,
    )?;
    native.set(
        "log_is_on",
        lua.create_function(|_, level: u8| {
            Ok(match level {
                8 => tracing::enabled!(tracing::Level::DEBUG),
                6 | 7 => tracing::enabled!(tracing::Level::INFO),
                5 => tracing::enabled!(tracing::Level::WARN),
                _ => true,
            })
        })?,
    )?;
    native.set(
        "telemetry",
        lua.create_function(|lua, (message, attributes, depth): (Option<LuaString>, Table, usize)| {
            if !log_lines::are_wanted() {
                return Ok(false);
            }
            let mut told = caller(lua, depth);
            for pair in attributes.pairs::<LuaString, Value>() {
                let (name, value) = pair?;
                // What has no place in the protocol is told as nothing.
                let value = json::from_lua(&value).ok().flatten().unwrap_or(serde_json::Value::Null);
                told.push((name.to_string_lossy().into(), value));
            }
            let text = message.map(|message| message.to_string_lossy()).unwrap_or_default();
            log_lines::keep(LogLine::now(None, text, told));
            Ok(true)
        })?,
    )?;
    let serialize = settings.serialize;
    native.set(
        "serialize",
        lua.create_function(move |lua, ()| {
            let record = with(|moment| match moment.exchange {
                Some(exchange) => Ok(serialize(exchange)),
                None => Err(mlua::Error::runtime("function cannot be called before the response is over (only in: log)")),
            })?;
            json::to_lua(lua, &serde_json::Value::Object(record), false)
        })?,
    )?;
    native.set(
        "set_log_field",
        lua.create_function(|_, (path, value, mode): (String, Value, Option<String>)| {
            let value = json::from_lua(&value)?.unwrap_or(serde_json::Value::Null);
            let key = match mode.as_deref() {
                None | Some("set") => path,
                Some(mode) => format!("{mode}:{path}"),
            };
            with(|moment| match moment.request {
                Some(Lent::Mine(request)) => {
                    request.log_fields.insert(key, value);
                    Ok(())
                }
                _ => {
                    moment.run.log_fields.0.borrow_mut().insert(key, value);
                    Ok(())
                }
            })
        })?,
    )
}

/// Where a line comes from, in Kong's words: the function that called, so many calls up.
fn caller(lua: &Lua, depth: usize) -> Vec<(Cow<'static, str>, serde_json::Value)> {
    let found = lua.inspect_stack(depth, |function| {
        let (names, source) = (function.names(), function.source());
        let mut told: Vec<(Cow<'static, str>, serde_json::Value)> = Vec::with_capacity(5);
        if let Some(line) = function.current_line() {
            // Numbers of Lua are floating.
            told.push(("introspection.current.line".into(), (line as f64).into()));
        }
        if let Some(name) = names.name {
            told.push(("introspection.name".into(), (*name).into()));
        }
        told.push(("introspection.namewhat".into(), names.name_what.unwrap_or_default().into()));
        if let Some(text) = source.source {
            told.push(("introspection.source".into(), (*text).into()));
        }
        told.push(("introspection.what".into(), source.what.into()));
        told
    });
    found.unwrap_or_default()
}

/// A line at one of nginx' levels (1 is emerg, 8 is debug). Levels that tracing lacks are targets of the log.
fn write(level: u8, message: &str) {
    match level {
        1 => error!(target: "emerg", "{message}"),
        2 => error!(target: "alert", "{message}"),
        3 => error!(target: "crit", "{message}"),
        4 => error!("{message}"),
        5 => warn!("{message}"),
        6 => info!(target: "notice", "{message}"),
        7 => info!("{message}"),
        _ => debug!("{message}"),
    }
}
