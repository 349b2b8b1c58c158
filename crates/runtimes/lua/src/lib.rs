//! Code that users wrote in Lua: functions in configuration, values of log fields, templates.
//!
//! LuaJIT runs it, one state a worker thread, made when the first code is to run there. States share nothing. Each turn of
//! code has a deadline and each state a bound of memory; what goes beyond either fails its own request and nothing else.
//!
//! - [`engine`]: the process's engine, as plugins know it
//! - [`functions`]: functions in configuration (pre-function, post-function)
//! - [`custom`]: plugins that users wrote
//! - [`handler`]: runs code in a plugin's phases, wherever it comes from
//! - [`expression`]: values and templates
//! - [`state`]: a thread's Lua state: limits, coroutines, loaded code
//! - [`moment`]: what running code may touch right now
//! - [`run`]: what Lua keeps of one request
//! - [`drive`]: goes on with code that waits
//! - [`native`]: functions that Lua code in `lua/` is built on; that code is what users see as `kong` and `ngx`
//! - [`json`], [`regex`], [`pattern`], [`arguments`], [`text`]: values between the worlds
//!
//! Stands on `plugin` only. mlua's and LuaJIT's unsafe code stays inside mlua.

mod arguments;
mod custom;
mod drive;
mod engine;
mod expression;
mod functions;
mod handler;
mod json;
mod moment;
mod native;
mod pattern;
mod regex;
mod run;
mod settings;
mod state;
mod text;

pub use custom::api::Route;
pub use engine::Lua;
pub use settings::{Settings, Untrusted};

/// What plugins and the log are told of an error.
fn told(error: &mlua::Error) -> portcullis_plugin::Error {
    error.to_string().into()
}

#[cfg(test)]
mod tests;
