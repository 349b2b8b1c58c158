//! Reading the file and the environment (behaviour checklist 2.1).
//!
//! Precedence: defaults, the file, `KONG_*`, `PORTCULLIS_*`, what the command line gives. Every complaint is gathered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::keys::{ALIASES, KEYS, Key, Kind, SENSITIVE, find};

/// Where a file is looked for when none is named.
const PLACES: [&str; 4] = ["/etc/portcullis/portcullis.conf", "/etc/portcullis.conf", "/etc/kong/kong.conf", "/etc/kong.conf"];

/// What was read, checked key by key.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Every key that has a value, in its JSON type.
    pub values: BTreeMap<&'static str, Value>,
    /// `nginx_*` directives without a meaning here, and plugin servers' keys, as given.
    pub others: BTreeMap<String, String>,
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
    let mut given: BTreeMap<String, String> = parse_file(text).into_iter().collect();
    let (mut kong, mut own) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        if let Some(key) = name.strip_prefix("KONG_") {
            kong.push((key.to_ascii_lowercase(), value));
        } else if let Some(key) = name.strip_prefix("PORTCULLIS_") {
            own.push((key.to_ascii_lowercase(), value));
        }
    }
    given.extend(kong);
    given.extend(own);
    given.extend(overrides.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));

    let mut loaded = Loaded::default();
    for (old, new) in ALIASES {
        if let Some(value) = given.remove(*old) {
            loaded.warnings.push(format!("the '{old}' configuration property is deprecated, use '{new}' instead"));
            given.entry((*new).to_owned()).or_insert(value);
        }
    }
    let mut complaints = Vec::new();
    for key in KEYS {
        let text = given.remove(key.name);
        match value_of(key, text.as_deref().unwrap_or(key.default).trim()) {
            Ok(Some(value)) => _ = loaded.values.insert(key.name, value),
            Ok(None) => {}
            Err(complaint) => complaints.push(complaint),
        }
    }
    for (name, value) in given {
        if name.starts_with("nginx_") || name.starts_with("pluginserver_") || name.starts_with("vault_") {
            if name.starts_with("nginx_") {
                loaded.warnings.push(format!("'{name}' has no meaning here and is ignored"));
            }
            loaded.others.insert(name, value);
        } else {
            loaded.warnings.push(format!("unknown configuration property '{name}' is ignored"));
        }
    }
    (loaded, Complaints(complaints))
}

/// `key = value` lines; `#` starts a comment unless escaped; later lines win.
fn parse_file(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for line in text.lines() {
        let line = without_comment(line);
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.trim();
        if !key.is_empty() {
            pairs.push((key.to_owned(), value.trim().to_owned()));
        }
    }
    pairs
}

fn without_comment(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut before = None;
    for c in line.chars() {
        match (c, before) {
            ('#', Some('\\')) => {
                out.pop();
                out.push('#');
            }
            // A hash within a word (a password, a URL's fragment) is part of it.
            ('#', None | Some(' ' | '\t')) => break,
            _ => out.push(c),
        }
        before = Some(c);
    }
    out
}

/// The value in its JSON type; none when it is not set.
fn value_of(key: &Key, text: &str) -> Result<Option<Value>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let text = dereference(key, text)?;
    let value = match key.kind {
        Kind::Text => text.into(),
        Kind::Number => {
            let number: f64 = text.parse().map_err(|_| format!("{} is not a number: '{text}'", key.name))?;
            if !number.is_finite() {
                return Err(format!("{} is not a number: '{text}'", key.name));
            }
            if number.fract() == 0.0 { Value::from(number as i64) } else { Value::from(number) }
        }
        Kind::Boolean => Value::Bool(matches!(text.as_str(), "on" | "true")),
        Kind::OnOff => if matches!(text.as_str(), "on" | "true") { "on" } else { "off" }.into(),
        Kind::List => text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect(),
        Kind::OneOf(words) => {
            if !words.contains(&text.as_str()) {
                let words = words.join(", ");
                return Err(format!("{} has an invalid value: '{text}' ({words})", key.name));
            }
            text.into()
        }
    };
    Ok(Some(value))
}

