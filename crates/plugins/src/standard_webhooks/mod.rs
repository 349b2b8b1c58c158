//! standard-webhooks: lets in webhooks that are signed as the Standard Webhooks specification has it.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};

use config::Config;

/// See the module's description.
pub struct StandardWebhooks;

impl Plugin for StandardWebhooks {
    const NAME: &'static str = "standard-webhooks";
    const PRIORITY: i32 = 760;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for StandardWebhooks {}
