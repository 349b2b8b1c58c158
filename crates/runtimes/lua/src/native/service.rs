//! Where and how the request goes on.

use mlua::{Lua, LuaString, Table};
use portcullis_plugin::Patience;

use super::escaped;
use crate::arguments;
use crate::moment::{request, request_mut};

pub fn add(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set(
        "set_target",
        lua.create_function(|_, (host, port): (String, u16)| {
            request_mut(|request| {
                request.upstream.host = host.as_str().into();
                request.upstream.port = port;
                // Kong sends the host alone, whatever the port.
                request.upstream.host_header = Some(host.into_bytes());
                Ok(())
            })
        })?,
    )?;
    native.set(
        "set_upstream",
        lua.create_function(|_, name: String| {
            request_mut(|request| {
                if !request.directory.has_upstream(&name) {
                    return Ok(false);
                }
                request.upstream.host = name.into();
                Ok(true)
            })
        })?,
    )?;
    native.set(
        "set_scheme",
        lua.create_function(|_, https: bool| {
            request_mut(|request| {
                request.upstream.https = https;
                Ok(())
            })
        })?,
    )?;
    native.set(
        "set_patience",
        lua.create_function(|_, (connect, write, read, retries): (Option<u64>, Option<u64>, Option<u64>, Option<u16>)| {
            request_mut(|request| {
                let before = request.upstream.patience.take().map(|patience| *patience).unwrap_or_default();
                request.upstream.patience = Some(Box::new(Patience {
                    connect_timeout_ms: connect.or(before.connect_timeout_ms),
                    write_timeout_ms: write.or(before.write_timeout_ms),
                    read_timeout_ms: read.or(before.read_timeout_ms),
                    retries: retries.or(before.retries),
                }));
                Ok(())
            })
        })?,
    )?;
    native.set(
        "enable_buffering",
        lua.create_function(|_, ()| {
            request_mut(|request| {
                request.upstream.buffer_response = true;
                Ok(())
            })
        })?,
    )?;
    native.set(
        "set_path",
        lua.create_function(|_, path: LuaString| {
            request_mut(|request| {
                request.upstream.path = escaped(path.as_bytes().to_vec(), |byte| byte.is_ascii_graphic());
                Ok(())
            })
        })?,
    )?;
    native.set(
        "set_query",
        lua.create_function(|_, query: LuaString| {
            request_mut(|request| {
                let query = escaped(query.as_bytes().to_vec(), |byte| byte.is_ascii_graphic());
                request.upstream.query = (!query.is_empty()).then_some(query);
                Ok(())
            })
        })?,
    )?;
    native.set(
        "clear_argument",
        lua.create_function(|_, name: LuaString| {
            request_mut(|request| {
                if let Some(query) = &request.upstream.query {
                    let rest = arguments::without(query, &name.as_bytes());
                    request.upstream.query = (!rest.is_empty()).then_some(rest);
                }
                Ok(())
            })
        })?,
    )?;
    native.set(
        "set_method",
        lua.create_function(|_, method: String| {
            request_mut(|request| {
                request.upstream.method = Some(method.into());
                Ok(())
            })
        })?,
    )?;
    native.set(
        "set_body",
        lua.create_function(|_, body: LuaString| {
            request_mut(|request| {
                request.upstream.body = Some(body.as_bytes().to_vec());
                Ok(())
            })
        })?,
    )?;
    native.set("has_upstream", lua.create_function(|_, name: String| request(|request| Ok(request.directory.has_upstream(&name))))?)
}
