//! redirect: sends clients elsewhere.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};

use config::Config;

/// See the module's description.
pub struct Redirect;

impl Plugin for Redirect {
    const NAME: &'static str = "redirect";
    const PRIORITY: i32 = 779;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for Redirect {}
