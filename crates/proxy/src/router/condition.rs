//! Conditions of the `expressions` flavour, compiled: asked of a request, and what an index may find them by.
//!
//! As in Kong the last comparison of the path that held decides how much of it is cut off, also one that counted for nothing
//! in the end.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use portcullis_entities::expression::{
    self, BinaryOperator, Expression, LhsTransformations, LogicalExpression, Predicate, Segments, Value,
};
use regex::Regex;

use super::pattern::literal_prefix;
use super::route::{HostPort, InvalidRoute, NamePattern, Span, same_name};
use super::{Capture, Captures, Query};

/// An index entry for each of so many beginnings of paths and hosts; conditions with more are found by less.
const MOST_KEYS: usize = 256;

/// A compiled expression.
#[derive(Debug)]
pub(super) enum Condition {
    All(Box<[Condition]>),
    Any(Box<[Condition]>),
    Not(Box<Condition>),
    Test(Test),
}

/// One comparison.
#[derive(Debug)]
pub(super) struct Test {
    field: Field,
    lower: bool,
    /// One of several values is enough; otherwise all must hold.
    any: bool,
    operator: Operator,
}

#[derive(Debug)]
enum Field {
    Protocol,
    Sni,
    Method,
    Host,
    Path,
    Segments(Segments),
    /// In lower case with `_` for `-`.
    Header(Box<[u8]>),
    Argument(Box<[u8]>),
    SourceIp,
    SourcePort,
    DestinationIp,
    DestinationPort,
}

#[derive(Debug)]
enum Operator {
    Is(Box<str>),
    IsNot(Box<str>),
    Regex(Regex),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    /// Holds if the number compares so, or (with `false`) if it doesn't.
    Number(i64, Ordering, bool),
    Address(IpAddr, bool),
    Net(IpNet, bool),
}

/// What a request is asked, with what has been worked out about it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'q> {
    pub(super) query: &'q Query<'q>,
    pub(super) path: &'q str,
    pub(super) host: HostPort<'q>,
    /// What `net.protocol` is.
    pub(super) protocol: &'static str,
    /// Routes with server names are left out.
    pub(super) without_snis: bool,
}

/// What was noted while comparing.
#[derive(Default)]
pub(super) struct Notes {
    /// What the last comparison of the path matched.
    pub(super) path: Option<Span>,
    /// Set when groups are wanted.
    pub(super) captures: Option<Box<Captures>>,
}

impl Condition {
    /// Compiles the text of an expression over HTTP requests or stream connections.
    pub(super) fn parse(text: &str, http: bool) -> Result<Self, InvalidRoute> {
        let expression = expression::parse(text, http).map_err(InvalidRoute::Expression)?;
        Self::of(&expression)
    }

    fn of(expression: &Expression) -> Result<Self, InvalidRoute> {
        match expression {
            Expression::Predicate(predicate) => Ok(Self::Test(Test::of(predicate)?)),
            Expression::Logical(logical) => match &**logical {
                LogicalExpression::Not(inner) => Ok(Self::Not(Box::new(Self::of(inner)?))),
                LogicalExpression::And(..) => {
                    let mut parts = Vec::new();
                    flatten(expression, true, &mut parts)?;
                    Ok(Self::All(parts.into()))
                }
                LogicalExpression::Or(..) => {
                    let mut parts = Vec::new();
                    flatten(expression, false, &mut parts)?;
                    Ok(Self::Any(parts.into()))
                }
            },
        }
    }

