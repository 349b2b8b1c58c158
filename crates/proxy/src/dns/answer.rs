//! What is known about a name.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A kind of record, as `dns_order` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whatever answered last time.
    Last,
    Srv,
    A,
    Aaaa,
    Cname,
}

impl Kind {
    /// As `dns_order` and the health report write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "LAST",
            Self::Srv => "SRV",
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
        }
    }

    /// Reads one word of `dns_order`, in any case.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Last, Self::Srv, Self::A, Self::Aaaa, Self::Cname].into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(word))
    }
}

/// Where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    /// From an SRV record; goes before the port of the service or target.
    pub port: Option<u16>,
    /// From an SRV record (0 counts as 1), else 1.
    pub weight: u16,
}

/// The addresses of a name: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: Kind,
    /// For SRV those of the highest priority only.
    pub addresses: Arc<[Address]>,
    pub ttl: Duration,
    /// The name that each address was found under, where SRV records led there; else empty.
    pub names: Arc<[Arc<str>]>,
    /// A literal address or one of the hosts file.
    pub(super) is_fixed: bool,
}

impl Answer {
    pub(super) fn new(kind: Kind, addresses: Vec<Address>, ttl: Duration) -> Self {
        Self { kind, addresses: addresses.into(), ttl, names: Arc::default(), is_fixed: false }
    }

    /// Of SRV records: each address with the name that its record gives.
    pub(super) fn of_services(found: Vec<(Address, Arc<str>)>, ttl: Duration) -> Self {
        let (addresses, names): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        Self { names: names.into(), ..Self::new(Kind::Srv, addresses, ttl) }
    }

    /// What never changes: a literal address.
    pub(super) fn literal(ip: IpAddr) -> Self {
        Self::fixed(vec![ip], if ip.is_ipv4() { Kind::A } else { Kind::Aaaa })
    }

    pub(super) fn fixed(addresses: Vec<IpAddr>, kind: Kind) -> Self {
        const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
        let addresses = addresses.into_iter().map(|ip| Address { ip, port: None, weight: 1 }).collect();
        Self { is_fixed: true, ..Self::new(kind, addresses, TEN_YEARS) }
    }

    /// The address whose turn it is: in turn if all weigh the same, else by weight. The caller counts.
    pub fn pick(&self, turn: usize) -> Address {
        let total: usize = self.addresses.iter().map(|address| usize::from(address.weight)).sum();
        let equal = self.addresses.iter().all(|address| address.weight == self.addresses[0].weight);
        if equal {
            return self.addresses[turn % self.addresses.len()];
        }
        // A fixed step that shares no factor with most totals spreads the heavier ones between the others.
        let mut at = turn.wrapping_mul(0x9E37_79B9) % total;
        for address in self.addresses.iter() {
            match at.checked_sub(usize::from(address.weight)) {
                Some(rest) => at = rest,
                None => return *address,
            }
        }
        self.addresses[0]
    }
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DnsError {
    text: Arc<str>,
    not_found: bool,
}

impl DnsError {
    pub(super) fn name_error() -> Self {
        Self { text: "dns server error: 3 name error".into(), not_found: true }
    }

    pub(super) fn empty() -> Self {
        Self { text: "dns client error: 101 empty record received".into(), not_found: true }
    }

    pub(super) fn failed(text: &str) -> Self {
        Self { text: text.into(), not_found: false }
    }

    /// The name does not exist or has no address; anything else is a failure to find out.
    pub fn is_not_found(&self) -> bool {
        self.not_found
    }

    /// Status and message of the answer to the client.
    pub fn answer(&self) -> (u16, &str) {
        if self.not_found { (503, "name resolution failed") } else { (500, &self.text) }
    }
}
