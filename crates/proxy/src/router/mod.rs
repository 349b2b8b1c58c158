//! Finds the route for a request.
//!
//! [`Router::find`] is pure: it reads a compiled table and the request, nothing else. It takes the matching route of the
//! greatest rank, which `order.rs` states as one number. Neither a look-up nor a change grows with the number of routes:
//! `index.rs` goes straight to the few candidates, and a changed router shares all other parts with the one before.
//!
//! - `route.rs`: what a route asks for, compiled, and the check of one route against one request
//! - `order.rs`: Kong's precedence
//! - `index.rs`: host, then path, then header, SNI or method; `prefixes.rs` and `shards.rs` carry it
//! - `condition.rs`: routes of the `expressions` flavour; `pattern.rs`: the regexes of the others
//! - `stream.rs`: routes of TCP and UDP connections
//! - `path.rs`: normalising a request's path before, joining it with the service's path after
//! - `reference.rs` (tests): the rules once more without any index

mod condition;
mod index;
mod order;
pub mod path;
mod pattern;
mod prefixes;
#[cfg(test)]
mod reference;
mod route;
mod shards;
pub mod stream;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_wire::Headers;
use uuid::Uuid;

use condition::Asked;
use index::{Entry, PathTable, Search};
use order::{HostClass, Rank};
use route::{Expressed, HostPattern, NamePattern, PathOf, Span, split_host};
pub use route::{InvalidRoute, Protocols, Route};
use shards::Shards;
use stream::StreamTable;

/// A route of so many hosts times paths is not found by its hosts any more, only by its paths.
const MOST_PLACES: usize = 20_000;

/// What a request is matched by.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub method: &'a [u8],
    /// In normal form, see [`path::normalise`].
    pub path: &'a [u8],
    /// The Host header as sent.
    pub host: &'a [u8],
    pub https: bool,
    pub sni: Option<&'a str>,
    /// The listener's port, for routes that name a port while the Host header has none.
    pub port: u16,
    pub headers: &'a Headers,
    /// The query string, for routes of the `expressions` flavour.
    pub arguments: Option<&'a [u8]>,
    pub client: Client,
}

/// The two ends of a connection, for routes of the `expressions` flavour.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    /// None on unix sockets.
    pub source: Option<IpAddr>,
    pub source_port: u16,
    /// Our own address.
    pub destination: Option<IpAddr>,
}

/// The route that answers a request.
#[derive(Debug)]
pub struct Match<'a> {
    pub route: &'a Arc<Route>,
    /// How many bytes are cut off the normalised path's front when the route cuts: as many as matched; none if the route has no
    /// paths.
    pub prefix_len: Option<usize>,
    /// Where in the path the matching text begins: further on for some regexes and for ends of paths.
    pub prefix_start: usize,
    /// What the groups of a regex path caught; none if it has no groups.
    pub captures: Option<Box<Captures>>,
}

/// What the groups of a regex path caught.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    /// By number; the first is the whole match.
    pub groups: Vec<Capture>,
}

/// One group of a regex path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    pub name: Option<Box<str>>,
    /// None if the group took no part in the match.
    pub value: Option<Box<str>>,
}

impl Captures {
    /// The value of a group by its name or number, as `hash_on_uri_capture` and request templates name it.
    pub fn get(&self, group: &str) -> Option<&str> {
        let named = self.groups.iter().find(|capture| capture.name.as_deref() == Some(group));
        let capture = named.or_else(|| self.groups.get(group.parse::<usize>().ok()?))?;
        capture.value.as_deref()
    }
}