    pub(super) fn holds(&self, asked: Asked<'_>, notes: &mut Notes) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(asked, notes)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(asked, notes)),
            Self::Not(inner) => !inner.holds(asked, notes),
            Self::Test(test) => test.holds(asked, notes),
        }
    }

    /// What the groups of the regexes that held caught; none where no regex did.
    pub(super) fn captures(&self, asked: Asked<'_>) -> Option<Box<Captures>> {
        let mut notes = Notes { captures: Some(Box::default()), path: None };
        self.holds(asked, &mut notes);
        notes.captures.filter(|captures| !captures.groups.is_empty())
    }

    /// What every path that the condition takes starts with, one of these; none if that can't be told.
    pub(super) fn path_literals(&self) -> Option<Vec<Box<[u8]>>> {
        match self {
            Self::All(parts) => {
                // The fewest and longest beginnings tell it best from its neighbours.
                let known = parts.iter().filter_map(Self::path_literals);
                known.max_by_key(|literals| literals.iter().map(|literal| literal.len()).min())
            }
            Self::Any(parts) => concat(parts.iter().map(Self::path_literals)),
            Self::Test(Test { field: Field::Path, lower: false, operator, .. }) => match operator {
                Operator::Is(text) | Operator::Prefix(text) => Some(vec![text.as_bytes().into()]),
                Operator::Regex(regex) => {
                    let literal = regex_syntax::parse(regex.as_str()).map(|hir| literal_prefix(&hir)).unwrap_or_default();
                    (!literal.is_empty()).then(|| vec![literal.into()])
                }
                _ => None,
            },
            Self::Not(_) | Self::Test(_) => None,
        }
    }

    /// The hosts, one of which every request has that the condition takes; none if that can't be told.
    pub(super) fn hosts(&self) -> Option<Vec<NamePattern>> {
        match self {
            Self::All(parts) => parts.iter().filter_map(Self::hosts).min_by_key(Vec::len),
            Self::Any(parts) => concat(parts.iter().map(Self::hosts)),
            Self::Test(Test { field: Field::Host, lower: false, operator, .. }) => match operator {
                Operator::Is(text) => Some(vec![NamePattern::Exact(text.as_bytes().into())]),
                // The index looks for wildcards at dots only.
                Operator::Prefix(text) if text.ends_with('.') => Some(vec![NamePattern::Prefix(text.as_bytes().into())]),
                Operator::Suffix(text) if text.starts_with('.') => Some(vec![NamePattern::Suffix(text.as_bytes().into())]),
                _ => None,
            },
            Self::Not(_) | Self::Test(_) => None,
        }
    }
}

fn concat<T>(lists: impl Iterator<Item = Option<Vec<T>>>) -> Option<Vec<T>> {
    let mut all = Vec::new();
    for list in lists {
        all.extend(list?);
        if all.len() > MOST_KEYS {
            return None;
        }
    }
    Some(all)
}

/// The parts of a chain of one operator, in order. The tree leans to the left: this walks it without recursion.
fn flatten(expression: &Expression, and: bool, parts: &mut Vec<Condition>) -> Result<(), InvalidRoute> {
    let mut reversed = Vec::new();
    let mut rest = expression;
    loop {
        let sides = match rest {
            Expression::Logical(logical) => match (&**logical, and) {
                (LogicalExpression::And(left, right), true) | (LogicalExpression::Or(left, right), false) => Some((left, right)),
                _ => None,
            },
            Expression::Predicate(_) => None,
        };
        let Some((left, right)) = sides else { break };
        reversed.push(right);
        rest = left;
    }
    parts.push(Condition::of(rest)?);
    for part in reversed.into_iter().rev() {
        parts.push(Condition::of(part)?);
    }
    Ok(())
}

impl Field {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "net.protocol" => Self::Protocol,
            "tls.sni" => Self::Sni,
            "http.method" => Self::Method,
            "http.host" => Self::Host,
            "http.path" => Self::Path,
            "net.src.ip" => Self::SourceIp,
            "net.src.port" => Self::SourcePort,
            "net.dst.ip" => Self::DestinationIp,
            "net.dst.port" | "net.port" => Self::DestinationPort,
            _ => {
                if let Some(name) = name.strip_prefix("http.path.segments.") {
                    Self::Segments(Segments::of(name)?)
                } else if let Some(name) = name.strip_prefix("http.headers.") {
                    Self::Header(name.to_ascii_lowercase().into_bytes().into())
                } else {
                    Self::Argument(name.strip_prefix("http.queries.")?.as_bytes().into())
                }
            }
        })
    }
}

