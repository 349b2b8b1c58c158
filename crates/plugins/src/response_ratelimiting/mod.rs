//! response-ratelimiting: limits what clients use up, as the upstream counts it in a response header.
//!
//! - [`config`]: settings and which of them go together
//! - [`counters`]: the counts of this process
//!
//! What is left is looked up when a request comes, told when its response comes, and counted when the exchange is over. A response
//! that uses up what is not there is withheld, and costs nothing.

mod config;
mod counters;

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_plugin::extra_metrics::{ExtraGroups, ExtraMetrics, Tally};
use portcullis_plugin::{
    Answer, Count, Counting, Env, Exchange, Handler, Head, Headers, Instance, Phases, Plugin, Request, ResponseHead, Result, Rows, Scopes,
    Step,
};
use portcullis_schema::{Check, Shorthand};
use tokio::runtime::Handle;
use tracing::error;
use uuid::Uuid;

use crate::rate_limiting::window::{Period, Window};
use crate::redis::counts::{Addition, add};
use crate::redis::link::{Link, Links};
use crate::{number, redis};
use config::{Config, LimitBy, PERIODS, Policy};
use counters::{Counters, Key, Who};

/// See the module's description.
pub struct ResponseRatelimiting {
    extra: Arc<ExtraMetrics>,
    place: Place,
    fault_tolerant: bool,
    route: Option<Uuid>,
    service: Option<Uuid>,
    limits: Vec<Limit>,
    header_name: String,
    limit_by: LimitBy,
    block_on_first_violation: bool,
    hide_client_headers: bool,
}

/// Where counts are kept.
enum Place {
    Local(Arc<Counters>),
    Shared(Shared, Handle),
}

/// Where nodes count together.
#[derive(Clone)]
enum Shared {
    Database(Rows),
    Redis(Arc<Link>),
}

/// One named limit with its periods, from the shortest to the longest.
struct Limit {
    name: Arc<str>,
    remaining_header: String,
    periods: Vec<Limited>,
}

/// What one period takes, and the headers that tell of it.
struct Limited {
    /// The place among the periods.
    period: usize,
    limit: f64,
    limit_header: String,
    remaining_header: String,
}

/// What one request found left, and what its response uses up.
struct Usage {
    who: Who,
    /// When it was looked up, in seconds since the epoch.
    now: u64,
    /// What is left of each limit's periods, in their order.
    left: Vec<Vec<f64>>,
    /// What the response uses up of each limit.
    increments: Vec<f64>,
    /// The response is withheld.
    stopped: bool,
}

impl Plugin for ResponseRatelimiting {
    const NAME: &'static str = "response-ratelimiting";
    const PRIORITY: i32 = 900;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER).and(Phases::LOG);
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;
    const NEED_DATABASE: &'static [(&'static str, &'static str)] = &[("policy", "cluster")];

    fn new(config: Config, instance: &Instance, env: &Env) -> Result<Self> {
        let place = match config.policy.unwrap_or_default() {
            Policy::Local => Place::Local(env.state.get()),
            Policy::Cluster => Place::Shared(Shared::Database(env.rows.clone()), env.runtime.clone()),
            Policy::Redis => Place::Shared(Shared::Redis(env.state.get::<Links>().to(&config.redis, env)), env.runtime.clone()),
        };
        Ok(Self {
            extra: env.state.get(),
            place,
            fault_tolerant: config.fault_tolerant,
            route: instance.route,
            service: instance.service,
            limits: limits(&config.limits),
            header_name: config.header_name.unwrap_or_else(|| "x-kong-limit".to_owned()),
            limit_by: config.limit_by.unwrap_or_default(),
            block_on_first_violation: config.block_on_first_violation,
            hide_client_headers: config.hide_client_headers,
        })
    }

    fn checks() -> Vec<Check> {
        redis::checks()
    }

    fn shorthands() -> Vec<Shorthand> {
        redis::flat_spellings!("response-ratelimiting")
    }
}

fn limits(given: &BTreeMap<String, config::Limit>) -> Vec<Limit> {
    let of_one = |(name, limit): (&String, &config::Limit)| {
        let periods = limit.periods().into_iter().enumerate().filter_map(|(period, limit)| {
            Some(Limited {
                period,
                limit: limit?,
                limit_header: format!("X-RateLimit-Limit-{name}-{}", PERIODS[period]),
                remaining_header: format!("X-RateLimit-Remaining-{name}-{}", PERIODS[period]),
            })
        });
        Limit { name: name.as_str().into(), remaining_header: format!("X-RateLimit-Remaining-{name}"), periods: periods.collect() }
    };
    given.iter().map(of_one).collect()
}

