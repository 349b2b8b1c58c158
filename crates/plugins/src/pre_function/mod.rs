//! pre-function: runs Lua code of the configuration, before all other plugins.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::Check;

use crate::lua_functions;
pub use crate::lua_functions::Config;

/// See the module's description.
pub struct PreFunction;

impl Plugin for PreFunction {
    const NAME: &'static str = "pre-function";
    const PRIORITY: i32 = 1_000_000;
    const PHASES: Phases = Phases::REWRITE.and(Phases::ACCESS).and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes { consumer: false, ..Scopes::ANY };
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn checks() -> Vec<Check> {
        lua_functions::checks()
    }
}

impl Handler for PreFunction {}
