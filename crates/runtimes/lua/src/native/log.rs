//! Log lines and log entries.

use std::sync::Arc;

use mlua::{Lua, LuaString, Table, Value};
use tracing::{debug, error, info, warn};

use crate::json;
use crate::moment::{Lent, with};
use crate::settings::Settings;

pub fn add(lua: &Lua, native: &Table, settings: &Arc<Settings>) -> mlua::Result<()> {
    native.set(
        "log",
        lua.create_function(|_, (level, message): (u8, LuaString)| {
            write(level, &message.to_string_lossy());
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