impl Handler for ResponseRatelimiting {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let (who, now) = (self.who(request), request.started_at_ms / 1000);
        match &self.place {
            Place::Local(counters) => {
                let left = self.limits.iter().map(|limit| self.left(counters, limit, who, now)).collect();
                self.admit(request, who, now, left).map_or(Step::Next, Step::Answer)
            }
            Place::Shared(shared, _) => Step::later(async move {
                match self.changes(who, now, |_| Some(0)).make(shared).await {
                    Ok(used) => Ok(self.admit(request, who, now, self.left_of(&used))),
                    Err(error) if self.fault_tolerant => {
                        self.extra.count(ExtraGroups::LIMITS, Tally::QuotaNotCounted);
                        error!(error, "responses are not counted");
                        Ok(None)
                    }
                    Err(error) => Err(error.into()),
                }
            }),
        }
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        let Some(usage) = head.context.get_mut::<Usage>() else { return Ok(()) };
        self.read_increments(&head.response.headers, &mut usage.increments);
        let headers = &mut head.response.headers;
        for ((limit, left), increment) in self.limits.iter().zip(&usage.left).zip(&usage.increments) {
            for (limited, left) in limit.periods.iter().zip(left) {
                if !self.hide_client_headers {
                    headers.set(&limited.limit_header, number::text(limited.limit).as_bytes());
                    headers.set(&limited.remaining_header, number::text((left - increment).max(0.0)).as_bytes());
                }
                usage.stopped |= *increment > 0.0 && *left <= 0.0;
            }
        }
        headers.remove(&self.header_name);
        self.extra.count(ExtraGroups::LIMITS, if usage.stopped { Tally::QuotaLimited } else { Tally::QuotaAllowed });
        if usage.stopped {
            withhold(head.response);
        }
        Ok(())
    }

    fn body_filter(&self, request: &mut Request, chunk: &mut Vec<u8>, _: bool) -> Result<()> {
        if request.context.get::<Usage>().is_some_and(|usage| usage.stopped) {
            chunk.clear();
        }
        Ok(())
    }

    fn log(&self, exchange: &Exchange<'_>) {
        let Some(usage) = exchange.request.context.get::<Usage>().filter(|usage| !usage.stopped) else { return };
        let counters = match &self.place {
            Place::Local(counters) => counters,
            Place::Shared(shared, runtime) => {
                let by = |at: usize| Some(usage.increments[at].round() as i64).filter(|by| *by != 0);
                let changes = self.changes(usage.who, usage.now, by);
                if !changes.counters.is_empty() {
                    runtime.spawn(told(changes, shared.clone()));
                }
                return;
            }
        };
        for (limit, increment) in self.limits.iter().zip(&usage.increments).filter(|(_, increment)| **increment != 0.0) {
            let periods = limit.periods.iter().map(|limited| (limited.period, window(limited.period, usage.now)));
            counters.add(self.key(limit, usage.who), periods, *increment, usage.now);
        }
    }
}

impl ResponseRatelimiting {
    /// Tells of what is left, and notes it for the response; or the refusal, if that is wanted.
    fn admit(&self, request: &mut Request, who: Who, now: u64, left: Vec<Vec<f64>>) -> Option<Box<Answer>> {
        for (limit, left) in self.limits.iter().zip(&left) {
            // As in Kong, what was overdrawn by a response doesn't count as used up here: the next response is withheld.
            if self.block_on_first_violation && left.contains(&0.0) {
                self.extra.count(ExtraGroups::LIMITS, Tally::QuotaLimited);
                return Some(Box::new(Answer::error(429, format!("API rate limit exceeded for '{}'", limit.name))));
            }
            // Kong shows this one whatever `hide_client_headers` says.
            let least = left.iter().copied().fold(f64::INFINITY, f64::min);
            request.response_headers.set(&limit.remaining_header, number::text(least).as_bytes());
        }
        request.context.set(Usage { who, now, left, increments: vec![0.0; self.limits.len()], stopped: false });
        None
    }

    /// A change for each period of each limit, in their order; `by` tells how much for the limit at a position, if any.
    fn changes(&self, who: Who, now: u64, by: impl Fn(usize) -> Option<i64>) -> Changes {
        let mut counters = Vec::new();
        for (at, limit) in self.limits.iter().enumerate() {
            let Some(by) = by(at) else { continue };
            counters.extend(limit.periods.iter().map(|limited| {
                let period = crate::rate_limiting::window::PERIODS[limited.period];
                Change { limit: limit.name.clone(), period, start: period.window(now).start, by }
            }));
        }
        Changes { who, route: self.route, service: self.service, counters }
    }

