//! `$(…)` in values: `$(headers.x)`, `$(headers["x-y"])`, `$(query_params.x)`, `$(uri_captures.name)`, `$(uri_captures[1])`,
//! `$(shared.x)`, with an alternative behind `or`: `$(headers.x or "default")`.
//!
//! Kong evaluates Lua here; this is the part of it that configurations use. What does not fit it is refused when it is
//! configured, never ignored.

use portcullis_plugin::Request;

/// A value as configured, taken apart.
#[derive(Debug, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    /// The first of these that has a value.
    FirstOf(Vec<Term>),
}

#[derive(Debug, PartialEq)]
enum Term {
    Literal(String),
    /// By name; underscores stand for dashes too.
    Header(String),
    Query(String),
    Capture(String),
    /// Values other plugins share: there are none without Lua.
    Shared,
}

impl Template {
    /// Errors with the text a client of the Admin API sees.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("$(") {
            let end = closing(&rest[start + 2..]).ok_or_else(|| unsupported(&rest[start..], "')' expected"))? + start + 2;
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let expression = &rest[start + 2..end];
            let terms = split_or(expression).into_iter().map(|term| parse_term(term.trim())).collect::<Option<Vec<_>>>();
            parts.push(Part::FirstOf(terms.ok_or_else(|| unsupported(&rest[start..=end], "unsupported expression"))?));
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The value for a request. What is not there is empty.
    pub fn render(&self, request: &Request) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::FirstOf(terms) => out.push_str(&terms.iter().find_map(|term| term.value(request)).unwrap_or_default()),
            }
        }
        out
    }
}

fn unsupported(text: &str, reason: &str) -> String {
    format!("value '{text}' is not in supported format, error:{reason}")
}

/// Where the parenthesis closes, quotes and inner parentheses passed over.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (_, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) => quote = Some(c),
            ('(', None) => depth += 1,
            (')', None) if depth == 0 => return Some(at),
            (')', None) => depth -= 1,
            _ => {}
        }
    }
    None
}

fn split_or(expression: &str) -> Vec<&str> {
    let (mut terms, mut start, mut quote) = (Vec::new(), 0, None);
    for (at, c) in expression.char_indices() {
        match (c, quote) {
            (_, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            ('o', None) if expression[at..].starts_with("or ") && expression[..at].ends_with(' ') => {
                terms.push(&expression[start..at]);
                start = at + 2;
            }
            _ => {}
        }
    }
    terms.push(&expression[start..]);
    terms
}

fn parse_term(term: &str) -> Option<Term> {
    if let Some(literal) = quoted(term) {
        return Some(Term::Literal(literal.to_owned()));
    }
    let (source, key) = match term.split_once('[') {
        Some((source, key)) => {
            let key = key.strip_suffix(']')?.trim();
            (source, quoted(key).or_else(|| key.parse::<usize>().ok().map(|_| key))?)
        }
        None => {
            let (source, key) = term.split_once('.')?;
            let is_name = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            (source, is_name.then_some(key)?)
        }
    };
    Some(match source {
        "headers" => Term::Header(key.to_owned()),
        "query_params" => Term::Query(key.to_owned()),
        "uri_captures" => Term::Capture(key.to_owned()),
        "shared" => Term::Shared,
        _ => return None,
    })
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    text.strip_prefix(quote)?.strip_suffix(quote).filter(|inner| !inner.contains(quote))
}

impl Term {
    fn value(&self, request: &Request) -> Option<String> {
        match self {
            Term::Literal(text) => Some(text.clone()),
            Term::Header(name) => {
                let headers = &request.head.headers;
                let value = headers.get(name).or_else(|| headers.get(&name.replace('_', "-")))?;
                Some(String::from_utf8_lossy(value).into_owned())
            }
            Term::Query(name) => request.query_argument(name),
            Term::Capture(name) => {
                let captures = request.captures.as_deref()?;
                let named = captures.named.iter().find(|(known, _)| **known == **name).map(|(_, value)| value.clone());
                let numbered = || captures.numbered.get(name.parse::<usize>().ok()?)?.clone();
                named.or_else(numbered).map(Into::into)
            }
            Term::Shared => None,
        }
    }
}
