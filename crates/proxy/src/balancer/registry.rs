//! The table of upstreams in a snapshot, and the one task behind all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use portcullis_entities::{Target, Upstream};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::probe::{self, ProbeTls};
use super::{Balancer, PeerId};
use crate::dns::{Dns, literal};

/// How often due probes are looked for; the granularity of their intervals.
const TICK: Duration = Duration::from_millis(100);
/// Every so many ticks the balancers ask DNS whether their names lead elsewhere.
const TICKS_PER_DNS_ROUND: u64 = 5;

pub(super) fn next_peer_id() -> PeerId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    PeerId(NEXT.fetch_add(1, Relaxed))
}

/// All balancers that are alive, whichever snapshot they are in.
pub struct Registry {
    balancers: Mutex<HashMap<Uuid, Weak<Balancer>>>,
    dns: Arc<Dns>,
    runtime: Handle,
    seed: AtomicU64,
    pub(super) begun: Instant,
    pub(super) tls: Option<ProbeTls>,
}

impl Registry {
    /// Starts the task that follows DNS and probes peers on `runtime`; it ends with the registry. `seed` shuffles the wheels.
    pub fn start(dns: Arc<Dns>, runtime: Handle, seed: u64, tls: Option<ProbeTls>) -> Arc<Self> {
        let registry = Arc::new(Self {
            balancers: Mutex::default(),
            dns,
            runtime: runtime.clone(),
            seed: AtomicU64::new(seed),
            begun: Instant::now(),
            tls,
        });
        runtime.spawn(keep_up(Arc::downgrade(&registry)));
        registry
    }

    fn balancer(&self, upstream: Arc<Upstream>, targets: Vec<Arc<Target>>) -> Arc<Balancer> {
        let id = upstream.id;
        let known = self.balancers.lock().unwrap_or_else(PoisonError::into_inner).get(&id).and_then(Weak::upgrade);
        let balancer = match known {
            Some(balancer) => {
                balancer.configure(upstream, targets);
                balancer
            }
            None => {
                let seed = self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed);
                let balancer = Arc::new(Balancer::new(upstream, targets, self.dns.clone(), seed));
                self.balancers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::downgrade(&balancer));
                balancer
            }
        };
        self.look_up(&balancer);
        balancer
    }

    /// Asks DNS for the names of a balancer that are not known, and lets it take the answers over as they come.
    fn look_up(&self, balancer: &Arc<Balancer>) {
        for name in balancer.unknown_names() {
            let (balancer, dns) = (Arc::downgrade(balancer), self.dns.clone());
            self.runtime.spawn(async move {
                if let Err(error) = dns.resolve(&name).await {
                    tracing::warn!(%error, host = %name, "target has no address");
                }
                if let Some(balancer) = balancer.upgrade() {
                    balancer.follow_dns();
                }
            });
        }
    }

    fn alive(&self) -> Vec<Arc<Balancer>> {
        let mut balancers = self.balancers.lock().unwrap_or_else(PoisonError::into_inner);
        balancers.retain(|_, balancer| balancer.strong_count() > 0);
        balancers.values().filter_map(Weak::upgrade).collect()
    }
}

async fn keep_up(registry: Weak<Registry>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u64;
    loop {
        ticks.tick().await;
        count += 1;
        let Some(registry) = registry.upgrade() else { return };
        for balancer in registry.alive() {
            probe::start_due(&registry, &balancer);
            if count.is_multiple_of(TICKS_PER_DNS_ROUND) {
                balancer.follow_dns();
                registry.look_up(&balancer);
            }
        }
    }
}

/// The upstreams of one snapshot, by name and id. Clones share all balancers.
#[derive(Clone)]
pub struct Upstreams {
    registry: Arc<Registry>,
    table: Arc<Table>,
}

#[derive(Clone, Default)]
struct Table {
    by_name: HashMap<Box<str>, Arc<Balancer>>,
    by_id: HashMap<Uuid, (Box<str>, Arc<Balancer>)>,
}

impl Upstreams {
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, table: Arc::default() }
    }

    /// The balancer of the upstream that a service's host names, if it names one.
    pub fn get(&self, name: &str) -> Option<&Arc<Balancer>> {
        self.table.by_name.get(name)
    }

    pub fn by_id(&self, id: Uuid) -> Option<&Arc<Balancer>> {
        self.table.by_id.get(&id).map(|(_, balancer)| balancer)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Balancer>> {
        self.table.by_id.values().map(|(_, balancer)| balancer)
    }

    pub fn len(&self) -> usize {
        self.table.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.by_id.is_empty()
    }

    /// Adds an upstream with all its targets, or takes over an edit of either.
    pub fn insert(&mut self, upstream: Arc<Upstream>, targets: Vec<Arc<Target>>) {
        let (id, name) = (upstream.id, upstream.name.clone().into_boxed_str());
        let balancer = self.registry.balancer(upstream, targets);
        let table = Arc::make_mut(&mut self.table);
        if let Some((old_name, _)) = table.by_id.insert(id, (name.clone(), balancer.clone()))
            && old_name != name
        {
            table.by_name.remove(&old_name);
        }
        table.by_name.insert(name, balancer);
    }

    pub fn remove(&mut self, id: Uuid) {
        let table = Arc::make_mut(&mut self.table);
        if let Some((name, _)) = table.by_id.remove(&id)
            && table.by_name.get(&name).is_some_and(|balancer| balancer.id == id)
        {
            table.by_name.remove(&name);
        }
    }

    /// Waits until DNS has answered for every target, or `limit` is over; a snapshot with new names is best settled before
    /// requests see it.
    pub async fn settle(&self, limit: Duration) {
        let settled = async {
            for (_, balancer) in self.table.by_id.values() {
                for name in balancer.unknown_names() {
                    if literal(&name).is_none() {
                        let _ = self.registry.dns.resolve(&name).await;
                    }
                }
                balancer.follow_dns();
            }
        };
        let _ = tokio::time::timeout(limit, settled).await;
    }
}
