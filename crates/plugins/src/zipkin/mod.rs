//! zipkin: follows requests through services: traces go on to the upstream, spans to a Zipkin server.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result};

pub use config::Config;

/// See the module's description.
pub struct Zipkin;

impl Plugin for Zipkin {
    const NAME: &'static str = "zipkin";
    const PRIORITY: i32 = 100_000;
    const PHASES: Phases = Phases::REWRITE.and(Phases::ACCESS).and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER).and(Phases::LOG);
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for Zipkin {}
