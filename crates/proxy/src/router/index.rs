//! Finds the entries that a request may match without looking at the others.
//!
//! Host first ([`super::Router`] keeps one [`PathTree`] for each host), then the path by a radix tree in which a regex stands
//! under its literal prefix, then, among routes of one host and path, one header, the SNI or the method. What the way to an
//! entry does not prove is checked on the entry itself, and every list is sorted so that the first match ends the search.

use std::sync::Arc;

use portcullis_wire::Headers;

use super::Route;
use super::condition::{Asked, Notes};
use super::order::Rank;
use super::route::{NamePattern, PathOf, PathPattern, Span, fold_name, same_name};
use super::shards::Shards;
use super::tree::Tree;

/// The entries of one host by path.
pub(super) type PathTree = Tree<Leaf>;

/// Name and value of a header as one key; longer ones are not indexed (no route has a header value of this size in practice).
const LONGEST_HEADER: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) rank: Rank,
    pub(super) path: PathOf,
    /// The way to this entry does not prove that the route takes the host.
    pub(super) check_host: bool,
    /// The port that the host must have beside: the way here was a host with a port, of the `traditional` flavour.
    pub(super) host_port: Option<u16>,
}

impl Entry {
    /// What part of the path the entry matched, if it takes the request; none within for a route without paths.
    fn takes(&self, asked: Asked<'_>) -> Option<Option<Span>> {
        let route = &self.path.route;
        let Asked { query, path, host, protocol, without_snis } = asked;
        if !route.takes_protocol(protocol) || (without_snis && !route.snis.is_empty()) {
            return None;
        }
        if let Some(expressed) = &route.expression {
            let mut notes = Notes::default();
            return expressed.condition.holds(asked, &mut notes).then_some(notes.path);
        }
        if self.host_port.is_some_and(|port| port != host.port) {
            return None;
        }
        if (self.check_host && !route.takes_host(host))
            || !route.takes_method(query.method)
            || !route.takes_headers(query.headers)
            || !route.takes_sni(query)
        {
            return None;
        }
        match self.path.pattern() {
            None => Some(None),
            // The tree has proved it.
            Some(PathPattern::Prefix(prefix)) => Some(Some(Span::front(prefix.len()))),
            Some(regex) => regex.matched(path).map(Some),
        }
    }
}

/// The best entry found so far.
pub(super) struct Search<'a, 'q> {
    pub(super) asked: Asked<'q>,
    pub(super) best: Option<(&'a Entry, Option<Span>)>,
}

impl<'a> Search<'a, '_> {
    fn try_all(&mut self, entries: &'a [Entry]) {
        for entry in entries {
            if self.best.is_some_and(|(best, _)| best.rank >= entry.rank) {
                return;
            }
            if let Some(matched) = entry.takes(self.asked) {
                self.best = Some((entry, matched));
                return;
            }
        }
    }

    pub(super) fn try_tree(&mut self, tree: &'a PathTree) {
        tree.walk(self.asked.path.as_bytes(), |leaf| leaf.search(self));
    }
}

/// Entries of one host and one path prefix, greatest rank first in every list.
#[derive(Clone, Default)]
pub(super) struct Leaf {
    /// Entries that no table below can tell apart.
    plain: Vec<Entry>,
    by_header: Shards<Arc<Vec<Entry>>>,
    header_names: HeaderNames,
    by_sni: Shards<Arc<Vec<Entry>>>,
    /// The entries of `by_sni`: a plain-text request may match any of them.
    any_sni: Arc<Vec<Entry>>,
    by_method: Shards<Arc<Vec<Entry>>>,
}

/// The header names in use in a leaf, as long as there are few: a request's other headers need not be looked up then.
#[derive(Clone)]
enum HeaderNames {
    Few(Arc<Vec<Box<[u8]>>>),
    Many,
}

impl Default for HeaderNames {
    fn default() -> Self {
        Self::Few(Arc::default())
    }
}

impl HeaderNames {
    const FEW: usize = 8;

    fn may_contain(&self, name: &[u8]) -> bool {
        match self {
            Self::Few(names) => names.iter().any(|known| same_name(known, name)),
            Self::Many => true,
        }
    }

    /// Names are never forgotten: a stale one costs a look-up, no more.
    fn add(&mut self, name: &[u8]) {
        let Self::Few(names) = self else { return };
        if names.iter().any(|known| **known == *name) {
            return;
        }
        if names.len() == Self::FEW {
            *self = Self::Many;
        } else {
            Arc::make_mut(names).push(name.into());
        }
    }
}

/// The table of a [`Leaf`] that an entry belongs in.
enum Table<'r> {
    Plain,
    Header { name: &'r [u8], values: &'r [Box<[u8]>] },
    Sni,
    Method,
}

