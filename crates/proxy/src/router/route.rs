//! A route as the router knows it: what its owner asked for, and the rules compiled from that.
//!
//! A route with several paths behaves as several rules that differ in their paths only: one for all its regex paths, one for
//! each length of its plain ones. Each rule has a rank of its own.

use std::sync::Arc;

use portcullis_entities as entities;
use portcullis_entities::routes::{Flavor, PathHandling};
use portcullis_wire::Headers;
use portcullis_wire::headers::Line;
use uuid::Uuid;

use super::condition::Condition;
use super::order::{self, PathGroup, Weight, group_id};
use super::pattern::LazyRegex;
use super::stream::Ends;
use super::{Captures, Query};

/// Why a route cannot be compiled. It is left out of the router, as Kong does.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRoute {
    #[error("path {path}: {error}")]
    Path { path: String, error: Box<regex_syntax::Error> },
    #[error("header {name}: {error}")]
    Header { name: String, error: Box<regex_syntax::Error> },
    #[error("header {0} has no values")]
    NoValues(String),
    #[error("address {0} is none")]
    Address(String),
    #[error("expression: {0}")]
    Expression(String),
}

/// A compiled route: the entity, the conditions that all its rules share, and the rules.
#[derive(Debug)]
pub struct Route {
    pub id: Uuid,
    pub service: Option<Uuid>,
    pub entity: Arc<entities::Route>,
    pub protocols: Protocols,
    methods: Box<[Box<[u8]>]>,
    hosts: Box<[HostPattern]>,
    pub(super) headers: Box<[HeaderPattern]>,
    pub(super) snis: Box<[NamePattern]>,
    pub(super) rules: Box<[Rule]>,
    /// A host names a port, so finding the route by its host says nothing about the port yet.
    pub(super) host_ports: bool,
    /// In place of all the conditions above.
    pub(super) expression: Option<Expressed>,
    /// What `net.protocol` must be, where the flavour asks.
    pub(super) spoken: Option<Box<[&'static str]>>,
    /// Hosts count in Kong's `traditional` order.
    pub(super) traditional: bool,
    /// Paths are glued, not joined: `path_handling` v1, which only the `traditional` flavour heeds.
    pub glues_paths: bool,
    /// Conditions on the two ends of a stream connection.
    pub(super) sources: Box<[Ends]>,
    pub(super) destinations: Box<[Ends]>,
}

/// A compiled expression with what an index may find it by.
#[derive(Debug)]
pub(super) struct Expressed {
    pub(super) condition: Condition,
    /// Every path that it takes starts with one of these.
    pub(super) literals: Box<[Box<[u8]>]>,
    /// Every host that it takes is one of these; empty if that can't be told.
    pub(super) hosts: Box<[NamePattern]>,
}

impl Expressed {
    fn parse(text: &str, http: bool) -> Result<Self, InvalidRoute> {
        let condition = Condition::parse(text, http)?;
        let literals = condition.path_literals().unwrap_or_else(|| vec![Box::default()]);
        let hosts = condition.hosts().unwrap_or_default();
        Ok(Self { literals: literals.into(), hosts: hosts.into(), condition })
    }
}

/// The protocols a route is meant for. They take no part in matching: a plain-text request that matches a route for https
/// alone is told to upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocols(u8);

impl Protocols {
    const NAMES: [&str; 8] = ["http", "https", "grpc", "grpcs", "tcp", "tls", "udp", "tls_passthrough"];

    fn of(protocols: &[entities::services::Protocol]) -> Self {
        let bit = |name: &str| Self::NAMES.iter().position(|known| *known == name).map_or(0, |at| 1 << at);
        Self(protocols.iter().fold(0, |all, protocol| all | bit(protocol.as_str())))
    }

    pub fn http(self) -> bool {
        self.0 & 1 != 0
    }
    pub fn https(self) -> bool {
        self.0 & 2 != 0
    }
    pub fn grpc(self) -> bool {
        self.0 & 4 != 0
    }
    pub fn grpcs(self) -> bool {
        self.0 & 8 != 0
    }
    /// Whether the route belongs in an HTTP router at all, and not only in one for streams.
    pub fn any_http(self) -> bool {
        self.0 & 0x0F != 0
    }
    /// Plain TCP, or TLS in any form.
    pub fn any_tcp(self) -> bool {
        self.0 & 0xB0 != 0
    }
    pub fn tcp(self) -> bool {
        self.0 & 0x10 != 0
    }
    /// TLS that ends here.
    pub fn tls(self) -> bool {
        self.0 & 0x20 != 0
    }
    pub fn udp(self) -> bool {
        self.0 & 0x40 != 0
    }
    /// TLS that goes on to the upstream as it is.
    pub fn tls_passthrough(self) -> bool {
        self.0 & 0x80 != 0
    }
    pub fn any_stream(self) -> bool {
        self.0 & 0xF0 != 0
    }
}

/// One group of a route's paths with its place in the order.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) priority: u64,
    pub(super) id: u128,
    /// Empty when the route takes any path.
    pub(super) paths: Box<[PathPattern]>,
}

