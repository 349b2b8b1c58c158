//! Reading the file and the environment (behaviour checklist 2.1).
//!
//! Precedence: defaults, what a running node was started with, the file, `KONG_*`, `PORTCULLIS_*`, what the command line
//! gives. Every complaint is gathered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::keys::{self, ALIASES, BLOCKS, Key};
use super::value::{Secrets, value_of};

/// Where a file is looked for when none is named.
const PLACES: [&str; 4] = ["/etc/portcullis/portcullis.conf", "/etc/portcullis.conf", "/etc/kong/kong.conf", "/etc/kong.conf"];

/// Keys and their texts as the user wrote them, under their present names.
pub type Given = BTreeMap<String, String>;

/// What was read, checked key by key.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Every key that has a value, in its JSON type.
    pub values: BTreeMap<&'static str, Value>,
    /// nginx directives, plugin servers' and vaults' keys that are in no table, as given.
    pub others: Given,
    /// All that was given, references unresolved.
    pub given: Given,
    pub warnings: Vec<String>,
}

/// The complaints about a configuration, all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaints(pub Vec<String>);

/// Finds the file to read: the one named, which must exist, or the first of the usual places that does.
pub fn find_file(named: Option<&Path>) -> Result<Option<PathBuf>, Complaints> {
    match named {
        Some(path) if path.is_file() => Ok(Some(path.to_owned())),
        Some(path) => Err(Complaints(vec![format!("no file at: {}", path.display())])),
        None => Ok(PLACES.iter().map(PathBuf::from).find(|path| path.is_file())),
    }
}

/// Reads `text` (a configuration file) under `environment` (name and value of each variable) and `overrides`.
///
/// A key whose value is complained about has none.
pub fn load(text: &str, environment: impl IntoIterator<Item = (String, String)>, overrides: &[(&str, String)]) -> (Loaded, Complaints) {
    load_over(Given::new(), text, environment, overrides)
}

/// As [`load`], where `stored` stands for what is given nowhere else.
pub fn load_over(
    stored: Given,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &[(&str, String)],
) -> (Loaded, Complaints) {
    let mut warnings = Vec::new();
    let mut given = stored;
    merge(&mut given, parse_file(text, &mut warnings), &mut warnings);
    let (mut kong, mut own) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        if let Some(key) = name.strip_prefix("KONG_") {
            kong.push((key.to_ascii_lowercase(), value));
        } else if let Some(key) = name.strip_prefix("PORTCULLIS_") {
            own.push((key.to_ascii_lowercase(), value));
        }
    }
    for pairs in [kong, own] {
        // Orchestrators set KONG_* variables of their own (KONG_PROXY_SERVICE_HOST, KONG_VERSION): nothing to warn about.
        merge(&mut given, pairs.into_iter().filter(|(name, _)| is_known(name)).collect(), &mut warnings);
    }
    given.extend(overrides.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    check(given, warnings)
}

/// Lays pairs over what is given; names of old become the present ones. A present name goes before its old one.
fn merge(given: &mut Given, pairs: Vec<(String, String)>, warnings: &mut Vec<String>) {
    let mut layer = Given::new();
    let mut renamed = Vec::new();
    for (name, value) in pairs {
        let Some(alias) = ALIASES.iter().find(|alias| alias.name == name) else {
            layer.insert(name, value);
            continue;
        };
        if alias.deprecated {
            warnings.push(format!("the '{name}' configuration property is deprecated, use '{}' instead", alias.stands_for));
        }
        renamed.push((alias.stands_for, value));
    }
    for (name, value) in renamed {
        layer.entry(name.to_owned()).or_insert(value);
    }
    given.extend(layer);
}

fn is_known(name: &str) -> bool {
    keys::find(name).is_some() || ALIASES.iter().any(|alias| alias.name == name) || is_dynamic(name)
}

/// Keys that anybody may make up: `nginx_<block>_<directive>`, `pluginserver_*`, `vault_*`.
fn is_dynamic(name: &str) -> bool {
    name.starts_with("pluginserver_") || name.starts_with("vault_") || block_of(name).is_some()
}

