//! One address behind an upstream: its health, its connections, its latency. Outlives every edit of the upstream.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Latencies lose their weight over this time (the time constant of the average).
const DECAY: Duration = Duration::from_secs(10);

/// Names a peer for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(pub(super) u64);

/// What the state of a peer is kept under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PeerKey {
    /// The target's host as written: a name, or an address.
    pub(super) host: Arc<str>,
    pub(super) ip: IpAddr,
    pub(super) port: u16,
}

#[derive(Debug)]
pub struct Peer {
    pub id: PeerId,
    pub(super) key: PeerKey,
    healthy: AtomicBool,
    successes: AtomicU32,
    http_failures: AtomicU32,
    tcp_failures: AtomicU32,
    timeouts: AtomicU32,
    connections: AtomicU32,
    latency: Mutex<Option<Latency>>,
    /// When the next probe is due, in milliseconds since the registry began.
    pub(super) next_probe: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Latency {
    /// Seconds.
    average: f64,
    at: Instant,
}

/// What a request or a probe found out about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer answered with this status.
    Status(u16),
    /// No connection: refused, reset, unreachable, or TLS failed.
    ConnectFailed,
    /// No connection or no answer in time.
    TimedOut,
    /// The peer of a probe answered with something that is not HTTP.
    Garbled,
}

/// How many outcomes of a kind in a row change a peer's health; zero: they don't count.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Limits {
    pub(super) successes: u16,
    pub(super) healthy_statuses: Vec<u16>,
    pub(super) http_failures: u16,
    pub(super) tcp_failures: u16,
    pub(super) timeouts: u16,
    pub(super) unhealthy_statuses: Vec<u16>,
}

impl Peer {
    pub(super) fn new(id: PeerId, key: PeerKey) -> Self {
        Self {
            id,
            key,
            healthy: AtomicBool::new(true),
            successes: AtomicU32::new(0),
            http_failures: AtomicU32::new(0),
            tcp_failures: AtomicU32::new(0),
            timeouts: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            latency: Mutex::new(None),
            next_probe: AtomicU64::new(0),
        }
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.key.ip, self.key.port)
    }

    /// The target's host as its owner wrote it: a name, or an address.
    pub fn host(&self) -> &Arc<str> {
        &self.key.host
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    /// Sets the health by hand or after enough outcomes, and starts counting anew. True if it changed.
    pub(super) fn set_health(&self, healthy: bool) -> bool {
        for counter in [&self.successes, &self.http_failures, &self.tcp_failures, &self.timeouts] {
            counter.store(0, Relaxed);
        }
        self.healthy.swap(healthy, Relaxed) != healthy
    }

    /// Counts an outcome; true if it changed the peer's health. A success forgets failures and the other way round; outcomes
    /// without a limit change nothing, as in Kong.
    pub(super) fn count(&self, outcome: Outcome, limits: &Limits) -> bool {
        let (counter, limit) = match outcome {
            Outcome::ConnectFailed => (&self.tcp_failures, limits.tcp_failures),
            Outcome::TimedOut => (&self.timeouts, limits.timeouts),
            Outcome::Garbled => (&self.http_failures, limits.http_failures),
            Outcome::Status(status) if limits.healthy_statuses.contains(&status) => return self.count_success(limits.successes),
            Outcome::Status(status) if limits.unhealthy_statuses.contains(&status) => (&self.http_failures, limits.http_failures),
            Outcome::Status(_) => return false,
        };
        if limit == 0 {
            return false;
        }
        self.successes.store(0, Relaxed);
        if !self.is_healthy() {
            return false;
        }
        counter.fetch_add(1, Relaxed) + 1 >= u32::from(limit) && self.set_health(false)
    }

    fn count_success(&self, limit: u16) -> bool {
        let failures = [&self.http_failures, &self.tcp_failures, &self.timeouts];
        if limit == 0 || (self.is_healthy() && failures.iter().all(|counter| counter.load(Relaxed) == 0)) {
            return false;
        }
        for counter in failures {
            counter.store(0, Relaxed);
        }
        self.successes.fetch_add(1, Relaxed) + 1 >= u32::from(limit) && self.set_health(true)
    }

    pub(super) fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    pub(super) fn connect(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn disconnect(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// Takes the time from connecting to the end of the answer into the average; a slower answer than that counts at once.
    pub(super) fn observe(&self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let average = match *latency {
            Some(known) if took < known.average => {
                let kept = (-now.saturating_duration_since(known.at).as_secs_f64() / DECAY.as_secs_f64()).exp();
                known.average * kept + took * (1.0 - kept)
            }
            _ => took,
        };
        *latency = Some(Latency { average, at: now });
    }

    /// The average latency in seconds as it has faded since; none if there was no request yet.
    pub(super) fn latency(&self, now: Instant) -> Option<f64> {
        let known = (*self.latency.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(known.average * (-now.saturating_duration_since(known.at).as_secs_f64() / DECAY.as_secs_f64()).exp())
    }
}