#[derive(Debug)]
pub(super) enum PathPattern {
    Prefix(Box<str>),
    Regex(LazyRegex),
}

/// A name with at most one wildcard label at either end.
#[derive(Debug)]
pub(super) enum NamePattern {
    Exact(Box<[u8]>),
    /// `*.b` as `.b`.
    Suffix(Box<[u8]>),
    /// `a.*` as `a.`.
    Prefix(Box<[u8]>),
}

impl NamePattern {
    fn of(text: &str) -> Self {
        if let Some(suffix) = text.strip_prefix('*') {
            return Self::Suffix(suffix.as_bytes().into());
        }
        if let Some(prefix) = text.strip_suffix('*') {
            return Self::Prefix(prefix.as_bytes().into());
        }
        Self::Exact(text.as_bytes().into())
    }

    pub(super) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(text) => **text == *name,
            Self::Suffix(text) => name.ends_with(text),
            Self::Prefix(text) => name.starts_with(text),
        }
    }
}

#[derive(Debug)]
pub(super) struct HostPattern {
    pub(super) name: NamePattern,
    pub(super) port: Option<u16>,
}

impl HostPattern {
    pub(super) fn matches(&self, asked: HostPort<'_>) -> bool {
        self.port.is_none_or(|port| port == asked.port) && self.name.matches(asked.host)
    }
}

#[derive(Debug)]
pub(super) struct HeaderPattern {
    /// Lower-case, with `_` for `-`: Kong does not tell the two apart.
    pub(super) name: Box<[u8]>,
    /// Lower-case.
    pub(super) values: Box<[Box<[u8]>]>,
    regexes: Box<[LazyRegex]>,
}

/// The part of a path that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Span {
    pub(super) fn front(len: usize) -> Self {
        Self { start: 0, len }
    }
}

/// Host and port as the Host header has them; the listener's port stands in for one that is missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostPort<'a> {
    pub(super) host: &'a [u8],
    pub(super) port: u16,
}

/// Splits at the first colon if a number follows; otherwise (IPv6 in brackets too) the whole text is the host.
pub(super) fn split_host(host: &[u8], default_port: u16) -> HostPort<'_> {
    let split = memchr::memchr(b':', host).and_then(|at| Some((&host[..at], parse_port(&host[at + 1..])?)));
    match split {
        Some((host, port)) => HostPort { host, port },
        None => HostPort { host, port: default_port },
    }
}

fn parse_port(text: &[u8]) -> Option<u16> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u16, |port, byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })
}

impl Route {
    /// Compiles a route of the default flavour.
    ///
    /// Errors when a regex of its paths or headers is not one.
    pub fn compile(entity: Arc<entities::Route>) -> Result<Self, InvalidRoute> {
        Self::compile_for(entity, Flavor::default())
    }

    /// Compiles a route as this flavour understands it.
    pub fn compile_for(entity: Arc<entities::Route>, flavor: Flavor) -> Result<Self, InvalidRoute> {
        let host_patterns = entity.hosts.iter().flatten().map(|host| {
            let split = host.split_once(':').and_then(|(name, port)| Some((name, parse_port(port.as_bytes())?)));
            match split {
                Some((name, port)) => HostPattern { name: NamePattern::of(name), port: Some(port) },
                None => HostPattern { name: NamePattern::of(host), port: None },
            }
        });
        let hosts: Box<[HostPattern]> = host_patterns.collect();
        let traditional = flavor == Flavor::Traditional;
        let header = |(name, values): (&String, &Vec<String>)| HeaderPattern::compile(name, values, traditional);
        let headers = entity.headers.iter().flatten().map(header).collect::<Result<_, _>>()?;
        let protocols = Protocols::of(&entity.protocols);
        let text = entity.expression.as_deref().filter(|text| flavor == Flavor::Expressions && !text.is_empty());
        Ok(Self {
            id: entity.id,
            service: entity.service.as_ref().map(|service| service.id),
            protocols,
            expression: text.map(|text| Expressed::parse(text, protocols.any_http())).transpose()?,
            spoken: if flavor == Flavor::Expressions { spoken(&entity.protocols) } else { None },
            traditional,
            glues_paths: traditional && entity.path_handling == Some(PathHandling::V1),
            sources: Ends::all_of(entity.sources.as_deref())?,
            destinations: Ends::all_of(entity.destinations.as_deref())?,
            methods: entity.methods.iter().flatten().map(|method| method.as_bytes().into()).collect(),
            host_ports: hosts.iter().any(|host| host.port.is_some()),
            hosts,
            headers,
            // The dot that may end a fully qualified name is no part of an SNI.
            snis: entity.snis.iter().flatten().map(|sni| NamePattern::of(sni.strip_suffix('.').unwrap_or(sni))).collect(),
            rules: rules(&entity, flavor)?,
            entity,
        })
    }

