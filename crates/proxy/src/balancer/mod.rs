//! Chooses the peer behind an upstream for each try of a request.
//!
//! [`Upstreams`] is the table of a snapshot; a [`Balancer`] belongs to one upstream entity and outlives snapshots: an edit gives
//! it a new configuration, and its peers keep their health, connections and latency. Workers call [`Balancer::key`] once a
//! request, [`Balancer::pick`] once a try and [`Balancer::report`] once a try; none of them waits.
//!
//! - `ring.rs`: the algorithms, pure
//! - `key.rs`: what a request is hashed by, `xxhash.rs`: how
//! - `peer.rs`: one address, and how outcomes change its health
//! - `config.rs`: what the entities ask for, compiled
//! - `health.rs`: the health report
//! - `registry.rs`: the table, and the task that follows DNS and probes peers; `probe.rs`: one probe

mod config;
mod health;
mod key;
mod peer;
mod probe;
mod registry;
mod ring;
#[cfg(test)]
mod tests;
mod xxhash;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use portcullis_entities::upstreams::{Algorithm, Upstream};
use portcullis_entities::{Target, targets};
use uuid::Uuid;

use crate::dns::{Dns, Known, literal};
use config::Config;
pub use health::{AddressHealth, TargetHealth, UpstreamHealth, Weights};
pub use key::{HashInput, HashKey};
use peer::PeerKey;
pub use peer::{Outcome, Peer, PeerId};
pub use probe::ProbeTls;
pub use registry::{Registry, Upstreams};
use ring::{Place, Ring};

/// How long a peer that left is remembered: the same target made again has the health it had, as in Kong.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Why there is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BalancerError {
    #[error("failure to get a peer from the ring-balancer")]
    NoPeer,
}

impl BalancerError {
    /// The status of the answer to the client; its message is the error's text.
    pub fn status(self) -> u16 {
        503
    }
}

/// Why the health of a target could not be set by hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetHealthError {
    #[error("no healthchecker found for {0}")]
    ChecksOff(String),
    #[error("target not found")]
    NoTarget,
}

/// The peer of one try. Counts as a connection until dropped.
#[derive(Debug)]
pub struct Picked {
    pub peer: Arc<Peer>,
    /// What goes into the Host header, before the port: the upstream's `host_header`, else the target's host.
    pub host: Arc<str>,
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.peer.disconnect();
    }
}

/// The peers of one upstream and how they are chosen.
pub struct Balancer {
    pub id: Uuid,
    live: ArcSwap<Live>,
    turn: AtomicUsize,
    /// Every peer of the present ring, and those that left it not long ago; held while a new ring is built.
    peers: Mutex<Peers>,
    dns: Arc<Dns>,
    seed: u64,
    pub(self) probes: AtomicUsize,
}

/// The peers of a balancer, present ones and, with the time they left, former ones.
#[derive(Default)]
struct Peers {
    present: HashMap<PeerKey, Arc<Peer>>,
    former: HashMap<PeerKey, (Arc<Peer>, Instant)>,
}

/// What is replaced as a whole when the upstream, its targets or their addresses change.
struct Live {
    config: Arc<Config>,
    hosts: Vec<Host>,
    ring: Ring,
    /// Enough weight is available, see [`Balancer::judge`].
    healthy: AtomicBool,
}

/// A target and the peers it stands for now.
struct Host {
    target: Arc<Target>,
    name: Arc<str>,
    port: u16,
    /// None for a literal address, and for a name nobody has answered for yet.
    known: Option<Known>,
    places: Vec<Place>,
}

impl Balancer {
    fn new(upstream: Arc<Upstream>, targets: Vec<Arc<Target>>, dns: Arc<Dns>, seed: u64) -> Self {
        let id = upstream.id;
        let config = Arc::new(Config::of(upstream, targets));
        let live = Live { config: config.clone(), hosts: Vec::new(), ring: Ring::default(), healthy: AtomicBool::new(false) };
        let balancer = Self {
            id,
            live: ArcSwap::from_pointee(live),
            turn: AtomicUsize::new(seed as usize),
            peers: Mutex::default(),
            dns,
            seed,
            probes: AtomicUsize::new(0),
        };
        balancer.rebuild(config);
        balancer
    }

    /// Takes over an edited upstream or edited targets. Peers that stay keep all that is known about them.
    fn configure(&self, upstream: Arc<Upstream>, targets: Vec<Arc<Target>>) {
        let config = Config::of(upstream, targets);
        if !config.is_same(&self.live.load().config) {
            self.rebuild(Arc::new(config));
        }
    }

    pub fn name(&self) -> String {
        self.live.load().config.upstream.name.clone()
    }

