//! What an upstream and its targets ask for, in the form the balancer works with.

use std::sync::Arc;
use std::time::Duration;

use portcullis_entities::Target;
use portcullis_entities::upstreams::{Algorithm, CheckType, HashOn, Healthchecks, Upstream};

use super::peer::Limits;

#[derive(Debug)]
pub(super) struct Config {
    pub(super) upstream: Arc<Upstream>,
    pub(super) targets: Vec<Arc<Target>>,
    pub(super) algorithm: Algorithm,
    pub(super) slots: usize,
    pub(super) host_header: Option<Arc<str>>,
    /// Percent of the weight; more must be available.
    pub(super) threshold: f64,
    /// Whether health counts at all.
    pub(super) checks_in_use: bool,
    pub(super) passive: Limits,
    pub(super) active: Option<Probing>,
}

/// How peers are probed.
#[derive(Debug)]
pub(super) struct Probing {
    pub(super) limits: Limits,
    /// None: healthy peers are not probed.
    pub(super) every_when_healthy: Option<Duration>,
    /// None: unhealthy peers are not probed.
    pub(super) every_when_unhealthy: Option<Duration>,
    pub(super) concurrency: usize,
}

impl Config {
    pub(super) fn of(upstream: Arc<Upstream>, mut targets: Vec<Arc<Target>>) -> Self {
        targets.sort_by(|left, right| {
            let made = |target: &Target| target.created_at.unwrap_or_default();
            made(left).total_cmp(&made(right)).then_with(|| left.id.cmp(&right.id))
        });
        let checks = &upstream.healthchecks;
        let hashes = upstream.hash_on.unwrap_or_default() != HashOn::None;
        let algorithm = match upstream.algorithm.unwrap_or_default() {
            // Whoever names a value to hash on means it.
            Algorithm::RoundRobin if hashes => Algorithm::ConsistentHashing,
            algorithm => algorithm,
        };
        Self {
            algorithm,
            slots: upstream.slots.map_or(10_000, |slots| slots as usize),
            host_header: upstream.host_header.as_deref().map(Into::into),
            threshold: checks.threshold.unwrap_or(0.0),
            checks_in_use: in_use(checks),
            passive: passive_limits(checks),
            active: probing(checks),
            upstream,
            targets,
        }
    }

    /// Whether an edit changes nothing that this balancer works with but the time stamps.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.upstream, &other.upstream)
            && self.targets.len() == other.targets.len()
            && self.targets.iter().zip(&other.targets).all(|(left, right)| Arc::ptr_eq(left, right))
    }
}

fn every(seconds: Option<f64>) -> Option<Duration> {
    seconds.filter(|seconds| *seconds > 0.0).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// Health checks are in use once a probe or a passive limit on failures is.
fn in_use(checks: &Healthchecks) -> bool {
    let failures = &checks.passive.unhealthy;
    let limits = [failures.tcp_failures, failures.timeouts, failures.http_failures];
    every(checks.active.healthy.interval).is_some()
        || every(checks.active.unhealthy.interval).is_some()
        || limits.iter().any(|limit| limit.unwrap_or(0) > 0)
}

fn passive_limits(checks: &Healthchecks) -> Limits {
    let (healthy, unhealthy) = (&checks.passive.healthy, &checks.passive.unhealthy);
    Limits {
        successes: healthy.successes.unwrap_or(0),
        healthy_statuses: healthy.http_statuses.clone().unwrap_or_default(),
        http_failures: unhealthy.http_failures.unwrap_or(0),
        tcp_failures: unhealthy.tcp_failures.unwrap_or(0),
        timeouts: unhealthy.timeouts.unwrap_or(0),
        unhealthy_statuses: unhealthy.http_statuses.clone().unwrap_or_default(),
    }
}

fn probing(checks: &Healthchecks) -> Option<Probing> {
    let active = &checks.active;
    // As in Kong, probes that only connect are for streams.
    if active.r#type == Some(CheckType::Tcp) {
        return None;
    }
    let every_when_healthy = every(active.healthy.interval);
    let every_when_unhealthy = every(active.unhealthy.interval);
    if every_when_healthy.is_none() && every_when_unhealthy.is_none() {
        return None;
    }
    let limits = Limits {
        successes: active.healthy.successes.unwrap_or(0),
        healthy_statuses: active.healthy.http_statuses.clone().unwrap_or_default(),
        http_failures: active.unhealthy.http_failures.unwrap_or(0),
        tcp_failures: active.unhealthy.tcp_failures.unwrap_or(0),
        timeouts: active.unhealthy.timeouts.unwrap_or(0),
        unhealthy_statuses: active.unhealthy.http_statuses.clone().unwrap_or_default(),
    };
    let concurrency = active.concurrency.map_or(10, |most| usize::try_from(most).unwrap_or(usize::MAX));
    Some(Probing { limits, every_when_healthy, every_when_unhealthy, concurrency })
}
