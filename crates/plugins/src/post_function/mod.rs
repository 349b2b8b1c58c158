//! post-function: runs Lua code of the configuration, after all other plugins.

use portcullis_plugin::{Env, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::Check;

use crate::lua_functions;

/// See the module's description.
pub type Config = lua_functions::Config<true>;

/// See the module's description.
pub type PostFunction = lua_functions::Code<true>;

impl Plugin for PostFunction {
    const NAME: &'static str = "post-function";
    const PRIORITY: i32 = -1000;
    const PHASES: Phases = Phases::REWRITE.and(Phases::ACCESS).and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes { consumer: false, ..Scopes::ANY };
    type Config = Config;

    fn new(config: Config, instance: &Instance, _: &Env) -> Result<Self> {
        Self::of(config, instance)
    }

    fn checks() -> Vec<Check> {
        lua_functions::checks()
    }
}
