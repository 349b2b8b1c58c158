//! Flags as Kong's commands take them: `-c FILE`, `--conf FILE`, `--conf=FILE`, `--v`.

use std::collections::BTreeMap;

/// Flags that take a value: long name and short one.
const VALUED: [(&str, Option<&str>); 10] = [
    ("conf", Some("c")),
    ("prefix", Some("p")),
    ("nginx-conf", None),
    ("nginx-conf-flags", None),
    ("timeout", Some("t")),
    ("wait", Some("w")),
    ("db-timeout", None),
    ("lock-timeout", None),
    ("days", Some("d")),
    ("node", None),
];

/// Flags that stand alone.
const PLAIN: [(&str, Option<&str>); 8] = [
    ("v", None),
    ("vv", None),
    ("help", Some("h")),
    ("all", Some("a")),
    ("yes", Some("y")),
    ("quiet", Some("q")),
    ("force", Some("f")),
    ("run-migrations", None),
];

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pub positional: Vec<String>,
    values: BTreeMap<&'static str, String>,
    flags: Vec<&'static str>,
}

impl Arguments {
    /// Errors with one line about the first argument that does not fit.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (name, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            let matches = |(long, short): &(&'static str, Option<&'static str>)| {
                name.strip_prefix("--") == Some(*long) || short.is_some_and(|short| name.strip_prefix('-') == Some(short))
            };
            if !argument.starts_with('-') || argument == "-" {
                parsed.positional.push(argument.clone());
            } else if let Some((long, _)) = VALUED.iter().find(|flag| matches(flag)) {
                let value = inline.or_else(|| rest.next().cloned()).ok_or_else(|| format!("{name}: a value is expected"))?;
                parsed.values.insert(long, value);
            } else if let Some((long, _)) = PLAIN.iter().find(|flag| matches(flag)) {
                parsed.flags.push(long);
            } else {
                return Err(format!("{name}: unknown option"));
            }
        }
        Ok(parsed)
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.flags.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Arguments, String> {
        Arguments::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn long_short_and_inline_forms_mean_the_same() {
        for text in ["-c a.conf --vv", "--conf a.conf --vv", "--vv --conf=a.conf"] {
            let arguments = parse(text).unwrap();
            assert_eq!((arguments.value("conf"), arguments.flag("vv")), (Some("a.conf"), true), "{text}");
        }
        assert_eq!(parse("parse kong.yml").unwrap().positional, ["parse", "kong.yml"]);
        assert!(parse("-c").is_err());
        assert!(parse("--nonsense").is_err());
    }
}
