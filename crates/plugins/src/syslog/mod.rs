//! syslog: gives a JSON record of every exchange to the machine's syslog.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::log_fields::{LuaFields, custom_fields_by_lua};
use crate::severity::{Severity, severity};

/// Syslog's facilities, as users name them.
pub const FACILITIES: [&str; 20] = [
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp", "local0", "local1", "local2",
    "local3", "local4", "local5", "local6", "local7",
];

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Records less grave than this are not written.
    #[field(severity().required())]
    pub log_level: Severity,
    /// How grave answers below 400 are.
    #[field(severity().required())]
    pub successful_severity: Severity,
    /// How grave answers from 400 on are.
    #[field(severity().required())]
    pub client_errors_severity: Severity,
    /// How grave answers from 500 on are.
    #[field(severity().required())]
    pub server_errors_severity: Severity,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
    /// What syslog takes us for.
    #[field(string().required().default("user").one_of(FACILITIES))]
    pub facility: String,
}

/// See the module's description.
pub struct Syslog;

impl Plugin for Syslog {
    const NAME: &'static str = "syslog";
    const PRIORITY: i32 = 4;
    const PHASES: Phases = Phases::LOG;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for Syslog {}
