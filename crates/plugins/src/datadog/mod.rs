//! datadog: sends figures about every exchange to a Datadog agent.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result};

pub use config::{Config, needs_sample_rate};

/// See the module's description.
pub struct Datadog;

impl Plugin for Datadog {
    const NAME: &'static str = "datadog";
    const PRIORITY: i32 = 10;
    const PHASES: Phases = Phases::LOG;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for Datadog {}
