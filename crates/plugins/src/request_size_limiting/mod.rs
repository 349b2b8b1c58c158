//! request-size-limiting: refuses requests whose body is too large.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};

use config::Config;

/// See the module's description.
pub struct RequestSizeLimiting;

impl Plugin for RequestSizeLimiting {
    const NAME: &'static str = "request-size-limiting";
    const PRIORITY: i32 = 951;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for RequestSizeLimiting {}
