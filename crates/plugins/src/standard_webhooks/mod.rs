//! standard-webhooks: lets in webhooks that are signed as the Standard Webhooks specification has it.

mod config;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_plugin::{Answer, Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};

use crate::{body, secret};
use config::Config;

/// How much of a body is looked at, in bytes; a larger one is no webhook.
const MAX_BODY: u64 = 16 << 20;

/// See the module's description.
pub struct StandardWebhooks {
    key: hmac::Key,
    /// Seconds.
    tolerance: i64,
    body_buffer_bytes: u64,
}

impl Plugin for StandardWebhooks {
    const NAME: &'static str = "standard-webhooks";
    const PRIORITY: i32 = 760;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, config.secret_v1.as_bytes());
        Ok(Self { key, tolerance: config.tolerance_second, body_buffer_bytes: env.node.body_buffer_bytes() })
    }
}

impl Handler for StandardWebhooks {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        body::in_memory(request, self.body_buffer_bytes, MAX_BODY)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if self.is_genuine(request).unwrap_or_default() { Step::Next } else { Step::answer(Answer::error(400, "Bad request")) }
    }
}

impl StandardWebhooks {
    /// None where something a webhook has is missing.
    fn is_genuine(&self, request: &Request) -> Option<bool> {
        let headers = &request.head.headers;
        let id = headers.get("webhook-id")?;
        let timestamp = headers.get("webhook-timestamp")?;
        // What is no number is as old as can be, as in Kong.
        let sent: f64 =
            std::str::from_utf8(timestamp).ok().and_then(|text| text.trim().parse().ok()).filter(|at: &f64| at.is_finite()).unwrap_or(0.0);
        let signature = headers.get("webhook-signature")?.strip_prefix(b"v1,")?;
        let body = request.body.as_ref().filter(|body| !body.is_empty())?;
        // Clocks may differ: what comes from the future passes.
        if request.started_at_ms as f64 / 1000.0 - sent > self.tolerance as f64 {
            return None;
        }
        let mut context = hmac::Context::with_key(&self.key);
        [id, b".", timestamp, b".", body].into_iter().for_each(|part| context.update(part));
        let expected = STANDARD.encode(context.sign());
        Some(secret::same(expected.as_bytes(), signature))
    }
}

#[cfg(test)]
mod tests;