/// `{vault://env/NAME}`: the environment variable of that name (behaviour checklist 14).
fn dereference(key: &Key, text: &str) -> Result<String, String> {
    let Some(reference) = text.strip_prefix("{vault://").and_then(|rest| rest.strip_suffix('}')) else { return Ok(text.to_owned()) };
    let failed = |reason: String| format!("failed to dereference '{text}': {reason} for config option '{}'", key.name);
    let Some(name) = reference.strip_prefix("env/") else {
        let vault = reference.split('/').next().unwrap_or_default();
        return Err(failed(format!("could not find vault ({vault})")));
    };
    let variable = name.trim_end_matches('/').to_ascii_uppercase().replace('-', "_");
    std::env::var(&variable).map_err(|_| failed("could not get value from external vault (no value found)".to_owned()))
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

    /// As `GET /` shows it: every key, secrets masked.
    pub fn shown(&self) -> serde_json::Map<String, Value> {
        let mut shown = serde_json::Map::new();
        for (name, value) in &self.values {
            let value = if SENSITIVE.contains(name) { "******".into() } else { value.clone() };
            // Kong's encoder writes empty lists as objects.
            let value = if value.as_array().is_some_and(Vec::is_empty) { Value::Object(Default::default()) } else { value };
            shown.insert((*name).to_owned(), value);
        }
        for key in KEYS.iter().filter(|key| key.kind == Kind::List) {
            shown.entry(key.name).or_insert_with(|| Value::Object(Default::default()));
        }
        for (old, new) in ALIASES {
            if let Some(value) = self.values.get(new).filter(|_| find(new).is_some()) {
                shown.insert((*old).to_owned(), value.clone());
            }
        }
        for (name, value) in &self.others {
            shown.insert(name.clone(), value.clone().into());
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_goes_before_the_file_and_our_own_names_before_kongs() {
        let file = "log_level = info # a comment\npg_password = a\\#b\nplugins=bundled , mine\n";
        let environment = env(&[("KONG_LOG_LEVEL", "warn"), ("PORTCULLIS_LOG_LEVEL", "error"), ("KONG_DNS_STALE_TTL", "4")]);
        let (loaded, _) = load(file, environment, &[("prefix", "/tmp/x".to_owned())]);
        assert_eq!(loaded.text("log_level"), Some("error"));
        assert_eq!(loaded.text("pg_password"), Some("a#b"));
        assert_eq!(loaded.list("plugins"), ["bundled", "mine"]);
        assert_eq!(loaded.number("dns_stale_ttl"), Some(4.0));
        assert_eq!(loaded.text("prefix"), Some("/tmp/x"));
        assert_eq!(loaded.shown()["pg_password"], "******");
    }

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let (_, Complaints(complaints)) = load("log_level=loud\ndatabase=mysql\npg_port=x\n", [], &[]);
        assert_eq!(
            complaints,
            [
                "log_level has an invalid value: 'loud' (debug, info, notice, warn, error, crit, alert, emerg)",
                "database has an invalid value: 'mysql' (embedded, postgres, cassandra, off)",
                "pg_port is not a number: 'x'",
            ]
        );
    }

    #[test]
    fn unknown_and_deprecated_keys_are_warned_about() {
        let (loaded, _) = load("nonsense = 1\nnginx_worker_processes = 2\nnginx_http_gzip = on\n", [], &[]);
        assert_eq!(loaded.text("nginx_main_worker_processes"), Some("2"));
        assert_eq!(loaded.warnings.len(), 3);
        assert_eq!(loaded.others.get("nginx_http_gzip").map(String::as_str), Some("on"));
    }

    #[test]
    fn an_empty_value_unsets_a_default() {
        assert_eq!(load("", env(&[("KONG_DNS_STALE_TTL", "")]), &[]).0.number("dns_stale_ttl"), None);
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic() {
        let mut state = 1u64;
        for _ in 0..2000 {
            let mut text = String::new();
            for _ in 0..state % 80 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let choices = ["=", "#", "\n", "log_level", " ", "\\", "{vault://", "}", "ü", "\0", "proxy_listen", ","];
                text.push_str(choices[(state >> 40) as usize % choices.len()]);
            }
            state = state.wrapping_add(77);
            let _ = load(&text, [], &[]);
        }
    }
}
