//! `$(…)` in values: `$(headers.x)`, `$(headers["x-y"])`, `$(query_params.x)`, `$(uri_captures.name)`, `$(uri_captures[1])`,
//! `$(shared.x)`, with an alternative behind `or`: `$(headers.x or "default")`.
//!
//! These need no Lua, and most configurations use no others. Any other expression is Lua, and so is `$(shared.x)`: the process's
//! engine runs them. Without one they are refused when they are configured, never ignored.

use std::sync::Arc;

use portcullis_plugin::{Request, Result, script};

use crate::arguments;

/// A value as configured, taken apart.
pub struct Template(Vec<Part>);

enum Part {
    Text(String),
    /// The first of these that has a value.
    FirstOf(Vec<Term>),
    Lua(Arc<dyn script::Template>),
}

#[derive(Debug, PartialEq)]
enum Term {
    Literal(String),
    /// By name; underscores stand for dashes too.
    Header(String),
    Query(String),
    Capture(String),
    /// Values that Lua code shares: there are none without Lua.
    Shared,
}

impl Template {
    /// Errors with the text a client of the Admin API sees.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("$(") {
            // What never closes is text, as in Kong.
            let Some(length) = closing(&rest[start + 2..]) else { break };
            let end = start + 2 + length;
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let expression = &rest[start + 2..end];
            parts.push(parse_expression(expression).map_err(|problem| unsupported(&rest[start..=end], &problem))?);
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Whether this is text without expressions that reads so, in any case.
    pub fn is(&self, text: &str) -> bool {
        matches!(self.0.as_slice(), [Part::Text(own)] if own.eq_ignore_ascii_case(text))
    }

    /// The value for a request. What is not there is empty. Errors with what Lua says.
    pub fn render(&self, request: &Request) -> Result<String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::FirstOf(terms) => out.push_str(&terms.iter().find_map(|term| term.value(request)).unwrap_or_default()),
                Part::Lua(code) => out.push_str(&code.text(request)?.unwrap_or_default()),
            }
        }
        Ok(out)
    }
}

/// An expression that needs no Lua, or one for the engine. The engine has its say on all of them: it may be switched off.
fn parse_expression(expression: &str) -> std::result::Result<Part, String> {
    let engine = script::engine();
    if let Some(engine) = engine {
        engine.check(&format!("return {expression}"))?;
    }
    let terms: Option<Vec<Term>> = split_or(expression).into_iter().map(|term| parse_term(term.trim())).collect();
    match (terms, engine) {
        (Some(terms), Some(_)) if !terms.contains(&Term::Shared) => Ok(Part::FirstOf(terms)),
        (Some(terms), None) => Ok(Part::FirstOf(terms)),
        (_, Some(engine)) => engine.template(&format!("$({expression})")).map(Part::Lua).map_err(|error| error.to_string()),
        (None, None) => Err("unsupported expression".to_owned()),
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

/// The first value of an argument; one without `=` is `true`, as it is to Lua.
fn query_argument(query: &[u8], name: &[u8]) -> Option<String> {
    let (_, value) = arguments::pairs(query).find(|(key, _)| *arguments::decode(key) == *name)?;
    Some(value.map_or_else(|| "true".to_owned(), |value| String::from_utf8_lossy(&arguments::decode(value)).into_owned()))
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
            Term::Query(name) => query_argument(request.upstream.query.as_deref()?, name.as_bytes()),
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
