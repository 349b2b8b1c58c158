//! Secrets that configuration refers to: `{vault://env/my-secret}` (behaviour checklist 14).
//!
//! Stores and the Admin API keep the reference; [`Vaults::fill`] puts the secret in its place when an entity is compiled for
//! serving. Environment variables don't change while a process lives, so nothing has to be refreshed: `ttl`, `neg_ttl` and
//! `resurrect_ttl` are accepted and mean nothing here. An edited vault entity is another matter, see the snapshot's builder.
//!
//! - `reference.rs`: a reference taken apart, and environment variables

mod reference;

use std::borrow::Cow;
use std::collections::HashMap;

use portcullis_entities::vaults::Vault;
use portcullis_schema::{Field, Kind, Record};
use serde_json::Value;
use tracing::warn;
use uuid::Uuid;

pub use reference::{Reference, is_reference};

/// The vaults that references may name: the strategies that are built in, and entities by their prefix.
#[derive(Clone, Debug, Default)]
pub struct Vaults {
    /// `vault_env_prefix`.
    env_prefix: String,
    by_prefix: HashMap<String, Vault>,
}

impl Vaults {
    /// `env_prefix` goes before the names of environment variables.
    pub fn new(env_prefix: &str) -> Self {
        Self { env_prefix: env_prefix.to_owned(), by_prefix: HashMap::new() }
    }

    /// The same settings without any entity.
    pub fn emptied(&self) -> Self {
        Self::new(&self.env_prefix)
    }

    pub fn insert(&mut self, vault: Vault) {
        self.remove(vault.id);
        self.by_prefix.insert(vault.prefix.clone(), vault);
    }

    pub fn remove(&mut self, id: Uuid) {
        self.by_prefix.retain(|_, vault| vault.id != id);
    }

    /// The secret that a reference stands for. Errors with Kong's text.
    pub fn resolve(&self, reference: &str) -> Result<String, String> {
        self.resolve_with(reference, |name| std::env::var(name).ok())
    }

    fn resolve_with(&self, reference: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let reference = Reference::parse(reference)?;
        let Some(vault) = self.by_prefix.get(&reference.vault) else {
            return reference.resolve(&self.env_prefix, lookup);
        };
        if vault.name != "env" {
            return Err(format!("could not find vault ({})", vault.name));
        }
        let own = vault.config.get("prefix").and_then(Value::as_str);
        reference.resolve_in_environment(own.unwrap_or(&self.env_prefix), lookup)
    }

    /// Puts secrets in the place of references in every field that may hold one. What can't be resolved becomes empty, with a
    /// line in the log.
    pub fn fill(&self, fields: &[(Cow<'static, str>, Field)], record: &mut Record) {
        for (name, value) in record.iter_mut() {
            if let Some((_, field)) = fields.iter().find(|(own, _)| own == name) {
                self.fill_value(field, value);
            }
        }
    }

    /// As [`Vaults::fill`], for one value.
    pub fn fill_value(&self, field: &Field, value: &mut Value) {
        if field.referenceable
            && let Some(text) = value.as_str().filter(|text| is_reference(text))
        {
            let secret = self.resolve(text).unwrap_or_else(|error| {
                warn!(reference = text, %error, "error updating secret reference");
                String::new()
            });
            *value = typed(&field.kind, secret);
            return;
        }
        match (&field.kind, value) {
            (Kind::Array(inner) | Kind::Set(inner), Value::Array(list)) => list.iter_mut().for_each(|value| self.fill_value(inner, value)),
            (Kind::Map { values, .. }, Value::Object(entries)) => entries.values_mut().for_each(|value| self.fill_value(values, value)),
            (Kind::Record(inner), Value::Object(entries)) => self.fill(&inner.fields, entries),
            _ => {}
        }
    }
}

/// A secret is text; a field of another kind takes what the text says.
fn typed(kind: &Kind, secret: String) -> Value {
    let parsed = match kind {
        Kind::Integer | Kind::Number | Kind::Boolean => serde_json::from_str::<Value>(secret.trim()).ok(),
        _ => None,
    };
    match (kind, parsed) {
        (Kind::Integer | Kind::Number, Some(Value::Number(number))) => Value::Number(number),
        (Kind::Boolean, Some(Value::Bool(flag))) => Value::Bool(flag),
        (Kind::Integer | Kind::Number | Kind::Boolean, _) => Value::Null,
        _ => Value::String(secret),
    }
}

/// Whether a reference stands anywhere in the record. Cheap: only the beginnings of texts are looked at.
pub fn has_references(record: &Record) -> bool {
    fn within(value: &Value) -> bool {
        match value {
            Value::String(text) => is_reference(text),
            Value::Array(list) => list.iter().any(within),
            Value::Object(entries) => has_references(entries),
            _ => false,
        }
    }
    record.values().any(within)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portcullis_schema::build::{array, integer, map, record_of, string};
    use serde_json::json;

    fn vault(prefix: &str, config: Value) -> Vault {
        serde_json::from_value(json!({ "id": Uuid::from_u128(prefix.len() as u128), "prefix": prefix, "name": "env", "config": config }))
            .unwrap()
    }

    fn lookup(name: &str) -> Option<String> {
        [("APP_TOKEN", "t0ken"), ("TOKEN", "plain"), ("GLOBAL_TOKEN", "global")]
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_vault_entity_brings_its_prefix_and_the_reference_may_bring_another() {
        let mut vaults = Vaults::new("global_");
        vaults.insert(vault("app", json!({ "prefix": "app_" })));
        vaults.insert(vault("bare", json!({})));
        let resolve = |reference: &str| vaults.resolve_with(reference, lookup);
        assert_eq!(resolve("{vault://app/token}").unwrap(), "t0ken");
        assert_eq!(resolve("{vault://bare/token}").unwrap(), "global");
        assert_eq!(resolve("{vault://env/token}").unwrap(), "global");
        assert_eq!(resolve("{vault://app/token?prefix=}").unwrap(), "plain");
        assert_eq!(resolve("{vault://gone/token}").unwrap_err(), "could not find vault (gone)");
    }

    #[test]
    fn only_fields_that_may_hold_a_reference_are_filled() {
        let path = std::env::var("PATH").unwrap();
        let fields: Vec<(Cow<'static, str>, Field)> = vec![
            ("secret".into(), string().referenceable()),
            ("plain".into(), string()),
            ("list".into(), array(string().referenceable())),
            ("headers".into(), map(string(), string().referenceable())),
            ("inner".into(), record_of(vec![("absent", string().referenceable()), ("port", integer().referenceable())], Vec::new())),
        ];
        let reference = "{vault://env/path}";
        let value = json!({
            "secret": reference, "plain": reference, "list": ["x", reference], "headers": { "a": reference },
            "inner": { "absent": "{vault://env/surely-not-set-anywhere}", "port": "{vault://env/path}" },
        });
        let Value::Object(mut record) = value else { unreachable!() };
        assert!(has_references(&record));
        Vaults::default().fill(&fields, &mut record);
        let expected = json!({
            "secret": path, "plain": reference, "list": ["x", path], "headers": { "a": path },
            "inner": { "absent": "", "port": null },
        });
        assert_eq!(Value::Object(record), expected);
    }
}