impl Operator {
    fn of(operator: &BinaryOperator, value: &Value) -> Option<Self> {
        Some(match (operator, value) {
            (BinaryOperator::Equals, Value::String(text)) => Self::Is(text.as_str().into()),
            (BinaryOperator::NotEquals, Value::String(text)) => Self::IsNot(text.as_str().into()),
            (BinaryOperator::Prefix, Value::String(text)) => Self::Prefix(text.as_str().into()),
            (BinaryOperator::Postfix, Value::String(text)) => Self::Suffix(text.as_str().into()),
            (BinaryOperator::Contains, Value::String(text)) => Self::Contains(text.as_str().into()),
            (BinaryOperator::Regex, Value::Regex(regex)) => Self::Regex(regex.clone()),
            (BinaryOperator::Equals, Value::Int(number)) => Self::Number(*number, Ordering::Equal, true),
            (BinaryOperator::NotEquals, Value::Int(number)) => Self::Number(*number, Ordering::Equal, false),
            (BinaryOperator::Greater, Value::Int(number)) => Self::Number(*number, Ordering::Greater, true),
            (BinaryOperator::LessOrEqual, Value::Int(number)) => Self::Number(*number, Ordering::Greater, false),
            (BinaryOperator::Less, Value::Int(number)) => Self::Number(*number, Ordering::Less, true),
            (BinaryOperator::GreaterOrEqual, Value::Int(number)) => Self::Number(*number, Ordering::Less, false),
            (BinaryOperator::Equals, Value::IpAddr(address)) => Self::Address(*address, true),
            (BinaryOperator::NotEquals, Value::IpAddr(address)) => Self::Address(*address, false),
            (BinaryOperator::In, Value::IpCidr(net)) => Self::Net(IpNet::new(net.first_address(), net.network_length()).ok()?, true),
            (BinaryOperator::NotIn, Value::IpCidr(net)) => Self::Net(IpNet::new(net.first_address(), net.network_length()).ok()?, false),
            _ => return None,
        })
    }
}

impl Test {
    fn of(predicate: &Predicate) -> Result<Self, InvalidRoute> {
        let unknown = || InvalidRoute::Expression(format!("cannot compare {}", predicate.lhs.var_name));
        let transformed = |by: &LhsTransformations| predicate.lhs.transformations.contains(by);
        Ok(Self {
            field: Field::of(&predicate.lhs.var_name).ok_or_else(unknown)?,
            lower: transformed(&LhsTransformations::Lower),
            any: transformed(&LhsTransformations::Any),
            operator: Operator::of(&predicate.op, &predicate.rhs).ok_or_else(unknown)?,
        })
    }

    /// A field without a value meets no condition.
    fn holds(&self, asked: Asked<'_>, notes: &mut Notes) -> bool {
        let query = asked.query;
        match &self.field {
            Field::Protocol => self.text(asked.protocol, notes),
            Field::Sni => query.sni.is_some_and(|sni| self.text(sni, notes)),
            Field::Method => self.bytes(query.method, notes),
            Field::Host => self.bytes(asked.host.host, notes),
            Field::Path => self.text(asked.path, notes),
            Field::Segments(Segments::Len) => self.number(segments(asked.path).count() as i64),
            Field::Segments(Segments::One(at)) => segments(asked.path).nth(*at).is_some_and(|segment| self.text(segment, notes)),
            Field::Segments(Segments::Range(first, last)) => {
                segment_range(asked.path, *first, *last).is_some_and(|range| self.text(range, notes))
            }
            Field::Header(name) => {
                let named = query.headers.iter().filter(|(own, _)| same_name(name, own));
                self.several(named.map(|(_, value)| Cow::Borrowed(value)), notes)
            }
            Field::Argument(name) => self.several(arguments(query.arguments.unwrap_or_default(), name), notes),
            Field::SourceIp => query.client.source.is_some_and(|address| self.address(address)),
            Field::SourcePort => self.number(query.client.source_port.into()),
            Field::DestinationIp => query.client.destination.is_some_and(|address| self.address(address)),
            Field::DestinationPort => self.number(asked.host.port.into()),
        }
    }

