//! Regular expressions that users write for text that strangers send.
//!
//! What the linear engine knows runs there. Look-around and back-references, which Kong's PCRE has too, run with a bound on their
//! steps: a text on which an expression would not come to an end is an error, not a stalled worker.

use portcullis_plugin::Result;

/// Steps of an expression with look-around before it is given up on: some milliseconds.
const MOST_STEPS: usize = 100_000;

pub enum Pattern {
    Linear(regex::Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self> {
        match regex::Regex::new(text) {
            Ok(regex) => Ok(Self::Linear(regex)),
            Err(_) => Ok(Self::Backtracking(Box::new(fancy_regex::RegexBuilder::new(text).backtrack_limit(MOST_STEPS).build()?))),
        }
    }

    /// Errors when the bound on steps is met.
    pub fn matches(&self, text: &str) -> Result<bool> {
        match self {
            Self::Linear(regex) => Ok(regex.is_match(text)),
            Self::Backtracking(regex) => Ok(regex.is_match(text)?),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn look_around_is_known_and_comes_to_an_end() {
        let pattern = Pattern::new("^(?!.*secret).*$").unwrap();
        assert!(pattern.matches("tell me a story").unwrap());
        assert!(!pattern.matches("tell me the secret").unwrap());
        let slow = Pattern::new(r"(?=x)(x+x+)+\1y").unwrap();
        assert!(slow.matches(&"x".repeat(60)).is_err());
        assert!(Pattern::new("(").is_err());
    }
}
