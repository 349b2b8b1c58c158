//! rewrite: changes path, host, query and headers of requests by rules.
//!
//! A rule matches by regular expressions on what the client sent; what they capture can be put into what it sets. Rules match
//! paths in the spelling that was sent (percent-encoded), and a path that is set replaces the whole path that would have gone
//! to the upstream, that of the service included.

mod config;

use std::borrow::Cow;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use regex::Regex;

use crate::arguments::{self, Argument};
use config::Config;

/// See the module's description.
pub struct Rewrite {
    chain: bool,
    rules: Vec<Rule>,
}

struct Rule {
    methods: Vec<String>,
    path: Option<Regex>,
    host: Option<Regex>,
    headers: Vec<(String, Regex)>,
    query: Vec<(String, Regex)>,
    set_path: Option<String>,
    set_host: Option<String>,
    set_headers: Vec<(String, String)>,
    remove_headers: Vec<String>,
    set_query: Vec<(String, String)>,
    remove_query: Vec<String>,
}

impl Plugin for Rewrite {
    const NAME: &'static str = "rewrite";
    /// Behind the transformers of requests and responses: it has the last word on where a request goes.
    const PRIORITY: i32 = 799;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let rules = config.rules.into_iter().map(Rule::new).collect::<Result<_>>()?;
        Ok(Self { chain: config.mode == "chain", rules })
    }
}

impl Handler for Rewrite {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        // What a chain of rules has made of the path so far.
        let mut path = String::from_utf8_lossy(request.head.path()).into_owned();
        for rule in &self.rules {
            let Some(captured) = rule.captures(request, &path) else { continue };
            rule.apply(request, &captured, &mut path);
            if !self.chain {
                break;
            }
        }
        Step::Next
    }
}

/// What the expressions of a rule captured: by number those of the path, by name those of all.
#[derive(Debug, Default)]
struct Captured {
    numbered: Vec<String>,
    named: Vec<(String, String)>,
}

impl Captured {
    fn take(&mut self, expression: &Regex, text: &str, numbered: bool) -> bool {
        let Some(captures) = expression.captures(text) else { return false };
        if numbered {
            self.numbered = captures.iter().map(|group| group.map_or_else(String::new, |group| group.as_str().to_owned())).collect();
        }
        let names = expression.capture_names().flatten();
        self.named.extend(names.filter_map(|name| Some((name.to_owned(), captures.name(name)?.as_str().to_owned()))));
        true
    }

    fn get(&self, name: &str) -> &str {
        match name.parse::<usize>() {
            Ok(number) => self.numbered.get(number).map_or("", String::as_str),
            Err(_) => self.named.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str()),
        }
    }

    /// A template with captures in the places of `$1` and `${name}`; `$$` is a dollar sign.
    fn expand(&self, template: &str) -> String {
        let mut out = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                out.push_str(self.get(name));
                rest = after;
            } else {
                let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
                match digits {
                    0 => out.push('$'),
                    digits => out.push_str(self.get(&rest[..digits])),
                }
                rest = &rest[digits..];
            }
        }
        out.push_str(rest);
        out
    }
}

impl Rule {
    fn new(rule: config::Rule) -> Result<Self> {
        let expression = |text: Option<String>| text.map(|text| Regex::new(&text)).transpose();
        let expressions = |texts: Option<std::collections::BTreeMap<String, String>>| {
            let pairs = texts.unwrap_or_default().into_iter();
            pairs.map(|(name, text)| Ok((name, Regex::new(&text)?))).collect::<std::result::Result<Vec<_>, regex::Error>>()
        };
        Ok(Self {
            methods: rule.methods.unwrap_or_default(),
            path: expression(rule.path)?,
            host: expression(rule.host)?,
            headers: expressions(rule.headers)?,
            query: expressions(rule.query)?,
            set_path: rule.set_path,
            set_host: rule.set_host,
            set_headers: rule.set_headers.unwrap_or_default().into_iter().collect(),
            remove_headers: rule.remove_headers.unwrap_or_default(),
            set_query: rule.set_query.unwrap_or_default().into_iter().collect(),
            remove_query: rule.remove_query.unwrap_or_default(),
        })
    }

    /// What the rule captures from a request that it matches.
    fn captures(&self, request: &Request, path: &str) -> Option<Captured> {
        let method = request.head.method_text();
        if !self.methods.is_empty() && !self.methods.iter().any(|known| known.as_bytes() == method) {
            return None;
        }
        let mut captured = Captured::default();
        if let Some(expression) = &self.path
            && !captured.take(expression, path, true)
        {
            return None;
        }
        if let Some(expression) = &self.host {
            let host = request.head.headers.get("Host").map(String::from_utf8_lossy)?;
            if !captured.take(expression, &host, false) {
                return None;
            }
        }
        for (name, expression) in &self.headers {
            let matched = request.head.headers.get_all(name).any(|value| captured.take(expression, &String::from_utf8_lossy(value), false));
            if !matched {
                return None;
            }
        }
        let query = request.upstream.query.as_deref().unwrap_or_default();
        for (name, expression) in &self.query {
            let value = match arguments::find(query, name) {
                Argument::One(value) => value,
                Argument::NoText => Cow::Borrowed(&b""[..]),
                Argument::Absent | Argument::Several => return None,
            };
            if !captured.take(expression, &String::from_utf8_lossy(&value), false) {
                return None;
            }
        }
        Some(captured)
    }

    fn apply(&self, request: &mut Request, captured: &Captured, path: &mut String) {
        if let Some(template) = &self.set_path {
            *path = escape(&captured.expand(template), |byte| byte.is_ascii_graphic() && !b"\"<>?#\\^`{|}".contains(&byte));
            request.upstream.path = path.clone().into_bytes();
        }
        if let Some(template) = &self.set_host {
            let host = captured.expand(template);
            // A capture may hold what no host has; then the one that is there is the better one.
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:%".contains(&byte);
            if !host.is_empty() && host.bytes().all(fits) {
                request.upstream.host_header = Some(host.into_bytes());
            }
        }
        for name in &self.remove_headers {
            request.head.headers.remove(name);
        }
        for (name, template) in &self.set_headers {
            let value: Vec<u8> =
                captured.expand(template).into_bytes().into_iter().filter(|byte| !matches!(byte, 0..=8 | 10..=31 | 127)).collect();
            request.head.headers.set(name, &value);
        }
        for name in &self.remove_query {
            edit_query(request, name, None);
        }
        for (name, template) in &self.set_query {
            edit_query(request, name, Some(&captured.expand(template)));
        }
    }
}

/// Removes an argument, or sets it behind all others.
fn edit_query(request: &mut Request, name: &str, value: Option<&str>) {
    let mut query = arguments::without(request.upstream.query.as_deref().unwrap_or_default(), name);
    if let Some(value) = value {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if !query.is_empty() {
            query.push(b'&');
        }
        query.extend_from_slice(format!("{}={}", escape_all(name, plain), escape_all(value, plain)).as_bytes());
    }
    request.upstream.query = (!query.is_empty()).then_some(query);
}

/// Percent-encodes what is not plain and leaves what is encoded already.
fn escape(text: &str, plain: impl Fn(u8) -> bool) -> String {
    encode(text, |byte| byte == b'%' || plain(byte))
}

fn escape_all(text: &str, plain: impl Fn(u8) -> bool) -> String {
    encode(text, |byte| byte != b'%' && plain(byte))
}

fn encode(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
