//! Which of several matching routes answers: one number a rule, the greater wins, equals fall to the greater id.
//!
//! Kong's default flavour packs number of condition kinds, plain hosts, headers, regex path, `regex_priority` and path length
//! into 64 bits. Three of these are shifted as 32-bit numbers there, so they land lower than meant: a route of plain hosts goes
//! before any that is not, a regex path before any plain path, and only among equals of both do the others count. Recorded
//! cases pin this.

use uuid::Uuid;

/// The namespace under which Kong derives an id for each group of a route's paths (RFC 9562 version 5).
const PATH_GROUPS: Uuid = Uuid::from_u128(0x7f145bf9_0dce_4f91_98eb_debbce4b9f6b);

const PLAIN_HOSTS: u64 = 1 << 60;
const REGEX_PATH: u64 = 1 << 51;
const MOST_HEADERS: usize = 255;
/// What became of four or more kinds of conditions, which as a signed number of 32 bits is negative.
const NEGATIVE: u64 = 1 << 63;

/// What the order of a rule depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    /// How many of methods, hosts, headers, snis and paths the route limits.
    pub(super) kinds: u32,
    /// The route has a list of hosts and no wildcard in it.
    pub(super) plain_hosts: bool,
    pub(super) headers: usize,
    pub(super) regex_path: bool,
    /// Counts for regex paths only.
    pub(super) regex_priority: i64,
    /// In bytes; zero for regex paths.
    pub(super) path_length: usize,
    /// Which kinds those are, as the `traditional` flavour numbers them.
    pub(super) bits: u32,
    /// A host has a wildcard and a port.
    pub(super) wildcard_port: bool,
}

impl Weight {
    pub(super) fn priority(self) -> u64 {
        let kinds = self.kinds << 29;
        let headers = (self.headers.min(MOST_HEADERS) as u32) << 20;
        let length = (self.path_length & 0x7FFFF) as u32;
        if !self.plain_hosts && !self.regex_path {
            return widened(kinds | headers | length);
        }
        let regex_priority = if self.regex_path { (self.regex_priority as u32) << 19 } else { 0 };
        widened(kinds)
            | widened(headers)
            | widened(regex_priority)
            | u64::from(length)
            | if self.plain_hosts { PLAIN_HOSTS } else { 0 }
            | if self.regex_path { REGEX_PATH } else { 0 }
    }
}

/// A signed 32-bit number on its way into Kong's router, which takes unsigned ones of 64 bits: negative ones saturate.
fn widened(number: u32) -> u64 {
    if number >> 31 == 1 { NEGATIVE } else { number.into() }
}

/// What the kind of host by which a route of the `traditional` flavour was found adds to its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostClass {
    Wildcard = 0,
    Plain = 1,
    PlainWithPort = 2,
}

impl HostClass {
    pub(super) fn added(self) -> u64 {
        (self as u64) << 52
    }
}

impl Weight {
    /// The order of the `traditional` flavour: how many kinds of conditions, which (hosts, headers, paths, methods, SNIs), how
    /// exactly the host was named, wildcards with ports, plain hosts only, regex path, headers, then `regex_priority` or length.
    pub(super) fn traditional_priority(self) -> u64 {
        let exactness = u64::from(self.wildcard_port) << 2 | u64::from(self.plain_hosts) << 1 | u64::from(self.regex_path);
        let last = if self.regex_path {
            let regex_priority = self.regex_priority.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            (regex_priority - i64::from(i32::MIN)) as u64
        } else {
            self.path_length.min(1 << 20) as u64
        };
        u64::from(self.kinds.min(7)) << 61
            | u64::from(self.bits & 0x7F) << 54
            | exactness << 49
            | (self.headers.min(MOST_HEADERS) as u64) << 41
            | last
    }
}

