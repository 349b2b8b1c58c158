//! access-control: lets requests pass or not by an ordered list of rules.
//!
//! The first rule whose conditions all hold decides; if none does, the default action. Conditions look at who is asking
//! (consumer, groups, claims of a verified token, address), for what (method, path) and when ([`window`]). With `explain` a
//! response header tells which rule it was.

mod config;
mod window;

use std::net::IpAddr;

use ipnet::IpNet;
use portcullis_plugin::{Answer, Env, Error, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use regex::Regex;
use serde_json::Value;

use crate::auth::VerifiedClaims;
use config::Config;
use window::Window;

/// The table of consumers' groups, which belongs to the plugin acl.
const GROUPS: &str = "acls";

/// See the module's description.
pub struct AccessControl {
    rules: Vec<Rule>,
    allows_by_default: bool,
    utc_offset_minutes: i64,
    /// The header that tells which rule decided.
    explain: Option<String>,
    status: u16,
    message: String,
}

struct Rule {
    /// How it is told: its name, or its place.
    told: String,
    allows: bool,
    consumers: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    claims: Vec<(String, Vec<String>)>,
    methods: Option<Vec<String>>,
    paths: Option<Vec<Path>>,
    addresses: Option<Vec<IpNet>>,
    window: Option<Window>,
}

enum Path {
    Prefix(String),
    Pattern(Regex),
}

impl Plugin for AccessControl {
    const NAME: &'static str = "access-control";
    /// Behind authentication and acl.
    const PRIORITY: i32 = 945;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let rules = config.rules.into_iter().enumerate().map(|(at, rule)| Rule::new(at + 1, rule)).collect::<Result<_>>()?;
        Ok(Self {
            rules,
            allows_by_default: config.default_action == "allow",
            utc_offset_minutes: config.utc_offset_minutes,
            explain: config.explain.then_some(config.explain_header),
            status: u16::try_from(config.status_code)?,
            message: config.message,
        })
    }
}

impl Handler for AccessControl {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let minutes = (request.started_at_ms / 60_000) as i64 + self.utc_offset_minutes;
        let decisive = self.rules.iter().find(|rule| rule.matches(request, minutes));
        let (allows, told) = decisive.map_or((self.allows_by_default, "default"), |rule| (rule.allows, &rule.told));
        if let Some(header) = &self.explain {
            let action = if allows { "allow" } else { "deny" };
            request.response_headers.set(header, format!("{action}; {told}").as_bytes());
        }
        if allows { Step::Next } else { Step::answer(Answer::error(self.status, self.message.clone())) }
    }
}

impl Rule {
    fn new(place: usize, rule: config::Rule) -> Result<Self> {
        let paths = rule.paths.map(|paths| paths.iter().map(|path| Path::new(path)).collect::<Result<_>>()).transpose()?;
        let addresses = rule.addresses.map(|entries| entries.iter().map(|entry| network(entry)).collect::<Result<_>>()).transpose()?;
        // A name goes into a header: whatever has no place there is left out.
        let name = rule.name.map(|name| name.chars().filter(|character| !character.is_control()).collect::<String>());
        Ok(Self {
            told: name.filter(|name| !name.is_empty()).map_or_else(|| format!("rule {place}"), |name| format!("rule {place} ({name})")),
            allows: rule.action == "allow",
            consumers: rule.consumers,
            groups: rule.groups,
            claims: rule.claims.unwrap_or_default().into_iter().collect(),
            methods: rule.methods,
            paths,
            addresses,
            window: Window::new(rule.days.as_deref(), rule.from.as_deref(), rule.until.as_deref()),
        })
    }

    /// The cheap conditions come first.
    fn matches(&self, request: &Request, minutes: i64) -> bool {
        let is_among = |list: &Vec<String>, text: &[u8]| list.iter().any(|known| known.as_bytes() == text);
        self.methods.as_ref().is_none_or(|methods| is_among(methods, request.head.method_text()))
            && self.window.as_ref().is_none_or(|window| window.contains(minutes))
            && self.addresses.as_ref().is_none_or(|networks| comes_from(request, networks))
            && self.paths.as_ref().is_none_or(|paths| leads_to(request, paths))
            && self.consumers.as_ref().is_none_or(|consumers| is_one_of(request, consumers))
            && self.groups.as_ref().is_none_or(|groups| belongs_to(request, groups))
            && self.claims.iter().all(|(name, values)| claims(request, name, values))
    }
}

impl Path {
    fn new(text: &str) -> Result<Self> {
        match text.strip_prefix('~') {
            Some(pattern) => Ok(Self::Pattern(Regex::new(&format!("^(?:{pattern})"))?)),
            None => Ok(Self::Prefix(text.to_owned())),
        }
    }
}

fn network(entry: &str) -> Result<IpNet> {
    let invalid = || Error::from(format!("invalid ip or cidr range: '{entry}'"));
    match entry.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => entry.parse::<IpNet>().map(|network| network.trunc()).map_err(|_| invalid()),
    }
}

fn comes_from(request: &Request, networks: &[IpNet]) -> bool {
    // IPv4 clients of a dual-stack listener come as mapped IPv6 addresses.
    let address = request.client.forwarded_ip.map(|address| address.to_canonical());
    address.is_some_and(|address| networks.iter().any(|network| network.contains(&address)))
}

/// Paths are compared in the form they are routed by: decoded, without dots and doubled slashes, so that no other spelling of
/// one gets around a rule.
fn leads_to(request: &Request, paths: &[Path]) -> bool {
    let path = normalised(request.head.path());
    paths.iter().any(|wanted| match wanted {
        Path::Prefix(prefix) => path.starts_with(prefix.as_str()),
        Path::Pattern(pattern) => pattern.is_match(&path),
    })
}

fn normalised(path: &[u8]) -> String {
    let decoded = percent_decoded(path);
    let text = String::from_utf8_lossy(&decoded);
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => _ = kept.pop(),
            segment => kept.push(segment),
        }
    }
    let end = if text.ends_with('/') || text.ends_with("/.") || text.ends_with("/..") { "/" } else { "" };
    if kept.is_empty() { "/".to_owned() } else { format!("/{}{end}", kept.join("/")) }
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn is_one_of(request: &Request, names: &[String]) -> bool {
    let Some(consumer) = &request.consumer else { return false };
    let id = consumer.id.to_string();
    let own = [Some(id.as_str()), consumer.username.as_deref(), consumer.custom_id.as_deref()];
    names.iter().any(|name| own.contains(&Some(name.as_str())))
}

fn belongs_to(request: &Request, groups: &[String]) -> bool {
    let brought = request.authenticated_groups.iter().flatten();
    if brought.into_iter().any(|group| groups.contains(group)) {
        return true;
    }
    let Some(consumer) = &request.consumer else { return false };
    request.directory.credentials_of(GROUPS, consumer.id).iter().any(|row| groups.iter().any(|group| **group == *row.key))
}

/// Whether a claim has one of these values, or is a list that does.
fn claims(request: &Request, name: &str, values: &[String]) -> bool {
    let Some(VerifiedClaims(all)) = request.context.get::<VerifiedClaims>() else { return false };
    let inner = || {
        let mut parts = name.split('.');
        let first = all.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    };
    let is_fine = |value: &Value| match value {
        Value::String(text) => values.contains(text),
        Value::Number(_) | Value::Bool(_) => values.contains(&value.to_string()),
        _ => false,
    };
    match all.get(name).or_else(inner) {
        Some(Value::Array(list)) => list.iter().any(is_fine),
        Some(value) => is_fine(value),
        None => false,
    }
}

#[cfg(test)]
mod tests;
