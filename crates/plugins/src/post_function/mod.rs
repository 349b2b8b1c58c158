//! post-function: runs Lua code of the configuration, after all other plugins.

use std::sync::Arc;

use portcullis_plugin::{Env, Exchange, Handler, Head, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::Check;

use crate::lua_functions;

/// See the module's description.
pub type Config = lua_functions::Config<true>;

/// See the module's description.
pub struct PostFunction(Arc<dyn Handler>);

impl Plugin for PostFunction {
    const NAME: &'static str = "post-function";
    const PRIORITY: i32 = -1000;
    const PHASES: Phases = Phases::REWRITE.and(Phases::ACCESS).and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes { consumer: false, ..Scopes::ANY };
    type Config = Config;

    fn new(config: Config, instance: &Instance, _: &Env) -> Result<Self> {
        lua_functions::handler(config, instance).map(Self)
    }

    fn checks() -> Vec<Check> {
        lua_functions::checks()
    }
}

impl Handler for PostFunction {
    fn phases(&self) -> Phases {
        self.0.phases()
    }

    fn body_limit(&self, request: &Request) -> Option<u64> {
        self.0.body_limit(request)
    }

    fn rewrite<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        self.0.rewrite(request)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        self.0.access(request)
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        self.0.header_filter(head)
    }

    fn body_filter(&self, request: &mut Request, chunk: &mut Vec<u8>, last: bool) -> Result<()> {
        self.0.body_filter(request, chunk, last)
    }

    fn log(&self, exchange: &Exchange<'_>) {
        self.0.log(exchange);
    }
}
