//! opentelemetry: follows requests through services: traces go on to the upstream, spans and logs to a collector.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Check, Shorthand};

pub use config::Config;

/// See the module's description.
pub struct OpenTelemetry;

impl Plugin for OpenTelemetry {
    const NAME: &'static str = "opentelemetry";
    const PRIORITY: i32 = 14;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn config_checks() -> Vec<Check> {
        vec![Check::AtLeastOneOf(vec!["traces_endpoint", "logs_endpoint"])]
    }

    fn shorthands() -> Vec<Shorthand> {
        config::shorthands()
    }
}

impl Handler for OpenTelemetry {}
