//! rate-limiting: how many requests a client may send in a second, minute, hour, day, month and year.
//!
//! - [`window`]: calendar windows and the decision, pure
//! - [`counters`]: the counts of this process, exact across its threads
//! - [`shared`]: counts that several nodes keep together
//! - [`config`]: settings and which of them go together
//!
//! A request is counted in all its windows or, if one of them is full, in none. Counts belong to the route and service an
//! instance is attached to, so they survive a change of its settings, and a global instance counts over all routes.

mod config;
mod counters;
mod shared;
pub(crate) mod window;

use std::sync::Arc;

use portcullis_plugin::extra_metrics::{ExtraGroups, ExtraMetrics, Tally};
use portcullis_plugin::{Answer, Env, Error, Handler, Headers, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Schema, Shorthand, address};
use portcullis_wire::headers::Name;
use tracing::error;

use crate::number::{self, Digits};
pub use config::Config;
use config::{LimitBy, Policy};
use counters::{Counters, Scope, Scoped, Who};
use shared::Shared;
use window::{Hit, Limited, PERIODS, Told, Window, tightest};

/// Header names for what is told of each period.
const HEADERS: [(Name, Name); PERIODS.len()] = [
    (Name::new("X-RateLimit-Limit-Second"), Name::new("X-RateLimit-Remaining-Second")),
    (Name::new("X-RateLimit-Limit-Minute"), Name::new("X-RateLimit-Remaining-Minute")),
    (Name::new("X-RateLimit-Limit-Hour"), Name::new("X-RateLimit-Remaining-Hour")),
    (Name::new("X-RateLimit-Limit-Day"), Name::new("X-RateLimit-Remaining-Day")),
    (Name::new("X-RateLimit-Limit-Month"), Name::new("X-RateLimit-Remaining-Month")),
    (Name::new("X-RateLimit-Limit-Year"), Name::new("X-RateLimit-Remaining-Year")),
];

const LIMIT: Name = Name::new("RateLimit-Limit");
const REMAINING: Name = Name::new("RateLimit-Remaining");
const RESET: Name = Name::new("RateLimit-Reset");
const RETRY_AFTER: Name = Name::new("Retry-After");

/// See the module's description.
pub struct RateLimiting {
    extra: Arc<ExtraMetrics>,
    place: Place,
    limits: Vec<Limited>,
    /// The limits as text, in the same order.
    texts: Vec<Box<[u8]>>,
    limit_by: LimitBy,
    header_name: String,
    path: String,
    hide_client_headers: bool,
    error_code: u16,
    error_message: String,
}

/// Where counts are kept.
enum Place {
    Local(Arc<Counters>, Scoped),
    Shared { shared: Shared, fault_tolerant: bool },
}

impl Plugin for RateLimiting {
    const NAME: &'static str = "rate-limiting";
    const PRIORITY: i32 = 910;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;
    const NEED_DATABASE: &'static [(&'static str, &'static str)] = &[("policy", "cluster")];

    fn new(config: Config, instance: &Instance, env: &Env) -> Result<Self> {
        let scope = Scope { route: instance.route, service: instance.service };
        let place = match config.policy.unwrap_or_default() {
            Policy::Local => {
                let counters: Arc<Counters> = env.state.get();
                let scoped = counters.scoped(scope);
                Place::Local(counters, scoped)
            }
            Policy::Cluster => Place::Shared { shared: Shared::database(scope, env), fault_tolerant: config.fault_tolerant },
            Policy::Redis => {
                let shared = Shared::redis(&config.redis, config.sync_rate, scope, env);
                Place::Shared { shared, fault_tolerant: config.fault_tolerant }
            }
        };
        let limits: Vec<Limited> =
            PERIODS.into_iter().zip(config.limits()).filter_map(|(period, limit)| Some(Limited { period, limit: limit? })).collect();
        // A status that no response can have must not let anybody in.
        let error_code = config.error_code.filter(|code| (200.0..600.0).contains(code)).map_or(429, |code| code as u16);
        Ok(Self {
            extra: env.state.get(),
            place,
            texts: limits.iter().map(|limited| number::text(limited.limit).into_bytes().into()).collect(),
            limits,
            limit_by: config.limit_by.unwrap_or_default(),
            header_name: config.header_name.unwrap_or_default(),
            path: config.path.unwrap_or_default(),
            hide_client_headers: config.hide_client_headers,
            error_code,
            error_message: config.error_message.unwrap_or_else(|| "API rate limit exceeded".to_owned()),
        })
    }