impl Leaf {
    fn search<'a>(&'a self, search: &mut Search<'a, '_>) {
        search.try_all(&self.plain);
        if !self.by_method.is_empty()
            && let Some(entries) = self.by_method.get(search.asked.query.method)
        {
            search.try_all(entries);
        }
        if !self.by_sni.is_empty() {
            match (search.asked.query.https, search.asked.query.sni) {
                (false, _) => search.try_all(&self.any_sni),
                (true, Some(sni)) => {
                    if let Some(entries) = self.by_sni.get(sni.as_bytes()) {
                        search.try_all(entries);
                    }
                }
                (true, None) => {}
            }
        }
        if !self.by_header.is_empty() {
            self.search_headers(search.asked.query.headers, search);
        }
    }

    fn search_headers<'a>(&'a self, headers: &Headers, search: &mut Search<'a, '_>) {
        for (name, value) in headers.iter() {
            if !self.header_names.may_contain(name) {
                continue;
            }
            let mut buffer = [0; LONGEST_HEADER];
            let Some(key) = header_key(&mut buffer, name, value) else { continue };
            if let Some(entries) = self.by_header.get(key) {
                search.try_all(entries);
            }
        }
    }

    /// The table in which the route is best told from its neighbours.
    fn table<'r>(&self, route: &'r Route) -> Table<'r> {
        if route.expression.is_some() {
            return Table::Plain;
        }
        let mut best: Option<(usize, Table<'r>)> = None;
        for header in route.headers.iter().filter(|header| header.is_exact()) {
            let mut buffer = [0; LONGEST_HEADER];
            let mut crowd = 0;
            let indexable = header.values.iter().all(|value| match header_key(&mut buffer, &header.name, value) {
                Some(key) => {
                    crowd += self.by_header.get(key).map_or(0, |entries| entries.len());
                    true
                }
                None => false,
            });
            if indexable && best.as_ref().is_none_or(|(least, _)| crowd < *least) {
                best = Some((crowd, Table::Header { name: &header.name, values: &header.values }));
            }
        }
        if let Some((_, table)) = best {
            return table;
        }
        if !route.snis.is_empty() && route.snis.iter().all(|sni| matches!(sni, NamePattern::Exact(_))) {
            return Table::Sni;
        }
        if !route.methods().is_empty() {
            return Table::Method;
        }
        Table::Plain
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let route = entry.path.route.clone();
        match self.table(&route) {
            Table::Plain => place(&mut self.plain, entry),
            Table::Header { name, values } => {
                for value in values {
                    let mut buffer = [0; LONGEST_HEADER];
                    let Some(key) = header_key(&mut buffer, name, value) else { continue };
                    place_in(&mut self.by_header, key, entry.clone());
                }
                self.header_names.add(name);
            }
            Table::Sni => {
                place(Arc::make_mut(&mut self.any_sni), entry.clone());
                for sni in &route.snis {
                    if let NamePattern::Exact(name) = sni {
                        place_in(&mut self.by_sni, name, entry.clone());
                    }
                }
            }
            Table::Method => {
                for method in route.methods() {
                    place_in(&mut self.by_method, method, entry.clone());
                }
            }
        }
    }

    /// Takes out the entry of this rank, wherever it was put.
    pub(super) fn remove(&mut self, route: &Route, rank: Rank) {
        take(&mut self.plain, rank);
        for header in route.headers.iter().filter(|header| header.is_exact()) {
            for value in &header.values {
                let mut buffer = [0; LONGEST_HEADER];
                let Some(key) = header_key(&mut buffer, &header.name, value) else { continue };
                take_from(&mut self.by_header, key, rank);
            }
        }
        if !self.any_sni.is_empty() && !route.snis.is_empty() {
            take(Arc::make_mut(&mut self.any_sni), rank);
            for sni in &route.snis {
                if let NamePattern::Exact(name) = sni {
                    take_from(&mut self.by_sni, name, rank);
                }
            }
        }
        if !self.by_method.is_empty() {
            for method in route.methods() {
                take_from(&mut self.by_method, method, rank);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.by_header.is_empty() && self.by_sni.is_empty() && self.by_method.is_empty()
    }
}

fn header_key<'b>(buffer: &'b mut [u8; LONGEST_HEADER], name: &[u8], value: &[u8]) -> Option<&'b [u8]> {
    let length = name.len() + 1 + value.len();
    let key = buffer.get_mut(..length)?;
    for (at, byte) in name.iter().enumerate() {
        key[at] = fold_name(*byte);
    }
    key[name.len()] = b':';
    key[name.len() + 1..].copy_from_slice(value);
    key[name.len() + 1..].make_ascii_lowercase();
    Some(key)
}

fn place(entries: &mut Vec<Entry>, entry: Entry) {
    // A name given twice leads to the same list twice.
    if let Err(at) = entries.binary_search_by(|other| entry.rank.cmp(&other.rank)) {
        entries.insert(at, entry);
    }
}

fn place_in(table: &mut Shards<Arc<Vec<Entry>>>, key: &[u8], entry: Entry) {
    table.edit(key, |entries| {
        place(Arc::make_mut(entries), entry);
        true
    });
}

fn take(entries: &mut Vec<Entry>, rank: Rank) {
    if let Ok(at) = entries.binary_search_by(|other| rank.cmp(&other.rank)) {
        entries.remove(at);
    }
}

fn take_from(table: &mut Shards<Arc<Vec<Entry>>>, key: &[u8], rank: Rank) {
    if table.get(key).is_some() {
        table.edit(key, |entries| {
            take(Arc::make_mut(entries), rank);
            !entries.is_empty()
        });
    }
}