    pub fn upstream(&self) -> Arc<Upstream> {
        self.live.load().config.upstream.clone()
    }

    /// What the request hashes to. Cheap unless the upstream hashes. `fresh` makes the value of a missing cookie.
    pub fn key(&self, input: &HashInput<'_>, fresh: impl FnOnce() -> Uuid) -> HashKey {
        let live = self.live.load();
        match live.config.algorithm {
            Algorithm::ConsistentHashing => HashKey::of(&live.config.upstream, input, fresh),
            _ => HashKey::default(),
        }
    }

    /// The peer for the next try; one of `tried` only when no other can be used.
    pub fn pick(&self, tried: &[PeerId], key: &HashKey, now: Instant) -> Result<Picked, BalancerError> {
        let live = self.live.load();
        if !live.healthy.load(Relaxed) {
            return Err(BalancerError::NoPeer);
        }
        let turn = self.turn.fetch_add(1, Relaxed);
        let usable = |peer: &Peer| !live.config.checks_in_use || peer.is_healthy();
        let Place { peer, srv_name, .. } = live.ring.pick(tried, turn, key.hash, now, usable).ok_or(BalancerError::NoPeer)?;
        peer.connect();
        let host = live.config.host_header.as_ref().or(srv_name.as_ref()).unwrap_or(peer.host()).clone();
        Ok(Picked { peer: peer.clone(), host })
    }

    /// Tells how a try went, for passive health checks.
    pub fn report(&self, peer: &Peer, outcome: Outcome) {
        let live = self.live.load();
        // Kong counts an upstream's own 504 as a timeout.
        let outcome = if outcome == Outcome::Status(504) { Outcome::TimedOut } else { outcome };
        if live.config.checks_in_use && peer.count(outcome, &live.config.passive) {
            self.health_changed(peer);
        }
    }

    /// Tells how long a peer took from connecting to the end of its answer.
    pub fn observe(&self, peer: &Peer, took: Duration, now: Instant) {
        if self.live.load().config.algorithm == Algorithm::Latency {
            peer.observe(took, now);
        }
    }

    /// Sets the health of a target (`host:port` or its id), or of one of its addresses, by hand.
    pub fn set_health(&self, target: &str, address: Option<SocketAddr>, healthy: bool) -> Result<(), SetHealthError> {
        let live = self.live.load();
        if !live.config.checks_in_use {
            return Err(SetHealthError::ChecksOff(live.config.upstream.name.clone()));
        }
        let wanted = targets::normalized(target).unwrap_or_else(|_| target.to_owned());
        let is_wanted = |host: &&Host| host.target.target == wanted || host.target.id.to_string() == target;
        let host = live.hosts.iter().find(is_wanted).ok_or(SetHealthError::NoTarget)?;
        // An address the target does not stand for changes nothing and is no error, as in Kong.
        for place in host.places.iter().filter(|place| address.is_none_or(|address| address == place.peer.address())) {
            if place.peer.set_health(healthy) {
                self.health_changed(&place.peer);
            }
        }
        Ok(())
    }

    /// The health of the upstream, its targets and their addresses.
    pub fn health(&self) -> UpstreamHealth {
        let live = self.live.load();
        let target = |host: &Host| {
            let weight = host.target.weight.unwrap_or(100);
            let address = |place: &Place| AddressHealth {
                ip: place.peer.address().ip().to_string(),
                port: place.peer.address().port(),
                weight: place.weight,
                healthy: !live.config.checks_in_use || place.peer.is_healthy(),
            };
            TargetHealth {
                id: host.target.id,
                host: host.name.to_string(),
                port: host.port,
                weight,
                dns: host.dns_kind(),
                addresses: host.places.iter().map(address).collect(),
                checked: live.config.checks_in_use && weight > 0,
            }
        };
        UpstreamHealth {
            id: self.id,
            healthy: live.healthy.load(Relaxed),
            checks_in_use: live.config.checks_in_use,
            targets: live.hosts.iter().map(target).collect(),
        }
    }

    fn health_changed(&self, peer: &Peer) {
        let (healthy, address) = (peer.is_healthy(), peer.address());
        tracing::warn!(upstream = %self.live.load().config.upstream.name, host = %peer.host(), %address, healthy, "target health changed");
        self.judge(&self.live.load());
    }

    /// An upstream takes requests while more than `threshold` percent of its weight is available.
    fn judge(&self, live: &Live) {
        let (mut available, mut total) = (0, 0);
        for place in &live.ring.places {
            total += u64::from(place.weight);
            if !live.config.checks_in_use || place.peer.is_healthy() {
                available += u64::from(place.weight);
            }
        }
        let healthy = total > 0 && available as f64 / total as f64 * 100.0 > live.config.threshold;
        live.healthy.store(healthy, Relaxed);
    }