/// `nginx_http_gzip` → block `http`, directive `gzip`.
pub fn block_of(name: &str) -> Option<(&'static str, &str)> {
    let rest = name.strip_prefix("nginx_")?;
    BLOCKS.iter().find_map(|block| Some((*block, rest.strip_prefix(block)?.strip_prefix('_').filter(|directive| !directive.is_empty())?)))
}

fn check(given: Given, mut warnings: Vec<String>) -> (Loaded, Complaints) {
    let prefix = given.get("vault_env_prefix").map_or("", |prefix| prefix.trim());
    let secrets = Secrets { prefix, lookup: &|name| std::env::var(name).ok() };
    let mut values = BTreeMap::new();
    let mut complaints = Vec::new();
    let mut without_effect = Vec::new();
    for key in keys::all() {
        let text = given.get(key.name).map_or(key.default, String::as_str);
        if text != key.default && is_missed(key, text.trim()) {
            without_effect.push(key.name);
        }
        match value_of(key, text, &secrets) {
            Ok(Some(value)) => _ = values.insert(key.name, value),
            Ok(None) => {}
            Err(complaint) => complaints.push(complaint),
        }
    }
    let (mut unknown, mut directives) = (Vec::new(), Vec::new());
    let mut others = Given::new();
    for (name, value) in given.iter().filter(|(name, _)| keys::find(name).is_none()) {
        if !is_dynamic(name) {
            unknown.push(name.as_str());
            continue;
        }
        if block_of(name).is_some_and(|(block, directive)| !is_acted_on(block, directive)) && value != "NONE" {
            directives.push(name.as_str());
        }
        others.insert(name.clone(), value.clone());
    }
    for (what, names) in [
        ("unknown configuration properties are ignored", unknown),
        ("these nginx directives have no meaning here and are ignored", directives),
        ("these configuration properties have no effect in this version", without_effect),
    ] {
        if !names.is_empty() {
            warnings.push(format!("{what}: {}", names.join(", ")));
        }
    }
    (Loaded { values, others, given, warnings }, Complaints(complaints))
}

/// A user who sets this key so expects something that does not happen. What is off does not happen anyway, what is accepted for
/// compatibility needs no effect, and files often keep a Postgres connection that another `database` does not use.
fn is_missed(key: &Key, text: &str) -> bool {
    !key.acted_on && !matches!(text, "" | "off") && !key.doc.starts_with("Accepted for compatibility") && !key.name.starts_with("pg_")
}

/// Directives of the server and location blocks are those of the http block, where they are in the table.
fn is_acted_on(block: &str, directive: &str) -> bool {
    matches!(block, "proxy" | "location") && keys::find(&format!("nginx_http_{directive}")).is_some_and(|key| key.acted_on)
}

/// `key = value` lines; `#` starts a comment unless escaped; later lines win.
fn parse_file(text: &str, warnings: &mut Vec<String>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = without_comment(line);
        match line.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => pairs.push((key.trim().to_owned(), value.trim().to_owned())),
            _ if line.trim().is_empty() => {}
            _ => warnings.push(format!("line {} of the configuration is not 'key = value' and is ignored", number + 1)),
        }
    }
    pairs
}

fn without_comment(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '#' if out.ends_with('\\') => {
                out.pop();
                out.push('#');
            }
            '#' => break,
            _ => out.push(c),
        }
    }
    out
}

impl Loaded {
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(Value::as_str)
    }

    pub fn flag(&self, key: &str) -> bool {
        match self.values.get(key) {
            Some(Value::Bool(on)) => *on,
            Some(Value::String(text)) => text == "on",
            _ => false,
        }
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        self.values.get(key).and_then(Value::as_f64)
    }

    pub fn list(&self, key: &str) -> Vec<&str> {
        self.values.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The key and value of an nginx directive for proxied requests: the innermost block that sets it counts.
    pub fn directive(&self, name: &str) -> Option<(String, &str)> {
        let set = |(key, value): (String, Option<_>)| value.filter(|value| !matches!(*value, "NONE" | "")).map(|value| (key, value));
        let other = |block: &str| {
            let key = format!("nginx_{block}_{name}");
            let value = self.others.get(&key).map(String::as_str);
            (key, value)
        };
        let http = format!("nginx_http_{name}");
        let outer = self.text(&http);
        set(other("location")).or_else(|| set(other("proxy"))).or_else(|| set((http, outer)))
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