    fn entities() -> Vec<Schema> {
        vec![config::metrics()]
    }

    fn checks() -> Vec<Check> {
        config::checks()
    }

    fn shorthands() -> Vec<Shorthand> {
        config::shorthands()
    }
}

impl Handler for RateLimiting {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let now = request.started_at_ms / 1000;
        let mut windows = [Window::default(); PERIODS.len()];
        let windows = &mut windows[..self.limits.len()];
        for (window, limited) in windows.iter_mut().zip(&self.limits) {
            *window = limited.period.window(now);
        }
        match &self.place {
            Place::Local(counters, scoped) => {
                let hit = counters.hit(scoped, self.who(request), &self.limits, windows, now);
                self.decide(request, &hit, windows, now).map_or(Step::Next, Step::Answer)
            }
            Place::Shared { shared, fault_tolerant } => {
                let windows = windows.to_vec();
                Step::later(async move {
                    match shared.hit(self.who(request), &self.limits, &windows).await {
                        Ok(hit) => Ok(self.decide(request, &hit, &windows, now)),
                        Err(error) if *fault_tolerant => {
                            self.extra.count(ExtraGroups::LIMITS, Tally::NotCounted);
                            error!(error, "requests are not counted");
                            Ok(None)
                        }
                        Err(error) => Err(Error::from(error)),
                    }
                })
            }
        }
    }
}

impl RateLimiting {
    /// Tells the client of its limits, and the answer if one of them is used up.
    fn decide(&self, request: &mut Request, hit: &Hit, windows: &[Window], now: u64) -> Option<Box<Answer>> {
        if !self.hide_client_headers {
            self.tell(&mut request.response_headers, hit, windows, now);
        }
        self.extra.count(ExtraGroups::LIMITS, if hit.stopped.is_some() { Tally::Limited } else { Tally::Allowed });
        hit.stopped?;
        Some(Box::new(Answer::error(self.error_code, self.error_message.clone())))
    }

    fn who<'a>(&'a self, request: &'a Request) -> Who<'a> {
        let credential = || request.credential.as_ref().map(|credential| Who::Id(credential.id));
        let known = match self.limit_by {
            LimitBy::Consumer => request.consumer.as_ref().map(|consumer| Who::Id(consumer.id)).or_else(credential),
            LimitBy::Credential => credential(),
            LimitBy::Service => request.service.as_ref().map(|service| Who::Id(service.id)),
            LimitBy::Header => request.head.headers.get(&self.header_name).map(Who::Text),
            LimitBy::Path => is_path(request.head.path(), &self.path).then_some(Who::Text(self.path.as_bytes())),
            LimitBy::Ip => None,
        };
        known.unwrap_or_else(|| request.client.forwarded_ip.map_or(Who::Unknown, Who::Address))
    }

    fn tell(&self, headers: &mut Headers, hit: &Hit, windows: &[Window], now: u64) {
        let mut told = [Told { remaining: 0.0, reset: 1 }; PERIODS.len()];
        let told = &mut told[..self.limits.len()];
        for (at, (limited, window)) in self.limits.iter().zip(windows).enumerate() {
            told[at] = hit.told(at, limited, window, now);
            let (limit_name, remaining_name) = HEADERS[limited.period as usize];
            headers.append_clean(limit_name, &self.texts[at]);
            append_number(headers, remaining_name, told[at].remaining);
        }
        let Some(at) = tightest(told) else { return };
        headers.append_clean(LIMIT, &self.texts[at]);
        append_number(headers, REMAINING, told[at].remaining);
        let reset = Digits::of(told[at].reset);
        headers.append_clean(RESET, reset.as_bytes());
        if hit.stopped.is_some() {
            headers.append_clean(RETRY_AFTER, reset.as_bytes());
        }
    }
}

fn append_number(headers: &mut Headers, name: Name, number: f64) {
    let whole = number as u64;
    if whole as f64 == number && number < 1e15 {
        headers.append_clean(name, Digits::of(whole).as_bytes());
    } else {
        headers.append_clean(name, number::text(number).as_bytes());
    }
}

/// Whether a request's path is this one, in normal form.
fn is_path(path: &[u8], wanted: &str) -> bool {
    if path == wanted.as_bytes() {
        return true;
    }
    let may_differ_in_spelling = path.contains(&b'%') || path.windows(2).any(|pair| matches!(pair, b"//" | b"/."));
    may_differ_in_spelling && std::str::from_utf8(path).is_ok_and(|path| address::normalize_path(path) == wanted.as_bytes())
}

#[cfg(test)]
mod tests;
