//! udp-log: sends a JSON record of every exchange to a UDP server.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::log_fields::{LuaFields, custom_fields_by_lua};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The server's host.
    #[field(host().required())]
    pub host: String,
    /// The port at the host.
    #[field(port().required())]
    pub port: u16,
    /// Milliseconds sending may take.
    #[field(number().default(10000))]
    pub timeout: Option<f64>,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
}

/// See the module's description.
pub struct UdpLog;

impl Plugin for UdpLog {
    const NAME: &'static str = "udp-log";
    const PRIORITY: i32 = 8;
    const PHASES: Phases = Phases::LOG;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for UdpLog {}
