//! Functions that the Lua code in `lua/` is built on.
//!
//! They are kept in one table that users never see; `lua/*.lua` makes `kong`, `ngx` and `cjson` of it. Each function looks at
//! the current moment, does one thing, and gives plain values back; none calls into Lua while it holds the moment.

mod codec;
mod host;
mod log;
mod request;
mod response;
mod rows;
mod service;
mod shared;
mod socket;
mod thread;
pub mod timer;
mod vars;

pub use shared::Shared;

use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, IntoLua, Lua, Table, Value};

use crate::json;
use crate::moment::Phase;
use crate::settings::{Settings, Untrusted};
use crate::state::{chunk_name, expired};

/// Marks that a coroutine yields: it is done, it ends the request, it waits.
pub const DONE: usize = 1;
pub const EXIT: usize = 2;
pub const WAIT: usize = 3;

/// The pieces of our own Lua, in the order they build on each other.
const PIECES: [(&str, &str); 11] = [
    ("guard", include_str!("../../lua/guard.lua")),
    ("cjson", include_str!("../../lua/cjson.lua")),
    ("ngx", include_str!("../../lua/ngx.lua")),
    ("kong", include_str!("../../lua/kong.lua")),
    ("notes", include_str!("../../lua/notes.lua")),
    ("phases", include_str!("../../lua/phases.lua")),
    ("http", include_str!("../../lua/http.lua")),
    ("extras", include_str!("../../lua/extras.lua")),
    ("modules", include_str!("../../lua/modules.lua")),
    ("tools", include_str!("../../lua/tools.lua")),
    ("prelude", include_str!("../../lua/prelude.lua")),
];

/// Sets a state up; the table holds what [`crate::state::State`] calls.
pub fn prelude(lua: &Lua, settings: &Arc<Settings>) -> mlua::Result<Table> {
    let native = lua.create_table()?;
    for (name, mark) in [("DONE", DONE), ("EXIT", EXIT), ("WAIT", WAIT)] {
        native.set(name, mark_of(mark))?;
    }
    native.set("null", Value::NULL)?;
    let at = lua.create_table()?;
    at.raw_set(1, Phase::Init.number())?;
    native.set("at", at)?;
    native.set("version", settings.version.as_str())?;
    native.set("node_id", settings.node_id.as_str())?;
    native.set("hostname", settings.hostname.as_str())?;
    native.set("sandboxed", settings.untrusted == Untrusted::Sandbox)?;
    native.set("sandbox_requires", settings.sandbox_requires.clone())?;
    native.set("sandbox_environment", settings.sandbox_environment.clone())?;
    native.set("configuration", json::to_lua(lua, &serde_json::Value::Object(settings.configuration.clone()), false)?)?;
    native.set("expired", lua.create_function(|_, ()| Ok(expired()))?)?;
    codec::add(lua, &native)?;
    host::add(lua, &native, settings)?;
    log::add(lua, &native, settings)?;
    request::add(lua, &native)?;
    response::add(lua, &native)?;
    service::add(lua, &native)?;
    rows::add(lua, &native, settings)?;
    shared::add(lua, &native, settings)?;
    socket::add(lua, &native)?;
    thread::add(lua, &native)?;
    timer::add(lua, &native)?;
    vars::add(lua, &native)?;
    if !settings.package_path.is_empty() {
        let package: Table = lua.globals().get("package")?;
        package.set("path", settings.package_path.as_str())?;
    }
    for (name, code) in PIECES {
        let function: Function = lua.load(code).set_name(format!("={}", chunk_name(name))).into_function()?;
        function.call::<()>(native.clone())?;
    }
    Ok(native)
}

fn mark_of(mark: usize) -> Value {
    Value::LightUserData(mlua::LightUserData(std::ptr::without_provenance_mut(mark)))
}

/// The longest wait, in seconds.
const DAY: f64 = 86_400.0;

/// A length of time that Lua gave in seconds, brought between these bounds; what is no number is the shortest.
fn length(seconds: f64, least: f64, most: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(least).min(most)).unwrap_or_default()
}

/// Bytes as a Lua string, or nil.
fn optional(lua: &Lua, bytes: Option<impl AsRef<[u8]>>) -> mlua::Result<Value> {
    bytes.map_or(Ok(Value::Nil), |bytes| lua.create_string(bytes).map(Value::String))
}

/// Headers as a table: names in lower case unless they are to be `raw`, several values as a list. With it comes `truncated` where there
/// were more than `max` (0: no bound).
fn header_table(lua: &Lua, headers: &portcullis_plugin::Headers, max: usize, raw: bool) -> mlua::Result<(Table, Value)> {
    let table = lua.create_table()?;
    for (name, value) in headers.iter().take(if max == 0 { usize::MAX } else { max }) {
        let name = if raw { lua.create_string(name)? } else { lua.create_string(name.to_ascii_lowercase())? };
        let value = lua.create_string(value)?.into_lua(lua)?;
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
    let truncated = max != 0 && headers.iter().nth(max).is_some();
    Ok((table, if truncated { Value::String(lua.create_string("truncated")?) } else { Value::Nil }))
}

/// A header's name with what may not stand in one escaped, as nginx does it.
fn header_name(name: &mlua::LuaString) -> String {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    String::from_utf8_lossy(&escaped(name.as_bytes().to_vec(), is_token)).into_owned()
}

/// Text with every byte that isn't `allowed` percent-encoded.
fn escaped(text: Vec<u8>, allowed: impl Fn(u8) -> bool) -> Vec<u8> {
    if text.iter().all(|byte| allowed(*byte)) {
        return text;
    }
    let mut out = Vec::with_capacity(text.len() + 8);
    for byte in text {
        if allowed(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

/// The values a header is given: one, or several.
fn header_values(value: &Value) -> mlua::Result<Vec<Vec<u8>>> {
    let one = |value: &Value| match value {
        Value::Boolean(flag) => Some(flag.to_string().into_bytes()),
        value => crate::arguments::scalar(value).map(|text| escaped(text, |byte| byte == b'\t' || !byte.is_ascii_control())),
    };
    let complain = || mlua::Error::runtime(format!("invalid header value: got {}, expected string, number or boolean", value.type_name()));
    match value {
        Value::Table(list) => {
            list.sequence_values::<Value>().map(|element| one(&element?).ok_or_else(complain)).collect::<mlua::Result<Vec<_>>>()
        }
        value => one(value).map(|text| vec![text]).ok_or_else(complain),
    }
}
