//! loggly: sends a JSON record of every exchange to Loggly, as syslog over UDP.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::log_fields::{LuaFields, custom_fields_by_lua};
use crate::severity::{Severity, severity};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Loggly's host.
    #[field(host().default("logs-01.loggly.com"))]
    pub host: Option<String>,
    /// The port at the host.
    #[field(port().default(514))]
    pub port: Option<u16>,
    /// The customer's token.
    #[field(string().required().encrypted().referenceable())]
    pub key: String,
    /// Tags of every record.
    #[field(set(string()).default(["kong"]))]
    pub tags: Option<Vec<String>>,
    /// Records less grave than this are not sent.
    #[field(severity())]
    pub log_level: Option<Severity>,
    /// How grave answers below 400 are.
    #[field(severity())]
    pub successful_severity: Option<Severity>,
    /// How grave answers from 400 on are.
    #[field(severity())]
    pub client_errors_severity: Option<Severity>,
    /// How grave answers from 500 on are.
    #[field(severity())]
    pub server_errors_severity: Option<Severity>,
    /// Milliseconds sending may take.
    #[field(number().default(10000))]
    pub timeout: Option<f64>,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
}

/// See the module's description.
pub struct Loggly;

impl Plugin for Loggly {
    const NAME: &'static str = "loggly";
    const PRIORITY: i32 = 6;
    const PHASES: Phases = Phases::LOG;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for Loggly {}
