//! Finds the entries that a request may match without looking at the others.
//!
//! Host first ([`super::Router`] keeps one [`PathTable`] for each host), then the path by a table of prefixes in which a regex
//! stands under its literal prefix, then, among routes of one host and path, one header, the SNI or the method. What the way to an
//! entry does not prove is checked on the entry itself, and every list is sorted so that the first match ends the search.

use std::sync::Arc;

use portcullis_wire::Headers;
use smallvec::SmallVec;

use super::Route;
use super::condition::{Asked, Notes};
use super::order::Rank;
use super::prefixes::Prefixes;
use super::route::{NamePattern, PathOf, PathPattern, Span, fold_name, same_name};
use super::shards::Shards;

/// The entries of one host by path.
pub(super) type PathTable = Prefixes<Leaf>;

/// Greatest rank first.
type Entries = SmallVec<[Entry; 1]>;

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
    shortcut: Shortcut,
}

/// What a route without any condition left to check takes. Most routes are so, and then the match reads nothing but its entry:
/// among 100,000 routes every further record is a cache miss.
#[derive(Clone, Copy, Debug)]
enum Shortcut {
    None,
    AnyPath,
    /// So many bytes of the path.
    Prefix(u32),
}

impl Entry {
    pub(super) fn new(rank: Rank, path: PathOf, check_host: bool) -> Self {
        let mut entry = Self { rank, path, check_host, host_port: None, shortcut: Shortcut::None };
        if !check_host && entry.path.route.is_unconditional() {
            entry.shortcut = match entry.path.pattern() {
                None => Shortcut::AnyPath,
                Some(PathPattern::Prefix(prefix)) => Shortcut::Prefix(prefix.len() as u32),
                Some(PathPattern::Regex(_)) => Shortcut::None,
            };
        }
        entry
    }

    /// Whether the match can have caught anything.
    pub(super) fn may_capture(&self) -> bool {
        matches!(self.shortcut, Shortcut::None)
    }

    /// What part of the path the entry matched, if it takes the request; none within for a route without paths.
    fn takes(&self, asked: Asked<'_>) -> Option<Option<Span>> {
        if self.host_port.is_none() {
            match self.shortcut {
                Shortcut::None => {}
                Shortcut::AnyPath => return Some(None),
                // The way here has proved it.
                Shortcut::Prefix(length) => return Some(Some(Span::front(length as usize))),
            }
        }
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
            // The way here has proved it.
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

    pub(super) fn try_table(&mut self, table: &'a PathTable) {
        table.walk(self.asked.path.as_bytes(), |leaf| leaf.search(self));
    }
}

/// Entries of one host and one path prefix, greatest rank first in every list.
#[derive(Clone, Default)]
pub(super) struct Leaf {
    /// Entries that no table can tell apart.
    plain: Entries,
    tables: Option<Box<Tables>>,
}

/// Entries of one host and path by what else they ask for.
#[derive(Clone, Default)]
struct Tables {
    by_header: Shards<Arc<Entries>>,
    header_names: HeaderNames,
    by_sni: Shards<Arc<Entries>>,
    /// The entries of `by_sni`: a plain-text request may match any of them.
    any_sni: Arc<Entries>,
    by_method: Shards<Arc<Entries>>,
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

impl Tables {
    fn search<'a>(&'a self, search: &mut Search<'a, '_>) {
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

    fn is_empty(&self) -> bool {
        self.by_header.is_empty() && self.by_sni.is_empty() && self.by_method.is_empty()
    }
}

impl Leaf {
    fn search<'a>(&'a self, search: &mut Search<'a, '_>) {
        search.try_all(&self.plain);
        if let Some(tables) = &self.tables {
            tables.search(search);
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
                    let known = self.tables.as_ref().and_then(|tables| tables.by_header.get(key));
                    crowd += known.map_or(0, |entries| entries.len());
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
        let table = self.table(&route);
        if matches!(table, Table::Plain) {
            return place(&mut self.plain, entry);
        }
        let tables = self.tables.get_or_insert_default();
        match table {
            Table::Plain => {}
            Table::Header { name, values } => {
                for value in values {
                    let mut buffer = [0; LONGEST_HEADER];
                    let Some(key) = header_key(&mut buffer, name, value) else { continue };
                    place_in(&mut tables.by_header, key, entry.clone());
                }
                tables.header_names.add(name);
            }
            Table::Sni => {
                place(Arc::make_mut(&mut tables.any_sni), entry.clone());
                for sni in &route.snis {
                    if let NamePattern::Exact(name) = sni {
                        place_in(&mut tables.by_sni, name, entry.clone());
                    }
                }
            }
            Table::Method => {
                for method in route.methods() {
                    place_in(&mut tables.by_method, method, entry.clone());
                }
            }
        }
    }

    /// Takes out the entry of this rank, wherever it was put.
    pub(super) fn remove(&mut self, route: &Route, rank: Rank) {
        take(&mut self.plain, rank);
        let Some(tables) = &mut self.tables else { return };
        for header in route.headers.iter().filter(|header| header.is_exact()) {
            for value in &header.values {
                let mut buffer = [0; LONGEST_HEADER];
                let Some(key) = header_key(&mut buffer, &header.name, value) else { continue };
                take_from(&mut tables.by_header, key, rank);
            }
        }
        if !tables.any_sni.is_empty() && !route.snis.is_empty() {
            take(Arc::make_mut(&mut tables.any_sni), rank);
            for sni in &route.snis {
                if let NamePattern::Exact(name) = sni {
                    take_from(&mut tables.by_sni, name, rank);
                }
            }
        }
        if !tables.by_method.is_empty() {
            for method in route.methods() {
                take_from(&mut tables.by_method, method, rank);
            }
        }
        if tables.is_empty() {
            self.tables = None;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.tables.is_none()
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

fn place(entries: &mut Entries, entry: Entry) {
    // A name given twice leads to the same list twice.
    if let Err(at) = entries.binary_search_by(|other| entry.rank.cmp(&other.rank)) {
        entries.insert(at, entry);
    }
}

fn place_in(table: &mut Shards<Arc<Entries>>, key: &[u8], entry: Entry) {
    table.edit(key, |entries| {
        place(Arc::make_mut(entries), entry);
        true
    });
}

fn take(entries: &mut Entries, rank: Rank) {
    if let Ok(at) = entries.binary_search_by(|other| rank.cmp(&other.rank)) {
        entries.remove(at);
    }
}

fn take_from(table: &mut Shards<Arc<Entries>>, key: &[u8], rank: Rank) {
    if table.get(key).is_some() {
        table.edit(key, |entries| {
            take(Arc::make_mut(entries), rank);
            !entries.is_empty()
        });
    }
}
