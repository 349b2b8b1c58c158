//! The hosts file: names that never reach DNS.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::{Answer, Kind};

/// Lower-case names and their addresses in the order of the file.
pub(super) type Hosts = HashMap<Box<str>, Vec<IpAddr>>;

/// Reads the file; one that is missing or unreadable counts as empty. `localhost` is always known.
pub(super) fn read(path: &Path) -> Hosts {
    let text = std::fs::read(path).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %path.display(), "hosts file not read");
        Vec::new()
    });
    parse(&String::from_utf8_lossy(&text))
}

/// The addresses of the first kind in `order` that a name has.
pub(super) fn answer(addresses: &[IpAddr], order: &[Kind]) -> Option<Answer> {
    order.iter().find_map(|kind| {
        let of_kind = |ip: &&IpAddr| match kind {
            Kind::A => ip.is_ipv4(),
            Kind::Aaaa => ip.is_ipv6(),
            _ => false,
        };
        let found: Vec<IpAddr> = addresses.iter().filter(of_kind).copied().collect();
        (!found.is_empty()).then(|| Answer::fixed(found, *kind))
    })
}

fn parse(text: &str) -> Hosts {
    let mut hosts = Hosts::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            let addresses = hosts.entry(name.to_ascii_lowercase().into()).or_default();
            // As in Kong the first line of a name and family counts.
            if !addresses.iter().any(|known| known.is_ipv4() == address.is_ipv4()) {
                addresses.push(address);
            }
        }
    }
    let local = hosts.entry("localhost".into()).or_default();
    if !local.iter().any(IpAddr::is_ipv4) {
        local.push(Ipv4Addr::LOCALHOST.into());
    }
    if !local.iter().any(IpAddr::is_ipv6) {
        local.push(Ipv6Addr::LOCALHOST.into());
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_comments_are_read_and_localhost_is_always_there() {
        let hosts = parse("10.0.0.1 One.test two.test # not.this\n#10.0.0.2 three.test\nbroken four.test\n10.0.0.9 two.test\n");
        assert_eq!(hosts["one.test"], [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(hosts["two.test"], [IpAddr::from([10, 0, 0, 1])]);
        assert!(!hosts.contains_key("three.test") && !hosts.contains_key("four.test"));
        assert_eq!(hosts["localhost"][0], IpAddr::from([127, 0, 0, 1]));
    }
}