    fn several<'v>(&self, values: impl Iterator<Item = Cow<'v, [u8]>>, notes: &mut Notes) -> bool {
        let mut some = false;
        for value in values {
            let holds = self.bytes(&value, notes);
            if holds && self.any {
                return true;
            }
            if !holds && !self.any {
                return false;
            }
            some = true;
        }
        some && !self.any
    }

    fn bytes(&self, value: &[u8], notes: &mut Notes) -> bool {
        std::str::from_utf8(value).is_ok_and(|value| self.text(value, notes))
    }

    fn text(&self, value: &str, notes: &mut Notes) -> bool {
        let value = if self.lower { Cow::Owned(value.to_lowercase()) } else { Cow::Borrowed(value) };
        let matched = match &self.operator {
            Operator::Is(text) => (*value == **text).then_some(Span::front(text.len())),
            Operator::IsNot(text) => return *value != **text,
            Operator::Prefix(text) => value.starts_with(&**text).then_some(Span::front(text.len())),
            Operator::Suffix(text) => value.ends_with(&**text).then(|| Span { start: value.len() - text.len(), len: text.len() }),
            // Nothing is cut off a path for what it contains.
            Operator::Contains(text) => return value.contains(&**text),
            Operator::Regex(regex) => match &mut notes.captures {
                Some(captures) => note_groups(regex, &value, captures),
                None => regex.find(&value).map(|found| Span { start: found.start(), len: found.len() }),
            },
            Operator::Number(..) | Operator::Address(..) | Operator::Net(..) => None,
        };
        if matched.is_some() && matches!(self.field, Field::Path) {
            notes.path = matched;
        }
        matched.is_some()
    }

    fn number(&self, value: i64) -> bool {
        matches!(&self.operator, Operator::Number(number, ordering, so) if (value.cmp(number) == *ordering) == *so)
    }

    fn address(&self, value: IpAddr) -> bool {
        match &self.operator {
            Operator::Address(address, so) => (value == *address) == *so,
            Operator::Net(net, so) => net.contains(&value) == *so,
            _ => false,
        }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// The segments from `first` to `last` as they stand in the path; none if it has fewer.
fn segment_range(path: &str, first: usize, last: usize) -> Option<&str> {
    let offset = |segment: &str| segment.as_ptr() as usize - path.as_ptr() as usize;
    let mut from_first = segments(path).skip(first);
    let start = from_first.next()?;
    let end = from_first.nth(last - first - 1)?;
    path.get(offset(start)..offset(end) + end.len())
}

/// The values of one query argument, decoded; an argument without `=` has an empty one.
fn arguments<'q>(query: &'q [u8], name: &'q [u8]) -> impl Iterator<Item = Cow<'q, [u8]>> {
    query.split(|byte| *byte == b'&').filter(|part| !part.is_empty()).filter_map(move |part| {
        let (key, value) = match memchr::memchr(b'=', part) {
            Some(at) => (&part[..at], &part[at + 1..]),
            None => (part, &b""[..]),
        };
        (decode(key).as_ref() == name).then(|| decode(value))
    })
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_encoding::percent_decode(&spaced).collect())
}