    pub(super) fn hosts(&self) -> &[HostPattern] {
        &self.hosts
    }

    pub(super) fn takes_host(&self, asked: HostPort<'_>) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|host| host.matches(asked))
    }

    pub(super) fn takes_protocol(&self, protocol: &str) -> bool {
        self.spoken.as_ref().is_none_or(|spoken| spoken.contains(&protocol))
    }

    /// Whether every request of the right host and path is taken.
    pub(super) fn is_unconditional(&self) -> bool {
        self.methods.is_empty() && self.headers.is_empty() && self.snis.is_empty() && self.spoken.is_none() && self.expression.is_none()
    }

    pub(super) fn takes_method(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|own| **own == *method)
    }

    pub(super) fn methods(&self) -> &[Box<[u8]>] {
        &self.methods
    }

    pub(super) fn takes_headers(&self, headers: &Headers) -> bool {
        self.headers.iter().all(|pattern| headers.lines().iter().any(|line| pattern.takes(headers, line)))
    }

    /// On plain-text connections SNIs are ignored, so that a request may be told to upgrade.
    pub(super) fn takes_sni(&self, query: &Query<'_>) -> bool {
        self.snis.is_empty() || !query.https || query.sni.is_some_and(|sni| self.snis.iter().any(|pattern| pattern.matches(sni.as_bytes())))
    }
}

impl HeaderPattern {
    /// In the `traditional` flavour a value is a regex only if it is the only one.
    fn compile(name: &str, values: &[String], traditional: bool) -> Result<Self, InvalidRoute> {
        if values.is_empty() {
            return Err(InvalidRoute::NoValues(name.to_owned()));
        }
        let invalid = |error| InvalidRoute::Header { name: name.to_owned(), error };
        let regexes_count = !traditional || values.len() == 1;
        let regexes = values.iter().filter_map(|value| value.strip_prefix("~*").filter(|_| regexes_count));
        let plain = values.iter().filter(|value| !(regexes_count && value.starts_with("~*")));
        Ok(Self {
            name: name.bytes().map(fold_name).collect(),
            values: plain.map(|value| value.to_ascii_lowercase().into_bytes().into()).collect(),
            regexes: regexes
                .map(|value| LazyRegex::parse(value.to_ascii_lowercase(), traditional).map_err(invalid))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether a table by name and value finds every request that this condition takes.
    pub(super) fn is_exact(&self) -> bool {
        self.regexes.is_empty()
    }

    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        same_name(&self.name, name)
    }

    fn takes(&self, headers: &Headers, line: &Line) -> bool {
        if !self.is_named(headers.name(line)) {
            return false;
        }
        let value = headers.value(line);
        if self.values.iter().any(|own| own.eq_ignore_ascii_case(value)) {
            return true;
        }
        if self.regexes.is_empty() {
            return false;
        }
        let Ok(value) = std::str::from_utf8(value) else { return false };
        let value = value.to_lowercase();
        self.regexes.iter().any(|regex| regex.get().is_some_and(|regex| regex.is_match(&value)))
    }
}

pub(super) fn fold_name(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }
}

pub(super) fn same_name(folded: &[u8], name: &[u8]) -> bool {
    folded.len() == name.len() && folded.iter().zip(name).all(|(left, right)| *left == fold_name(*right))
}

impl PathPattern {
    pub(super) fn matched(&self, path: &str) -> Option<Span> {
        match self {
            Self::Prefix(prefix) => path.starts_with(&**prefix).then_some(Span::front(prefix.len())),
            Self::Regex(regex) => regex.get()?.find(path),
        }
    }

    /// What an index may find the pattern by: every path it takes starts with this.
    pub(super) fn literal(&self) -> &[u8] {
        match self {
            Self::Prefix(prefix) => prefix.as_bytes(),
            Self::Regex(regex) => &regex.literal,
        }
    }

