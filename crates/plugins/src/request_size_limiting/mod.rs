//! request-size-limiting: refuses requests whose body is too large.
//!
//! Bodies that tell their length are not touched; others are read up to the limit before anything goes upstream.

mod config;

use portcullis_plugin::{Answer, Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_wire::Framing;

use config::Config;

/// How far over the limit a body of unknown length is read, so that the refusal is this plugin's: bytes.
const SLACK: u64 = 1 << 16;

/// See the module's description.
pub struct RequestSizeLimiting {
    /// In bytes. Below zero not even an empty body that is announced passes.
    limit: Option<i64>,
    require_content_length: bool,
}

impl Plugin for RequestSizeLimiting {
    const NAME: &'static str = "request-size-limiting";
    const PRIORITY: i32 = 951;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let unit = config.size_unit.bytes();
        let limit = config.allowed_payload_size.map(|size| size.saturating_mul(unit));
        Ok(Self { limit, require_content_length: config.require_content_length })
    }
}

impl Handler for RequestSizeLimiting {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        let limit = self.limit.filter(|_| request.head.framing == Framing::Chunked)?;
        Some(limit.max(0).unsigned_abs().saturating_add(SLACK))
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let length = match request.head.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => request.body.as_ref().map(|body| body.len() as u64),
            Framing::None if request.head.headers.contains("Content-Length") => Some(0),
            Framing::None if self.require_content_length => {
                return Step::answer(Answer::error(411, "A valid Content-Length header is required"));
            }
            Framing::None => Some(0),
        };
        let (Some(length), Some(limit)) = (length, self.limit) else { return Step::Next };
        if u64::try_from(limit).is_ok_and(|limit| length <= limit) {
            return Step::Next;
        }
        let status = if request.head.expects_continue { 417 } else { 413 };
        Step::answer(Answer::error(status, "Request size limit exceeded"))
    }
}

#[cfg(test)]
mod tests;