/// What tells equals of the `traditional` flavour apart: the older goes first.
pub(super) fn age(created_at: Option<i64>, id: u128) -> u128 {
    const ID_BITS: u32 = 88;
    let created_at = created_at.unwrap_or(0).clamp(0, (1 << 40) - 1) as u128;
    (((1 << 40) - 1 - created_at) << ID_BITS) | (!id & ((1 << ID_BITS) - 1))
}

/// The priority of a route with an expression: before every route without.
pub(super) fn expressed(priority: u64) -> u64 {
    0xFF << 56 | priority
}

/// Where a rule stands among those that match. Greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) priority: u64,
    pub(super) id: u128,
    /// Within one group of paths the first that matches is taken.
    pub(super) path: std::cmp::Reverse<u32>,
}

/// The id by which a group of paths of a route competes: the route's own where there is one group, else one derived from the
/// group's number, which counts from one in the order of the groups' first paths.
pub(super) fn group_id(route: Uuid, groups: usize, number: usize) -> u128 {
    if groups <= 1 {
        return route.as_u128();
    }
    Uuid::new_v5(&PATH_GROUPS, format!("{route}#{number}").as_bytes()).as_u128()
}

/// The paths of a route that share a priority: all regexes, or all plain paths of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathGroup {
    Regex,
    Length(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(kinds: u32) -> Weight {
        Weight { kinds, ..Weight::default() }
    }

    #[test]
    fn plain_hosts_go_before_everything_of_up_to_three_kinds() {
        let hosts = Weight { plain_hosts: true, ..weight(1) };
        let regex = Weight { regex_path: true, headers: 200, ..weight(3) };
        assert!(hosts.priority() > regex.priority());
        assert!(regex.priority() > Weight { path_length: 500, ..weight(3) }.priority());
    }

    #[test]
    fn kinds_go_before_headers_and_headers_before_length() {
        assert!(weight(2).priority() > Weight { headers: 255, ..weight(1) }.priority());
        assert!(Weight { headers: 2, ..weight(2) }.priority() > Weight { headers: 1, path_length: 4000, ..weight(2) }.priority());
    }

    #[test]
    fn four_kinds_without_plain_hosts_or_regex_are_all_equal() {
        let one = Weight { headers: 1, path_length: 3, ..weight(4) };
        let other = Weight { headers: 9, path_length: 30, ..weight(5) };
        assert_eq!(one.priority(), other.priority());
        assert!(one.priority() > Weight { plain_hosts: true, ..weight(3) }.priority());
    }

    #[test]
    fn numbers_come_out_as_kong_packs_them() {
        let regex = Weight { headers: 1, regex_path: true, ..weight(4) };
        assert_eq!(regex.priority(), 0x8008_0000_0010_0000);
        let plain = Weight { headers: 1, path_length: 3, plain_hosts: true, ..weight(4) };
        assert_eq!(plain.priority(), 0x9000_0000_0010_0003);
        let both = Weight { headers: 1, plain_hosts: true, regex_path: true, ..weight(3) };
        assert_eq!(both.priority(), 0x1008_0000_6010_0000);
        assert_eq!(Weight { headers: 2, path_length: 30, ..weight(5) }.priority(), NEGATIVE);
    }

    #[test]
    fn groups_of_paths_have_ids_of_their_own() {
        let route = Uuid::from_u128(0x17362f25_0000_4000_8000_000000000001);
        assert_eq!(group_id(route, 1, 1), route.as_u128());
        assert_eq!(group_id(route, 2, 1), 0x194798c3_877a_5e20_b2b3_3076d65c18f7);
        assert_eq!(group_id(route, 2, 2), 0xdda3a67a_1841_59c6_a7f4_3c4216981a3a);
    }

    #[test]
    fn a_large_regex_priority_outweighs_a_kind() {
        let large = Weight { regex_path: true, regex_priority: 4000, ..weight(1) };
        assert!(large.priority() > Weight { regex_path: true, ..weight(2) }.priority());
    }
}
