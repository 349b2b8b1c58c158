//! A reference taken apart, and environment variables as the place of secrets.

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// What stands between `{vault://` and `}`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// A strategy, or the prefix of a vault entity.
    pub vault: String,
    pub resource: String,
    /// The member of a JSON object that is wanted, instead of the whole value.
    pub key: Option<String>,
    pub version: Option<i64>,
    /// `?name=value` pairs.
    pub options: Vec<(String, String)>,
}

/// Whether a text is meant to be a reference.
pub fn is_reference(text: &str) -> bool {
    text.starts_with("{vault://") && text.ends_with('}')
}

impl Reference {
    /// Errors with Kong's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix("{vault://").and_then(|rest| rest.strip_suffix('}'));
        let inner = inner.filter(|inner| !inner.is_empty()).ok_or_else(|| format!("not a reference [{text}]"))?;
        let wrong = |problem: &str| format!("reference url {problem} [{text}]");
        let (rest, version) = match inner.split_once('#') {
            Some((rest, version)) => (rest, Some(version.parse().map_err(|_| wrong("has invalid version"))?)),
            None => (inner, None),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (vault, path) = rest.split_once('/').ok_or_else(|| wrong("is missing path"))?;
        if vault.is_empty() {
            return Err(format!("not a reference [{text}]"));
        }
        if path.is_empty() {
            return Err(wrong("has empty path"));
        }
        let whole = path.ends_with('/');
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let (last, before) = parts.split_last().ok_or_else(|| wrong("has invalid path"))?;
        let (resource, key) = if before.is_empty() || whole { (parts.join("/"), None) } else { (before.join("/"), Some(last.clone())) };
        let options = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decode(name), decode(value)));
        Ok(Self { vault: decode(vault), resource, key, version, options: options.collect() })
    }

    /// The secret, from environment variables that `lookup` answers. `prefix` is `vault_env_prefix`.
    ///
    /// Errors with Kong's text.
    pub fn resolve(&self, prefix: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        if self.vault != "env" {
            return Err(format!("could not find vault ({})", self.vault));
        }
        self.resolve_in_environment(prefix, lookup)
    }

    /// As [`Reference::resolve`] where the vault named is known to be environment variables.
    pub fn resolve_in_environment(&self, prefix: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let prefix = self.options.iter().find(|(name, _)| name == "prefix").map_or(prefix, |(_, value)| value);
        let mut name = format!("{prefix}{}", self.resource).to_ascii_uppercase().replace('-', "_");
        if self.version == Some(2) {
            name.push_str("_PREVIOUS");
        }
        let value = lookup(&name).ok_or("could not get value from external vault (no value found)")?;
        match &self.key {
            None => Ok(value),
            Some(key) => member(&value, key).map_err(|problem| format!("could not get subfield value: {problem}")),
        }
    }
}

fn member(json: &str, key: &str) -> Result<String, String> {
    let value: Option<Value> = serde_json::from_str(json).ok();
    let kind = match value.as_ref().and_then(|value| value.get(key)) {
        Some(Value::String(text)) => return Ok(text.clone()),
        None | Some(Value::Null) => return Err(format!("subfield {key} not found in JSON secret")),
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "number",
        Some(Value::Array(_) | Value::Object(_)) => "table",
    };
    Err(format!("unexpected {kind} value in JSON secret for subfield {key}"))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolve(text: &str) -> Result<String, String> {
        let environment = [("MY_SECRET", "s3cret"), ("MY_SECRET_PREVIOUS", "old"), ("DB", r#"{"user":"kong","port":5432}"#)];
        Reference::parse(text)?.resolve("", |name| environment.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn names_versions_and_members_are_found() {
        assert_eq!(resolve("{vault://env/my-secret}").unwrap(), "s3cret");
        assert_eq!(resolve("{vault://env/secret?prefix=my-}").unwrap(), "s3cret");
        assert_eq!(resolve("{vault://env/my-secret#2}").unwrap(), "old");
        assert_eq!(resolve("{vault://env/my-secret/}").unwrap(), "s3cret");
        assert_eq!(resolve("{vault://env/db/user}").unwrap(), "kong");
    }

    #[test]
    fn what_cannot_be_found_is_said_in_kongs_words() {
        for (reference, problem) in [
            ("{vault://env/absent}", "could not get value from external vault (no value found)"),
            ("{vault://hcv/x}", "could not find vault (hcv)"),
            ("{vault://env/db/port}", "could not get subfield value: unexpected number value in JSON secret for subfield port"),
            ("{vault://env/db/nope}", "could not get subfield value: subfield nope not found in JSON secret"),
            ("{vault://env}", "reference url is missing path [{vault://env}]"),
            ("{vault://env/}", "reference url has empty path [{vault://env/}]"),
            ("{vault://env/x#y}", "reference url has invalid version [{vault://env/x#y}]"),
            ("env/x", "not a reference [env/x]"),
        ] {
            assert_eq!(resolve(reference).unwrap_err(), problem);
        }
    }
}