    /// What is left of each limit's periods when this much of them is used, in the order of [`Self::changes`].
    fn left_of(&self, used: &[i64]) -> Vec<Vec<f64>> {
        let mut used = used.iter();
        let left = |limited: &Limited, used: Option<&i64>| limited.limit - used.copied().unwrap_or(0) as f64;
        self.limits.iter().map(|limit| limit.periods.iter().map(|limited| left(limited, used.next())).collect()).collect()
    }

    fn who(&self, request: &Request) -> Who {
        let consumer = || request.consumer.as_ref().map(|consumer| Who::Id(consumer.id));
        let credential = || request.credential.as_ref().map(|credential| Who::Id(credential.id));
        let known = match self.limit_by {
            LimitBy::Consumer => consumer().or_else(credential),
            LimitBy::Credential => credential(),
            LimitBy::Ip => None,
        };
        known.unwrap_or_else(|| request.client.forwarded_ip.map_or(Who::Unknown, Who::Address))
    }

    fn key(&self, limit: &Limit, who: Who) -> Key {
        Key { route: self.route, service: self.service, who, limit: limit.name.clone() }
    }

    fn left(&self, counters: &Counters, limit: &Limit, who: Who, now: u64) -> Vec<f64> {
        let used = counters.used(&self.key(limit, who), |period| window(period, now));
        limit.periods.iter().map(|limited| limited.limit - used[limited.period]).collect()
    }

    /// Reads `video=2, images=1`, from the first header of the name, as Kong does. Names nobody set a limit for count for nothing.
    fn read_increments(&self, headers: &Headers, increments: &mut [f64]) {
        let Some(value) = headers.get(&self.header_name) else { return };
        for item in String::from_utf8_lossy(value).split(',') {
            let Some((name, number)) = item.split_once('=') else { continue };
            let limit = self.limits.iter().position(|limit| *limit.name == *name.trim());
            let number = number.trim().parse().ok().filter(|number: &f64| number.is_finite());
            if let (Some(at), Some(number)) = (limit, number) {
                increments[at] = number;
            }
        }
    }
}

/// What becomes of one counter.
struct Change {
    limit: Arc<str>,
    period: Period,
    /// When the window began, in seconds since the epoch.
    start: u64,
    /// Zero only reads, less gives back.
    by: i64,
}

/// What becomes of one client's counters.
struct Changes {
    who: Who,
    route: Option<Uuid>,
    service: Option<Uuid>,
    counters: Vec<Change>,
}

impl Changes {
    /// Makes them where the nodes count together. Answers, in their order, what the counters hold that are only read.
    async fn make(self, shared: &Shared) -> std::result::Result<Vec<i64>, String> {
        match shared {
            Shared::Database(rows) => {
                let counts = self.counters.iter().map(|change| self.count(change)).collect();
                let held = rows.count(Counting::Responses, counts).await.map_err(|error| error.to_string())?;
                Ok(held.into_iter().map(|held| i64::try_from(held).unwrap_or(i64::MAX)).collect())
            }
            Shared::Redis(link) => add(link, self.counters.iter().map(|change| self.addition(change)).collect()).await,
        }
    }

    fn count(&self, change: &Change) -> Count {
        Count {
            identifier: self.who.to_string(),
            period: format!("{}_{}", change.limit, change.period.name()),
            start: change.start,
            service: self.service,
            route: self.route,
            by: i32::try_from(change.by).unwrap_or(if change.by < 0 { i32::MIN } else { i32::MAX }),
            bound: f64::INFINITY,
            lives: change.period.nominal_secs(),
        }
    }

    fn addition(&self, change: &Change) -> Addition {
        let (route, service, who) = (self.route.unwrap_or_default(), self.service.unwrap_or_default(), self.who);
        let (start, limit, period) = (change.start * 1000, &change.limit, change.period.name());
        Addition {
            // The braces are a hash tag: all counters of a client live on one node of a cluster.
            key: format!("response-ratelimit:{{{route}:{service}:{who}}}:{start}:{limit}:{period}"),
            by: change.by,
            lives: change.period.nominal_secs(),
        }
    }
}

async fn told(changes: Changes, shared: Shared) {
    if let Err(error) = changes.make(&shared).await {
        error!(error, "a response is not counted");
    }
}

fn window(period: usize, now: u64) -> Window {
    crate::rate_limiting::window::PERIODS[period].window(now)
}

/// Makes a refusal without a body of a response.
fn withhold(response: &mut ResponseHead) {
    response.status = 429;
    response.headers.remove("Content-Length");
    response.headers.remove("Content-Encoding");
    response.headers.append("Content-Length", b"0");
}

#[cfg(test)]
mod tests;
