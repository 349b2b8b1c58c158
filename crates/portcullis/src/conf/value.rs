//! From the text of a key to its value.

use serde_json::Value;

use super::keys::{Key, Kind};
use super::vault::{Reference, is_reference};

/// Replaces references by the secrets they name.
pub struct Secrets<'a> {
    /// `vault_env_prefix`.
    pub prefix: &'a str,
    /// Environment variables by name.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
}

/// The value in its JSON type; none when it is not set.
///
/// Errors with Kong's text.
pub fn value_of(key: &Key, text: &str, secrets: &Secrets<'_>) -> Result<Option<Value>, String> {
    let text = text.trim();
    if key.kind == Kind::List {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        return parts.map(|part| secrets.reveal(key, part).map(Value::from)).collect::<Result<Vec<_>, _>>().map(|parts| {
            let set = !parts.is_empty();
            set.then_some(Value::Array(parts))
        });
    }
    let text = secrets.reveal(key, text)?;
    if text.is_empty() {
        return match key.kind {
            // An enumeration has no word for "not set".
            Kind::OneOf(words) if !key.default.is_empty() => Err(wrong_word(key, "nil", words)),
            _ => Ok(None),
        };
    }
    Ok(Some(match key.kind {
        Kind::Text | Kind::List => text.into(),
        Kind::Number => number(&text).ok_or_else(|| format!("{} is not a {}: '{text}'", key.name, key.kind.name()))?,
        Kind::Boolean => Value::Bool(matches!(text.as_str(), "on" | "true")),
        Kind::OnOff => if text == "on" { "on" } else { "off" }.into(),
        Kind::OneOf(words) if !words.contains(&text.as_str()) => return Err(wrong_word(key, &text, words)),
        Kind::OneOf(_) => text.into(),
    }))
}

fn wrong_word(key: &Key, text: &str, words: &[&str]) -> String {
    format!("{} has an invalid value: '{text}' ({})", key.name, words.join(", "))
}

fn number(text: &str) -> Option<Value> {
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    // Whole numbers up to 2^53 are shown without a fraction.
    let whole = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    Some(if whole { Value::from(number as i64) } else { Value::from(number) })
}

impl Secrets<'_> {
    fn reveal(&self, key: &Key, text: &str) -> Result<String, String> {
        if !is_reference(text) {
            return Ok(text.to_owned());
        }
        Reference::parse(text)
            .and_then(|reference| reference.resolve(self.prefix, self.lookup))
            .map_err(|problem| format!("failed to dereference '{text}': {problem} for config option '{}'", key.name))
    }
}