/// All routes, compiled. Clones share everything; a change copies what lies on its way.
#[derive(Clone, Default)]
pub struct Router {
    routes: Shards<Arc<Route>>,
    by_host: Shards<PathTable>,
    /// `*.b` under `.b`.
    by_host_suffix: Shards<PathTable>,
    /// `a.*` under `a.`.
    by_host_prefix: Shards<PathTable>,
    any_host: PathTable,
    /// The longest key there ever was in `by_host_suffix` and `by_host_prefix`: longer parts of a host need no look-up.
    longest_wildcard: usize,
    streams: StreamTable,
    /// There is a route of the `traditional` flavour with server names, see [`Router::find`].
    spares_snis: bool,
    /// There is a route of the `traditional` flavour, so all are.
    traditional: bool,
}

impl Query<'_> {
    /// The port of a host that names none: the listener's, in the `traditional` flavour the protocol's.
    fn port_of_host(&self, traditional: bool) -> u16 {
        match (traditional, self.https) {
            (false, _) => self.port,
            (true, true) => 443,
            (true, false) => 80,
        }
    }
}

impl Router {
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub fn get(&self, id: Uuid) -> Option<&Arc<Route>> {
        self.routes.get(id.as_bytes())
    }

    /// All routes, in no order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// Adds a route, in place of the one with its id if there is one.
    pub fn insert(&mut self, route: Arc<Route>) {
        self.remove(route.id);
        if route.protocols.any_stream() {
            self.streams.insert(route.clone());
        }
        self.traditional |= route.traditional;
        self.spares_snis |= route.traditional && !route.snis.is_empty();
        self.for_each_place(&route, |tree, literal, entry| {
            tree.edit(literal, |leaf| {
                leaf.insert(entry);
                true
            });
        });
        let id = route.id;
        self.routes.insert(id.as_bytes(), route);
    }

    /// Takes a route out; says whether it was there.
    pub fn remove(&mut self, id: Uuid) -> bool {
        let Some(route) = self.routes.remove(id.as_bytes()) else { return false };
        if route.protocols.any_stream() {
            self.streams.remove(id);
        }
        self.for_each_place(&route, |tree, literal, entry| {
            tree.edit(literal, |leaf| {
                leaf.remove(&route, entry.rank);
                !leaf.is_empty()
            });
        });
        true
    }

    /// The matching route of the greatest rank. Paths that are not UTF-8 match nothing, as in Kong.
    pub fn find(&self, query: &Query<'_>) -> Option<Match<'_>> {
        let path = std::str::from_utf8(query.path).ok()?;
        let host = split_host(query.host, query.port_of_host(self.traditional));
        let protocol = if query.https { "https" } else { "http" };
        // In the `traditional` flavour a plain request gets to routes with server names only when no other takes it.
        let asked = Asked { query, path, host, protocol, without_snis: self.spares_snis && !query.https };
        let found = match self.best(asked) {
            None if asked.without_snis => self.best(Asked { without_snis: false, ..asked }),
            found => found,
        };
        let (entry, span) = found?;
        let route = &entry.path.route;
        let captures = match &route.expression {
            _ if !entry.may_capture() => None,
            Some(expressed) => expressed.condition.captures(asked),
            None => entry.path.pattern().and_then(|pattern| pattern.captures(path)),
        };
        // What was compared in lower case may have another length.
        let span = span.map(|Span { start, len }| Span { start: start.min(path.len()), len: len.min(path.len()) });
        Some(Match { route, prefix_len: span.map(|span| span.len), prefix_start: span.map_or(0, |span| span.start), captures })
    }

    fn best<'a>(&'a self, asked: Asked<'_>) -> Option<(&'a Entry, Option<Span>)> {
        let mut search = Search { asked, best: None };
        self.search_hosts(asked.host.host, &mut search);
        search.try_table(&self.any_host);
        search.best
    }

