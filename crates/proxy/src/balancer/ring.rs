//! Chooses among the peers of an upstream. Pure: the caller brings time, turn and seed.
//!
//! A ring is built when targets, addresses or the algorithm change and is never changed itself; what changes from request to
//! request (health, connections, latency) stands in the peers.

use std::sync::Arc;
use std::time::Instant;

use portcullis_entities::upstreams::Algorithm;

use super::peer::{Peer, PeerId};
use super::xxhash::xxhash32;

/// Points that a peer of average weight gets on the consistent-hashing ring.
const POINTS_PER_PEER: f64 = 160.0;
/// The least size of that ring, whatever `slots` says.
const LEAST_SLOTS: usize = 1000;
/// Bounds the round-robin wheel; weights with a large common denominator are rounded to fit.
const MOST_WHEEL_PLACES: u64 = 1 << 18;
const EMPTY: u32 = u32::MAX;

/// A peer in its place, with the weight it has there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) peer: Arc<Peer>,
    pub(super) weight: u32,
    /// The name that an SRV record gave for it, where the upstream wants that in the Host header.
    pub(super) srv_name: Option<Arc<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) places: Vec<Place>,
    order: Order,
}

#[derive(Debug, Default)]
enum Order {
    /// No peer has any weight.
    #[default]
    None,
    /// Indexes of places, each as often as its weight says, shuffled.
    Wheel(Vec<u32>),
    /// Slots of the ring, each with the index of a place or `EMPTY`.
    Hashed(Vec<u32>),
    LeastConnections,
    Latency,
}

impl Ring {
    /// `targets` is the number of targets with weight: the ring's points are dealt out by it.
    pub(super) fn build(places: Vec<Place>, targets: usize, algorithm: Algorithm, slots: usize, seed: u64) -> Self {
        let places: Vec<Place> = places.into_iter().filter(|place| place.weight > 0).collect();
        let order = match algorithm {
            _ if places.is_empty() => Order::None,
            Algorithm::RoundRobin => Order::Wheel(wheel(&places, seed)),
            Algorithm::ConsistentHashing => Order::Hashed(hashed(&places, targets, slots)),
            Algorithm::LeastConnections => Order::LeastConnections,
            Algorithm::Latency => Order::Latency,
        };
        Self { places, order }
    }

    /// The peer whose turn it is among those that `usable` lets through, those in `tried` only when there is no other.
    pub(super) fn pick(&self, tried: &[PeerId], turn: usize, hash: u32, now: Instant, usable: impl Fn(&Peer) -> bool) -> Option<&Place> {
        let untried = self.pick_where(turn, hash, now, |peer| usable(peer) && !tried.contains(&peer.id));
        if untried.is_some() || tried.is_empty() {
            return untried;
        }
        self.pick_where(turn, hash, now, usable)
    }

    fn pick_where(&self, turn: usize, hash: u32, now: Instant, usable: impl Fn(&Peer) -> bool) -> Option<&Place> {
        let at = match &self.order {
            Order::None => None,
            Order::Wheel(wheel) => {
                let mut turns = (0..wheel.len()).map(|step| wheel[(turn.wrapping_add(step)) % wheel.len()] as usize);
                turns.find(|at| usable(&self.places[*at].peer))
            }
            Order::Hashed(slots) => {
                let start = hash as usize % slots.len();
                let mut downward = (0..slots.len()).map(|step| slots[(start + slots.len() - step) % slots.len()]);
                downward.find(|at| *at != EMPTY && usable(&self.places[*at as usize].peer)).map(|at| at as usize)
            }
            Order::LeastConnections => {
                let load = |place: &Place| f64::from(place.peer.connections() + 1) / f64::from(place.weight);
                self.least(turn, usable, load)
            }
            Order::Latency => {
                // A peer without history stands in the middle, so that it neither starves nor is flooded.
                let known: Vec<f64> = self.places.iter().filter_map(|place| place.peer.latency(now)).collect();
                let middle = if known.is_empty() { 0.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
                let load = |place: &Place| place.peer.latency(now).unwrap_or(middle) / f64::from(place.weight);
                self.least(turn, usable, load)
            }
        };
        at.map(|at| &self.places[at])
    }

    /// The usable place of the least load; equals in turn.
    fn least(&self, turn: usize, usable: impl Fn(&Peer) -> bool, load: impl Fn(&Place) -> f64) -> Option<usize> {
        let count = self.places.len();
        let mut best: Option<(usize, f64)> = None;
        for at in (0..count).map(|step| turn.wrapping_add(step) % count) {
            if !usable(&self.places[at].peer) {
                continue;
            }
            let load = load(&self.places[at]);
            if best.is_none_or(|(_, least)| load < least) {
                best = Some((at, load));
            }
        }
        best.map(|(at, _)| at)
    }
}

fn wheel(places: &[Place], seed: u64) -> Vec<u32> {
    let divisor = places.iter().fold(0, |divisor, place| greatest_common_divisor(divisor, u64::from(place.weight)));
    let total: u64 = places.iter().map(|place| u64::from(place.weight) / divisor).sum();
    let mut wheel = Vec::new();
    for (at, place) in places.iter().enumerate() {
        let mut share = u64::from(place.weight) / divisor;
        if total > MOST_WHEEL_PLACES {
            share = (share * MOST_WHEEL_PLACES / total).max(1);
        }
        wheel.extend(std::iter::repeat_n(at as u32, share as usize));
    }
    shuffle(&mut wheel, seed);
    wheel
}

fn greatest_common_divisor(mut left: u64, mut right: u64) -> u64 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

/// Fisher and Yates' shuffle over a small generator (splitmix64).
fn shuffle(list: &mut [u32], seed: u64) {
    let mut state = seed;
    for last in (1..list.len()).rev() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        list.swap(last, ((mixed ^ mixed >> 31) % (last as u64 + 1)) as usize);
    }
}

/// Every peer at its points, the same on every node: a point is the hash of address, two colons, port, blank and a number.
fn hashed(places: &[Place], targets: usize, slots: usize) -> Vec<u32> {
    let size = slots.max(LEAST_SLOTS);
    let mut ring = vec![EMPTY; size];
    let mut free = size;
    let total: f64 = places.iter().map(|place| f64::from(place.weight)).sum();
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|left, right| {
        let key = |at: &usize| &places[*at].peer.key;
        let (left, right) = (key(left), key(right));
        (&left.host, left.port, left.ip).cmp(&(&right.host, right.port, right.ip))
    });
    for at in order {
        let place = &places[at];
        let share = f64::from(place.weight) / total * targets as f64 * POINTS_PER_PEER;
        let mut points = (share.floor() as usize).max(1);
        let mut number = 1;
        while number <= points && free > 0 {
            let key = format!("{}::{} {number}", place.peer.key.ip, place.peer.key.port);
            let slot = &mut ring[xxhash32(key.as_bytes()) as usize % size];
            if *slot == EMPTY {
                *slot = at as u32;
                free -= 1;
            } else {
                points += 1;
            }
            number += 1;
            // A nearly full ring may have no free slot that further numbers hit.
            if number > size * 16 {
                break;
            }
        }
    }
    ring
}
