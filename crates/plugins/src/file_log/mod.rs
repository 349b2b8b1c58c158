//! file-log: appends a JSON record of every exchange to a file.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::log_fields::{LuaFields, custom_fields_by_lua};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The file; it is made when it is not there.
    #[field(string().required().matches("^[^*&%%\\`]+$", "^[^*&%\\\\`]+$").error("not a valid filename"))]
    pub path: String,
    /// Whether the file is opened anew for every record, so that it can be rotated.
    #[field(switch(false))]
    pub reopen: bool,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
}

/// See the module's description.
pub struct FileLog;

impl Plugin for FileLog {
    const NAME: &'static str = "file-log";
    const PRIORITY: i32 = 9;
    const PHASES: Phases = Phases::LOG;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for FileLog {}
