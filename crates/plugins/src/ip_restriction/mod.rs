//! ip-restriction: lets requests in, or keeps them out, by the client's address.
//!
//! The address is the client's after `trusted_ips` had their say. A denied address stays out even if it is also allowed.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use portcullis_plugin::{Answer, Env, Error, Handler, Instance, Phases, Plugin, Protocols, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Fields};
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Addresses and networks that may pass; everybody else is refused.
    #[field(array(ip_or_cidr()))]
    pub allow: Option<Vec<String>>,
    /// Addresses and networks that are refused.
    #[field(array(ip_or_cidr()))]
    pub deny: Option<Vec<String>>,
    /// The status of a refusal; 403 if not given.
    #[field(number().shown("required", false))]
    pub status: Option<f64>,
    /// The message of a refusal; names the address if not given.
    #[field(string().shown("required", false))]
    pub message: Option<String>,
}

/// See the module's description.
pub struct IpRestriction {
    allow: Addresses,
    deny: Addresses,
    status: u16,
    message: Option<String>,
}

/// A list of addresses and networks: single addresses cost one hash however many there are.
#[derive(Default)]
struct Addresses {
    single: HashSet<IpAddr>,
    networks: Vec<IpNet>,
}

impl Addresses {
    fn parse(entries: Option<Vec<String>>) -> Result<Self> {
        let mut addresses = Self::default();
        for entry in entries.unwrap_or_default() {
            let invalid = || Error::from(format!("invalid ip or cidr range: '{entry}'"));
            let Some((address, bits)) = entry.split_once('/') else {
                addresses.single.insert(entry.parse::<IpAddr>().map_err(|_| invalid())?);
                continue;
            };
            let (Ok(address), Ok(bits)) = (address.parse(), bits.parse()) else { return Err(invalid()) };
            addresses.networks.push(IpNet::new(address, bits).map_err(|_| invalid())?.trunc());
        }
        Ok(addresses)
    }

    fn is_empty(&self) -> bool {
        self.single.is_empty() && self.networks.is_empty()
    }

    fn contain(&self, address: &IpAddr) -> bool {
        self.single.contains(address) || self.networks.iter().any(|network| network.contains(address))
    }
}

impl Plugin for IpRestriction {
    const NAME: &'static str = "ip-restriction";
    const PRIORITY: i32 = 990;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes { protocols: Protocols::AnyDefault(&["http", "https", "tcp", "tls", "grpc", "grpcs"]), ..Scopes::ANY };
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        // A status that no response can have must not let anybody in.
        let status = config.status.filter(|status| (200.0..600.0).contains(status)).map_or(403, |status| status as u16);
        Ok(Self { allow: Addresses::parse(config.allow)?, deny: Addresses::parse(config.deny)?, status, message: config.message })
    }

    fn checks() -> Vec<Check> {
        vec![Check::AtLeastOneOf(vec!["config.allow", "config.deny"])]
    }
}

impl Handler for IpRestriction {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let Some(address) = request.client.forwarded_ip else {
            return Step::answer(Answer::error(403, "Cannot identify the client IP address, unix domain sockets are not supported."));
        };
        // IPv4 clients of a dual-stack listener come as mapped IPv6 addresses.
        let address = address.to_canonical();
        if !self.deny.contain(&address) && (self.allow.is_empty() || self.allow.contain(&address)) {
            return Step::Next;
        }
        let message = self.message.clone().unwrap_or_else(|| format!("IP address not allowed: {address}"));
        Step::answer(Answer::error(self.status, message))
    }
}

#[cfg(test)]
mod tests;
