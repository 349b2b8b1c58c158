//! response-transformer: changes headers and JSON bodies of responses on their way to the client.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};

use config::Config;

/// See the module's description.
pub struct ResponseTransformer;

impl Plugin for ResponseTransformer {
    const NAME: &'static str = "response-transformer";
    const PRIORITY: i32 = 800;
    const PHASES: Phases = Phases::HEADER_FILTER.and(Phases::BODY_FILTER);
    const SCOPES: Scopes = Scopes::HTTP;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for ResponseTransformer {}