    /// Makes the ring anew from what DNS knows now.
    fn rebuild(&self, config: Arc<Config>) {
        self.rebuild_at(config, Instant::now());
    }

    fn rebuild_at(&self, config: Arc<Config>, now: Instant) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.former.retain(|_, (_, left)| now.saturating_duration_since(*left) < REMEMBERED);
        let mut kept = HashMap::with_capacity(peers.present.len());
        let hosts: Vec<Host> = config
            .targets
            .iter()
            .map(|target| {
                let mut host = Host::of(target, &self.dns);
                host.places = host.places_with(config.upstream.use_srv_name.unwrap_or(false), |key| {
                    let former = || peers.former.get(&key).map(|(peer, _)| peer);
                    let known = kept.get(&key).or_else(|| peers.present.get(&key)).or_else(former).cloned();
                    let peer = known.unwrap_or_else(|| Arc::new(Peer::new(registry::next_peer_id(), key.clone())));
                    kept.insert(key, peer.clone());
                    peer
                });
                host
            })
            .collect();
        let places = hosts.iter().flat_map(|host| host.places.iter().cloned()).collect();
        let weighty = config.targets.iter().filter(|target| target.weight != Some(0)).count();
        let ring = Ring::build(places, weighty, config.algorithm, config.slots, self.seed);
        let live = Live { config, hosts, ring, healthy: AtomicBool::new(false) };
        self.judge(&live);
        let Peers { present, former } = &mut *peers;
        former.retain(|key, _| !kept.contains_key(key));
        let left = present.drain().filter(|(key, _)| !kept.contains_key(key));
        former.extend(left.map(|(key, peer)| (key, (peer, now))));
        *present = kept;
        self.live.store(Arc::new(live));
    }

    /// Host names that have no answer yet or no longer.
    fn unknown_names(&self) -> Vec<Arc<str>> {
        let live = self.live.load();
        let names = live.hosts.iter().filter(|host| literal(&host.name).is_none()).map(|host| &host.name);
        names.filter(|name| self.dns.cached(name).is_none()).cloned().collect()
    }

    /// Follows DNS: makes the ring anew if a name leads elsewhere now.
    fn follow_dns(&self) {
        let live = self.live.load_full();
        let moved = |host: &Host| literal(&host.name).is_none() && self.dns.cached(&host.name).is_some_and(|now| !host.leads_to(&now));
        if live.hosts.iter().any(moved) {
            self.rebuild(live.config.clone());
        }
    }
}

impl Host {
    fn of(target: &Arc<Target>, dns: &Arc<Dns>) -> Self {
        let (name, port) = target.target.rsplit_once(':').unwrap_or((&target.target, ""));
        let port = port.parse().unwrap_or(targets::DEFAULT_PORT);
        Self { name: name.into(), port, known: dns.cached(name), places: Vec::new(), target: target.clone() }
    }

    fn places_with(&self, by_srv_name: bool, mut peer: impl FnMut(PeerKey) -> Arc<Peer>) -> Vec<Place> {
        let Some(Ok(answer)) = &self.known else { return Vec::new() };
        let own_weight = self.target.weight.unwrap_or(100);
        let place = |(at, address): (usize, &crate::dns::Address)| {
            let key = PeerKey { host: self.name.clone(), ip: address.ip, port: address.port.unwrap_or(self.port) };
            // The weight of an SRV record goes before the target's, but not before "none at all".
            let of_srv = answer.kind == crate::dns::Kind::Srv && own_weight > 0;
            let srv_name = answer.names.get(at).filter(|_| by_srv_name).cloned();
            Place { peer: peer(key), weight: if of_srv { address.weight.into() } else { own_weight }, srv_name }
        };
        answer.addresses.iter().enumerate().map(place).collect()
    }

    fn dns_kind(&self) -> Option<&'static str> {
        self.known.as_ref()?.as_ref().ok().map(|answer| answer.kind.as_str())
    }

    /// Whether the answer is what the places were made from; another TTL makes no difference, nor does another order.
    fn leads_to(&self, now: &Known) -> bool {
        let sorted = |known: &Known| {
            known.as_ref().ok().map(|answer| {
                let mut addresses: Vec<_> = answer.addresses.iter().map(|address| (address.ip, address.port, address.weight)).collect();
                addresses.sort();
                (answer.kind, addresses)
            })
        };
        self.known.as_ref().is_some_and(|known| sorted(known) == sorted(now))
    }
}
