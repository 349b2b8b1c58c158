//! tcp-log: sends a JSON record of every exchange to a TCP server.

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
    /// Milliseconds connecting and sending may take.
    #[field(number().default(10000))]
    pub timeout: Option<f64>,
    /// Milliseconds an idle connection is kept.
    #[field(number().default(60000))]
    pub keepalive: Option<f64>,
    /// Whether the connection is TLS.
    #[field(switch(false))]
    pub tls: bool,
    /// The server name of the TLS handshake; without it the host.
    #[field(string())]
    pub tls_sni: Option<String>,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
}

/// See the module's description.
pub struct TcpLog;

impl Plugin for TcpLog {
    const NAME: &'static str = "tcp-log";
    const PRIORITY: i32 = 7;
    const PHASES: Phases = Phases::LOG;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for TcpLog {}