    pub(super) fn captures(&self, path: &str) -> Option<Box<Captures>> {
        let Self::Regex(regex) = self else { return None };
        regex.get()?.captures(path).map(Box::new)
    }
}

/// What `net.protocol` may be under the `expressions` flavour. Routes for TLS alone take plain requests too, to tell them to
/// upgrade.
fn spoken(protocols: &[entities::services::Protocol]) -> Option<Box<[&'static str]>> {
    let names = protocols.iter().map(|protocol| match protocol.as_str() {
        "grpc" => "http",
        "grpcs" => "https",
        "tls_passthrough" => "tcp",
        own => own,
    });
    match protocols {
        [only] if matches!(only.as_str(), "https" | "tls" | "tls_passthrough") => None,
        _ => Some(names.collect()),
    }
}

fn rules(entity: &entities::Route, flavor: Flavor) -> Result<Box<[Rule]>, InvalidRoute> {
    fn given<T>(list: Option<&[T]>) -> u32 {
        u32::from(list.is_some_and(|list| !list.is_empty()))
    }
    let traditional = flavor == Flavor::Traditional;
    let id = |id: u128| if traditional { order::age(entity.created_at, id) } else { id };
    if flavor == Flavor::Expressions && entity.expression.as_deref().is_some_and(|text| !text.is_empty()) {
        let priority = order::expressed(entity.priority.unwrap_or(0));
        return Ok(Box::new([Rule { priority, id: entity.id.as_u128(), paths: Box::default() }]));
    }
    let paths = entity.paths.as_deref().unwrap_or_default();
    let headers = entity.headers.as_ref().map_or(0, |headers| headers.len());
    let weight = Weight {
        kinds: given(entity.methods.as_deref())
            + given(entity.hosts.as_deref())
            + given(entity.snis.as_deref())
            + given(entity.paths.as_deref())
            + u32::from(headers > 0),
        // An empty list counts as a list without wildcards.
        plain_hosts: entity.hosts.as_ref().is_some_and(|hosts| hosts.iter().all(|host| !host.contains('*'))),
        wildcard_port: entity.hosts.iter().flatten().any(|host| host.contains('*') && host.contains(':')),
        headers,
        bits: [
            (given(entity.hosts.as_deref()), 0x40),
            (u32::from(headers > 0), 0x20),
            (given(entity.paths.as_deref()), 0x10),
            (given(entity.methods.as_deref()), 0x08),
            (given(entity.snis.as_deref()), 0x04),
        ]
        .iter()
        .map(|(given, bit)| given * bit)
        .sum(),
        ..Weight::default()
    };
    let priority = |weight: Weight| if traditional { weight.traditional_priority() } else { weight.priority() };
    if paths.is_empty() {
        return Ok(Box::new([Rule { priority: priority(weight), id: id(entity.id.as_u128()), paths: Box::default() }]));
    }
    let mut groups: Vec<(PathGroup, Vec<PathPattern>)> = Vec::new();
    for path in paths {
        let (group, pattern) = path_pattern(path, traditional)?;
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, patterns)) => patterns.push(pattern),
            None => groups.push((group, vec![pattern])),
        }
    }
    let count = groups.len();
    let rule = |(at, (group, patterns)): (usize, (PathGroup, Vec<PathPattern>))| {
        let weight = match group {
            PathGroup::Regex => Weight { regex_path: true, regex_priority: entity.regex_priority.unwrap_or(0), ..weight },
            PathGroup::Length(path_length) => Weight { path_length, ..weight },
        };
        Rule { priority: priority(weight), id: id(group_id(entity.id, count, at + 1)), paths: patterns.into() }
    };
    Ok(groups.into_iter().enumerate().map(rule).collect())
}

fn path_pattern(path: &str, traditional: bool) -> Result<(PathGroup, PathPattern), InvalidRoute> {
    let Some(pattern) = path.strip_prefix('~') else {
        return Ok((PathGroup::Length(path.len()), PathPattern::Prefix(path.into())));
    };
    let anchored = if traditional {
        // Anchored as a whole there, not only the first of its alternatives.
        format!("^(?:{pattern})")
    } else {
        // Kong rewrites `?<` wherever it stands, so that PCRE's way of naming groups is understood.
        format!("^{}", pattern.replace("?<", "?P<"))
    };
    let invalid = |error| InvalidRoute::Path { path: path.to_owned(), error };
    Ok((PathGroup::Regex, PathPattern::Regex(LazyRegex::parse(anchored, traditional).map_err(invalid)?)))
}

/// Where an entry of the index stands for one path of one rule of a route.
#[derive(Clone, Debug)]
pub(super) struct PathOf {
    pub(super) route: Arc<Route>,
    pub(super) rule: u32,
    pub(super) path: u32,
}

impl PathOf {
    pub(super) fn rule(&self) -> &Rule {
        &self.route.rules[self.rule as usize]
    }

    /// None when the route takes any path.
    pub(super) fn pattern(&self) -> Option<&PathPattern> {
        self.rule().paths.get(self.path as usize)
    }
}