    fn search_hosts<'a>(&'a self, host: &[u8], search: &mut Search<'a, '_>) {
        if let Some(tree) = self.by_host.get(host) {
            search.try_table(tree);
        }
        if self.by_host_suffix.is_empty() && self.by_host_prefix.is_empty() {
            return;
        }
        for dot in memchr::memchr_iter(b'.', host) {
            if host.len() - dot <= self.longest_wildcard
                && let Some(tree) = self.by_host_suffix.get(&host[dot..])
            {
                search.try_table(tree);
            }
            if dot < self.longest_wildcard
                && let Some(tree) = self.by_host_prefix.get(&host[..=dot])
            {
                search.try_table(tree);
            }
        }
    }

    /// Calls `edit` with every tree and path under which the route is to be found, and the entry to be found there.
    fn for_each_place(&mut self, route: &Arc<Route>, mut edit: impl FnMut(&mut PathTable, &[u8], Entry)) {
        if !route.protocols.any_http() {
            return;
        }
        if let Some(expressed) = &route.expression {
            return self.for_each_place_of(route, expressed, edit);
        }
        let paths: usize = route.rules.iter().map(|rule| rule.paths.len().max(1)).sum();
        let by_host = !route.hosts().is_empty() && paths * route.hosts().len() <= MOST_PLACES;
        for (rule_at, rule) in route.rules.iter().enumerate() {
            for path_at in 0..rule.paths.len().max(1) {
                let rank = Rank { priority: rule.priority, id: rule.id, path: Reverse(path_at as u32) };
                let path = PathOf { route: route.clone(), rule: rule_at as u32, path: path_at as u32 };
                let mut entry = Entry::new(rank, path, route.host_ports || (!by_host && !route.hosts().is_empty()));
                let literal = rule.paths.get(path_at).map_or(&b""[..], |path| path.literal());
                if !by_host {
                    edit(&mut self.any_host, literal, entry);
                    continue;
                }
                for host in route.hosts() {
                    if route.traditional {
                        entry.rank.priority = rule.priority | class_of(host).added();
                        // Of two hosts of one name with different ports each is an entry of its own.
                        entry.host_port = host.port;
                        entry.rank.path = Reverse(path_at as u32 | u32::from(host.port.unwrap_or(0)) << 16);
                    }
                    self.at_host(&host.name, |tree| edit(tree, literal, entry.clone()));
                }
            }
        }
    }

    /// The places of a route with an expression: under each of the hosts and beginnings of paths it cannot do without.
    fn for_each_place_of(&mut self, route: &Arc<Route>, expressed: &Expressed, mut edit: impl FnMut(&mut PathTable, &[u8], Entry)) {
        let Some(rule) = route.rules.first() else { return };
        let by_host = !expressed.hosts.is_empty() && expressed.hosts.len() * expressed.literals.len() <= MOST_PLACES;
        for literal in &expressed.literals {
            let rank = Rank { priority: rule.priority, id: rule.id, path: Reverse(0) };
            let entry = Entry::new(rank, PathOf { route: route.clone(), rule: 0, path: 0 }, false);
            if !by_host {
                edit(&mut self.any_host, literal, entry);
                continue;
            }
            for host in &expressed.hosts {
                self.at_host(host, |tree| edit(tree, literal, entry.clone()));
            }
        }
    }

    fn at_host(&mut self, name: &NamePattern, edit: impl FnOnce(&mut PathTable)) {
        let (trees, key) = match name {
            NamePattern::Exact(name) => (&mut self.by_host, name),
            NamePattern::Suffix(name) => (&mut self.by_host_suffix, name),
            NamePattern::Prefix(name) => (&mut self.by_host_prefix, name),
        };
        if !matches!(name, NamePattern::Exact(_)) {
            self.longest_wildcard = self.longest_wildcard.max(key.len());
        }
        trees.edit(key, |tree| {
            edit(tree);
            !tree.is_empty()
        });
    }
}

fn class_of(host: &HostPattern) -> HostClass {
    match (&host.name, host.port) {
        (NamePattern::Exact(_), Some(_)) => HostClass::PlainWithPort,
        (NamePattern::Exact(_), None) => HostClass::Plain,
        _ => HostClass::Wildcard,
    }
}
