//! bot-detection: keeps out robots, by what they call themselves in `User-Agent`.
//!
//! Allowed agents pass whatever else fits them; then denied ones and the known robots are refused. Clients that do not say
//! what they are pass.

mod config;
mod robots;

use portcullis_plugin::{Answer, Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use regex::bytes::RegexSet;

use config::Config;

/// See the module's description.
pub struct BotDetection {
    allow: RegexSet,
    deny: RegexSet,
}

impl Plugin for BotDetection {
    const NAME: &'static str = "bot-detection";
    const PRIORITY: i32 = 2500;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let denied = config.deny.unwrap_or_default().into_iter().chain(robots::expressions());
        Ok(Self { allow: RegexSet::new(config.allow.unwrap_or_default())?, deny: RegexSet::new(denied)? })
    }
}

impl Handler for BotDetection {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let mut agents = request.head.headers.get_all("User-Agent");
        let Some(agent) = agents.next() else { return Step::Next };
        if agents.next().is_some() {
            return Step::answer(Answer::error(400, "Only one User-Agent header allowed"));
        }
        if self.allow.is_match(agent) || !self.deny.is_match(agent) {
            return Step::Next;
        }
        Step::answer(Answer::error(403, "Forbidden"))
    }
}

#[cfg(test)]
mod tests;
