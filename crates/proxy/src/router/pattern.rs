//! Regexes of paths and headers.

use std::sync::OnceLock;

use regex::Regex;
use tracing::error;

use super::route::Span;
use super::{Capture, Captures};

/// How many steps back a regex with look-around or back-references may take on one text.
const MOST_STEPS: usize = 100_000;

/// A regex that has been parsed, and is compiled when a request first needs it: tens of thousands of regex routes would
/// otherwise take seconds and gigabytes at start.
#[derive(Debug)]
pub(super) struct LazyRegex {
    pattern: Box<str>,
    /// What every match starts with, at the start of the text.
    pub(super) literal: Box<[u8]>,
    backtracks: bool,
    compiled: OnceLock<Option<Compiled>>,
}

#[derive(Debug)]
pub(super) enum Compiled {
    Linear(Regex),
    /// With look-around, back-references or other things that take a way back.
    Backtracking(Box<fancy_regex::Regex>),
}

impl LazyRegex {
    /// Reads a pattern. With `may_backtrack`, also one that no linear engine understands.
    pub(super) fn parse(pattern: String, may_backtrack: bool) -> Result<Self, Box<regex_syntax::Error>> {
        let (literal, backtracks) = match regex_syntax::parse(&pattern) {
            Ok(hir) => (literal_prefix(&hir), false),
            Err(_) if may_backtrack && fancy_regex::Expr::parse_tree(&pattern).is_ok() => (Vec::new(), true),
            Err(error) => return Err(Box::new(error)),
        };
        Ok(Self { pattern: pattern.into(), literal: literal.into(), backtracks, compiled: OnceLock::new() })
    }

    pub(super) fn get(&self) -> Option<&Compiled> {
        self.compiled.get_or_init(|| self.compile().inspect_err(|error| error!(error, "route regex cannot be used")).ok()).as_ref()
    }

    fn compile(&self) -> Result<Compiled, String> {
        if !self.backtracks {
            return Regex::new(&self.pattern).map(Compiled::Linear).map_err(|error| error.to_string());
        }
        let built = fancy_regex::RegexBuilder::new(&self.pattern).backtrack_limit(MOST_STEPS).build();
        built.map(|regex| Compiled::Backtracking(Box::new(regex))).map_err(|error| error.to_string())
    }
}

impl Compiled {
    pub(super) fn find(&self, text: &str) -> Option<Span> {
        match self {
            Self::Linear(regex) => regex.find(text).map(|found| Span { start: found.start(), len: found.len() }),
            Self::Backtracking(regex) => match regex.find(text) {
                Ok(found) => found.map(|found| Span { start: found.start(), len: found.end() - found.start() }),
                Err(error) => {
                    error!(%error, regex = regex.as_str(), "route regex gave up");
                    None
                }
            },
        }
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.find(text).is_some()
    }

    /// What the groups catch; none if there are no groups.
    pub(super) fn captures(&self, text: &str) -> Option<Captures> {
        let capture = |name: Option<&str>, value: Option<&str>| Capture { name: name.map(Into::into), value: value.map(Into::into) };
        let groups: Vec<Capture> = match self {
            Self::Linear(regex) if regex.captures_len() > 1 => {
                let caught = regex.captures(text)?;
                regex.capture_names().zip(caught.iter()).map(|(name, found)| capture(name, found.map(|found| found.as_str()))).collect()
            }
            Self::Backtracking(regex) if regex.captures_len() > 1 => {
                let caught = regex.captures(text).ok()??;
                regex.capture_names().zip(caught.iter()).map(|(name, found)| capture(name, found.map(|found| found.as_str()))).collect()
            }
            _ => return None,
        };
        Some(Captures { groups })
    }
}

/// The bytes that every match starts with if it has to be at the start of the text, else none.
pub(super) fn literal_prefix(hir: &regex_syntax::hir::Hir) -> Vec<u8> {
    // `^` binds closer than `|`: of `^/a|/b` the second half may match anywhere.
    if !hir.properties().look_set_prefix().contains(regex_syntax::hir::Look::Start) {
        return Vec::new();
    }
    let literals = regex_syntax::hir::literal::Extractor::new().extract(hir);
    literals.longest_common_prefix().map(<[u8]>::to_vec).unwrap_or_default()
}
