//! Lua as the node's settings have it.

use std::time::Duration;

use portcullis_lua::{Lua, Untrusted};
use portcullis_plugin::script;
use uuid::Uuid;

use crate::conf::Settings;

/// Makes Lua the language of code in configuration. It stays as it is until the process ends: what it was told of the settings
/// does not change with a reload.
pub fn install(settings: &Settings, node_id: Uuid) -> Lua {
    let loaded = &settings.loaded;
    let owned = |key: &str| loaded.list(key).into_iter().map(str::to_owned).collect();
    let whole = |key: &str, default: f64| loaded.number(key).unwrap_or(default).max(1.0) as u64;
    let engine = Lua::new(portcullis_lua::Settings {
        untrusted: match loaded.text("untrusted_lua") {
            Some("off") => Untrusted::Off,
            Some("on") => Untrusted::On,
            _ => Untrusted::Sandbox,
        },
        sandbox_requires: owned("untrusted_lua_sandbox_requires"),
        sandbox_environment: owned("untrusted_lua_sandbox_environment"),
        package_path: loaded.text("lua_package_path").unwrap_or_default().to_owned(),
        time_limit: Duration::from_millis(whole("lua_time_limit", 500.0)),
        memory_limit: (whole("lua_memory_limit", 256.0) << 20) as usize,
        trusted_ips: settings.proxy.trusted_ips.clone(),
        configuration: settings.shown(),
        serialize: portcullis_plugins::serialize::record,
        version: settings.version.clone(),
        node_id: node_id.to_string(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        ..portcullis_lua::Settings::default()
    });
    // Only a test runs two nodes in one process; they share the first one's.
    let _ = script::set_engine(Box::new(engine.clone()));
    engine
}
