//! Counts that several nodes keep together, in the database or in Redis.
//!
//! The database tells what was counted and counts in one step; a refused request doesn't count. It is asked on every request. With
//! Redis and without a `sync_rate` the server is asked on every request, in one step that counts and tells: as in Kong, a refused
//! request counts too. With one, a node decides by what it knows, and tells the server of its requests in batches.

use std::sync::Arc;
use std::time::Duration;

use portcullis_plugin::{Count, Counting, Env, Rows};
use uuid::Uuid;

use super::counters::{Scope, Who};
use super::window::{Hit, Limited, PERIODS, Window};
use crate::redis::Redis;
use crate::redis::counts::{Addition, Batched, add};
use crate::redis::link::{Link, Links};

/// See the module's description.
pub struct Shared {
    how: How,
    scope: Scope,
}

enum How {
    Database(Rows),
    Redis(Arc<Link>),
    Batches(Arc<Batched>),
}

impl Shared {
    pub fn database(scope: Scope, env: &Env) -> Self {
        Self { how: How::Database(env.rows.clone()), scope }
    }

    /// `sync_rate` in seconds; -1 asks on every request.
    pub fn redis(redis: &Redis, sync_rate: f64, scope: Scope, env: &Env) -> Self {
        let link = env.state.get::<Links>().to(redis, env);
        let rate = Duration::try_from_secs_f64(sync_rate).ok().filter(|rate| !rate.is_zero());
        let how = match rate {
            None => How::Redis(link),
            Some(rate) => How::Batches(Batched::start(link, rate, &env.runtime)),
        };
        Self { how, scope }
    }

    /// Counts a request of `who` in all its windows. Errors when the counts cannot be reached.
    pub async fn hit(&self, who: Who<'_>, limits: &[Limited], windows: &[Window]) -> Result<Hit, String> {
        match &self.how {
            How::Database(rows) => {
                let counts = limits.iter().zip(windows).map(|(limited, window)| self.count(who, limited, window)).collect();
                let held = rows.count(Counting::Requests, counts).await.map_err(|error| error.to_string())?;
                let mut used = [0; PERIODS.len()];
                used.iter_mut().zip(held).for_each(|(used, held)| *used = held);
                Ok(met(used, limits))
            }
            How::Redis(link) => {
                let additions = self.additions(who, limits, windows);
                let sums = add(link, additions).await?;
                let mut used = [0; PERIODS.len()];
                for (used, sum) in used.iter_mut().zip(sums) {
                    *used = u64::try_from(sum - 1).unwrap_or(0);
                }
                Ok(met(used, limits))
            }
            How::Batches(batched) => {
                let additions = self.additions(who, limits, windows);
                let ends = windows.iter().map(|window| window.end).max().unwrap_or(0);
                if additions.iter().any(|addition| batched.known(&addition.key).is_none()) {
                    batched.ask(additions.clone(), ends).await?;
                }
                let mut used = [0; PERIODS.len()];
                for (used, addition) in used.iter_mut().zip(&additions) {
                    *used = u64::try_from(batched.known(&addition.key).unwrap_or(0)).unwrap_or(0);
                }
                let hit = met(used, limits);
                if hit.stopped.is_none() {
                    additions.iter().zip(windows).for_each(|(addition, window)| batched.add(addition, window.end));
                }
                Ok(hit)
            }
        }
    }

    fn count(&self, who: Who<'_>, limited: &Limited, window: &Window) -> Count {
        Count {
            identifier: who.to_string(),
            period: limited.period.name().to_owned(),
            start: window.start,
            service: self.scope.service,
            route: self.scope.route,
            by: 1,
            bound: limited.limit,
            lives: limited.period.nominal_secs(),
        }
    }

    fn additions(&self, who: Who<'_>, limits: &[Limited], windows: &[Window]) -> Vec<Addition> {
        // The braces are a hash tag: all windows of a client live on one node of a cluster.
        let route = self.scope.route.unwrap_or(Uuid::nil());
        let service = self.scope.service.unwrap_or(Uuid::nil());
        let front = format!("ratelimit:{{{route}:{service}:{who}}}");
        let of_one = |(limited, window): (&Limited, &Window)| Addition {
            key: format!("{front}:{}:{}", window.start * 1000, limited.period.name()),
            by: 1,
            lives: limited.period.nominal_secs(),
        };
        limits.iter().zip(windows).map(of_one).collect()
    }
}

/// What a request met that found `used` requests before it.
fn met(used: [u64; PERIODS.len()], limits: &[Limited]) -> Hit {
    let stopped = limits.iter().zip(used).rposition(|(limited, used)| used as f64 >= limited.limit);
    Hit { used, stopped }
}
