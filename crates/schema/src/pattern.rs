//! Compiled patterns of rules. Rules spell them as static text, so what is kept here is bounded by the code itself.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use regex::Regex;

static COMPILED: LazyLock<RwLock<HashMap<&'static str, Option<Regex>>>> = LazyLock::new(Default::default);

/// Whether `text` matches. A pattern that does not compile matches nothing; a test walks all of them.
pub fn matches(pattern: &'static str, text: &str) -> bool {
    if let Some(compiled) = COMPILED.read().unwrap_or_else(PoisonError::into_inner).get(pattern) {
        return compiled.as_ref().is_some_and(|regex| regex.is_match(text));
    }
    let compiled = Regex::new(pattern).ok();
    let answer = compiled.as_ref().is_some_and(|regex| regex.is_match(text));
    COMPILED.write().unwrap_or_else(PoisonError::into_inner).insert(pattern, compiled);
    answer
}
