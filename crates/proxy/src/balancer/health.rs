//! The health of an upstream as `/upstreams/:upstream/health` tells it.

use serde_json::{Value, json};
use uuid::Uuid;

/// Weights of a target or of a whole upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    pub available: u64,
    pub total: u64,
    pub unavailable: u64,
}

/// One target with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    pub id: Uuid,
    pub host: String,
    pub port: u16,
    /// The target's own weight.
    pub weight: u32,
    /// `A`, `AAAA` or `SRV`; none if the name has no address.
    pub dns: Option<&'static str>,
    pub addresses: Vec<AddressHealth>,
    /// The upstream uses health checks, and this target has weight.
    pub checked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressHealth {
    pub ip: String,
    pub port: u16,
    pub weight: u32,
    pub healthy: bool,
}

/// An upstream with its targets, in the order they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHealth {
    pub id: Uuid,
    pub healthy: bool,
    pub checks_in_use: bool,
    pub targets: Vec<TargetHealth>,
}

impl Weights {
    fn json(self) -> Value {
        json!({ "available": self.available, "total": self.total, "unavailable": self.unavailable })
    }
}

impl TargetHealth {
    pub fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        for address in &self.addresses {
            let weight = u64::from(address.weight);
            weights.total += weight;
            *(if address.healthy { &mut weights.available } else { &mut weights.unavailable }) += weight;
        }
        weights
    }

    /// `HEALTHY`, `UNHEALTHY`, `DNS_ERROR` or `HEALTHCHECKS_OFF`.
    pub fn health(&self) -> &'static str {
        if self.addresses.is_empty() {
            "DNS_ERROR"
        } else if !self.checked {
            "HEALTHCHECKS_OFF"
        } else if self.addresses.iter().any(|address| address.healthy) {
            "HEALTHY"
        } else {
            "UNHEALTHY"
        }
    }

    /// What the report adds to the target under `data`.
    pub fn data(&self) -> Value {
        self.json(|address| {
            let health = match (self.checked, address.healthy) {
                (false, _) => "HEALTHCHECKS_OFF",
                (true, true) => "HEALTHY",
                (true, false) => "UNHEALTHY",
            };
            json!({ "ip": address.ip, "port": address.port, "weight": address.weight, "health": health })
        })
    }

    fn details(&self) -> Value {
        self.json(|address| json!({ "ip": address.ip, "port": address.port, "weight": address.weight, "healthy": address.healthy }))
    }

    fn json(&self, address: impl Fn(&AddressHealth) -> Value) -> Value {
        let addresses = match self.addresses.as_slice() {
            // Kong writes an empty list as an empty object.
            [] => json!({}),
            addresses => addresses.iter().map(address).collect(),
        };
        let mut data = json!({
            "addresses": addresses, "host": self.host, "nodeWeight": self.weight, "port": self.port, "weight": self.weights().json(),
        });
        if let Some(dns) = self.dns {
            data["dns"] = dns.into();
        }
        data
    }
}

impl UpstreamHealth {
    pub fn weights(&self) -> Weights {
        self.targets.iter().map(TargetHealth::weights).fold(Weights::default(), |sum, one| Weights {
            available: sum.available + one.available,
            total: sum.total + one.total,
            unavailable: sum.unavailable + one.unavailable,
        })
    }

    /// The answer's `data` under `?balancer_health=1`.
    pub fn data(&self) -> Value {
        let word = |healthy: bool| if healthy { "HEALTHY" } else { "UNHEALTHY" };
        let hosts: Value = match self.targets.as_slice() {
            [] => json!({}),
            targets => targets.iter().map(TargetHealth::details).collect(),
        };
        json!({
            "id": self.id,
            "balancer_health": word(self.healthy),
            "health": if self.checks_in_use { word(self.healthy) } else { "HEALTHCHECKS_OFF" },
            "details": { "healthy": self.healthy, "hosts": hosts, "weight": self.weights().json() },
        })
    }
}