/// Adds what the groups of a regex catch in `text` to what earlier ones caught; the whole match.
fn note_groups(regex: &Regex, text: &str, captures: &mut Captures) -> Option<Span> {
    let caught = regex.captures(text)?;
    for (at, (name, found)) in regex.capture_names().zip(caught.iter()).enumerate() {
        if captures.groups.len() <= at {
            captures.groups.push(Capture::default());
        }
        let Some(found) = found else { continue };
        captures.groups[at] = Capture { name: name.map(Into::into), value: Some(found.as_str().into()) };
    }
    caught.get(0).map(|found| Span { start: found.start(), len: found.len() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::router::Client;
    use portcullis_wire::Headers;

    fn holds(text: &str, path: &str, headers: &[(&str, &str)]) -> Option<usize> {
        let mut list = Headers::default();
        headers.iter().for_each(|(name, value)| list.append(name, value.as_bytes()));
        let query = Query {
            method: b"GET",
            path: path.as_bytes(),
            host: b"a.test",
            https: false,
            sni: None,
            port: 8000,
            headers: &list,
            arguments: Some(b"a=1&b=x+y&a=2&c"),
            client: Client { source: Some("10.1.2.3".parse().unwrap()), source_port: 4000, destination: None },
        };
        let asked = Asked { query: &query, path, host: HostPort { host: b"a.test", port: 8000 }, protocol: "http", without_snis: false };
        let mut notes = Notes::default();
        let found = Condition::parse(text, true).unwrap().holds(asked, &mut notes);
        found.then(|| notes.path.map_or(0, |span| span.len))
    }

    #[test]
    fn or_binds_closer_than_and() {
        assert_eq!(holds(r#"http.path == "/f1" || http.path == "/f2" && http.method == "POST""#, "/f1", &[]), None);
        assert_eq!(holds(r#"http.method == "POST" || http.method == "GET" && http.path == "/f1""#, "/f1", &[]), Some(3));
    }

    #[test]
    fn the_last_comparison_of_the_path_that_held_is_what_is_cut_off() {
        assert_eq!(holds(r#"http.path ^= "/two" && http.path ~ "^/two/[0-9]+""#, "/two/12/x", &[]), Some(7));
        assert_eq!(holds(r#"http.path ^= "/alt" || http.path ^= "/alternative""#, "/alternative", &[]), Some(4));
        assert_eq!(holds(r#"http.path contains "needle""#, "/needle", &[]), Some(0));
        assert_eq!(holds(r#"!(http.path == "/x" && http.method == "POST")"#, "/x", &[]), Some(2));
        assert_eq!(holds(r#"http.path ~ "/mid/[a-z]""#, "/x/mid/yz", &[]), Some(6));
    }

    #[test]
    fn all_values_of_a_header_must_hold_unless_any_is_enough() {
        let both = [("X-Color", "Red"), ("x_color", "Blue")];
        assert_eq!(holds(r#"http.headers.x_color == "Red""#, "/", &both), None);
        assert_eq!(holds(r#"any(http.headers.x_color) == "Red""#, "/", &both), Some(0));
        assert_eq!(holds(r#"any(lower(http.headers.x_color)) == "blue""#, "/", &both), Some(0));
        assert_eq!(holds(r#"http.headers.x_color != "Green""#, "/", &both), Some(0));
        assert_eq!(holds(r#"http.headers.x_color != "Green""#, "/", &[]), None);
        assert_eq!(holds(r#"!(http.headers.x_color == "Green")"#, "/", &[]), Some(0));
    }

    #[test]
    fn arguments_are_decoded_and_may_be_without_a_value() {
        assert_eq!(holds(r#"http.queries.b == "x y" && http.queries.c == """#, "/", &[]), Some(0));
        assert_eq!(holds(r#"http.queries.a == "1""#, "/", &[]), None);
        assert_eq!(holds(r#"any(http.queries.a) == "2""#, "/", &[]), Some(0));
        assert_eq!(holds(r#"http.queries.absent == """#, "/", &[]), None);
    }

    #[test]
    fn segments_are_numbered_from_zero_and_ranges_are_joined() {
        assert_eq!(holds(r#"http.path.segments.0 == "a" && http.path.segments.1_2 == "b/c""#, "/a/b/c/d", &[]), Some(0));
        assert_eq!(holds(r#"http.path.segments.1_3 == "b/c""#, "/a/b/c", &[]), None);
        assert_eq!(holds("http.path.segments.len == 2", "/a/b/", &[]), Some(0));
        assert_eq!(holds("http.path.segments.len == 0", "/", &[]), Some(0));
    }

    #[test]
    fn addresses_and_numbers_compare_by_value() {
        for text in
            ["net.src.ip in 10.0.0.0/8", "net.src.ip not in ::/0", "net.src.port >= 4000", "net.port == 0x1f40", "net.src.port < 010000"]
        {
            assert_eq!(holds(text, "/", &[]), Some(0), "{text}");
        }
        for text in ["net.src.ip == 10.1.2.4", "net.dst.ip not in 10.0.0.0/8", "net.src.port > 4000", "net.src.port != 4000"] {
            assert_eq!(holds(text, "/", &[]), None, "{text}");
        }
    }

    #[test]
    fn an_index_finds_a_condition_by_what_it_cannot_do_without() {
        let literals = |text: &str| {
            let all = Condition::parse(text, true).unwrap().path_literals();
            all.map(|all| all.iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect::<Vec<_>>())
        };
        let texts = |list: &[&str]| Some(list.iter().map(|text| text.to_string()).collect::<Vec<_>>());
        assert_eq!(literals(r#"http.path ^= "/a" && http.method == "GET""#), texts(&["/a"]));
        assert_eq!(literals(r#"(http.path ^= "/a" || http.path ~ "^/b/[0-9]") && http.path ^= "/""#), texts(&["/a", "/b/"]));
        assert_eq!(literals(r#"http.path ^= "/a" || http.method == "GET""#), None);
        assert_eq!(literals(r#"!(http.path ^= "/a")"#), None);
        assert_eq!(literals(r#"lower(http.path) ^= "/a""#), None);
        assert_eq!(
            Condition::parse(r#"http.host == "a.test" && http.path == "/""#, true).unwrap().hosts().map(|hosts| hosts.len()),
            Some(1)
        );
        assert!(Condition::parse(r#"http.host =^ "a.test""#, true).unwrap().hosts().is_none());
    }
}
