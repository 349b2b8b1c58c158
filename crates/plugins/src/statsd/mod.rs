//! statsd: sends figures about every exchange to a StatsD server.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result};

pub use config::Config;

/// See the module's description.
pub struct Statsd;

impl Plugin for Statsd {
    const NAME: &'static str = "statsd";
    const PRIORITY: i32 = 11;
    const PHASES: Phases = Phases::LOG;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for Statsd {}
