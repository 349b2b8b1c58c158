//! response-ratelimiting: limits what consumers use up, as the upstream counts it in a response header.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Check, Shorthand};

use crate::redis;
use config::Config;

/// See the module's description.
pub struct ResponseRatelimiting;

impl Plugin for ResponseRatelimiting {
    const NAME: &'static str = "response-ratelimiting";
    const PRIORITY: i32 = 900;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn checks() -> Vec<Check> {
        redis::checks()
    }

    fn shorthands() -> Vec<Shorthand> {
        redis::flat_spellings!("response-ratelimiting")
    }
}

impl Handler for ResponseRatelimiting {}
