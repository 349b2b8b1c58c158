//! Values of keys as types; what does not fit is gathered as complaints.

use std::time::Duration;

use portcullis_wire::listener::{Listen, parse_listens};

use super::load::Loaded;
use super::settings::PemPair;

pub struct Reader<'a> {
    pub loaded: &'a Loaded,
    pub complaints: Vec<String>,
}

impl Reader<'_> {
    pub fn listens(&mut self, key: &str) -> Vec<Listen> {
        match parse_listens(key, &self.loaded.list(key).join(", ")) {
            Ok(listens) => listens,
            Err(complaint) => {
                self.complaints.push(complaint);
                Vec::new()
            }
        }
    }

    /// The first configured pair: paths, PEM, or PEM in base64.
    pub fn certificate(&mut self, certificate: &str, key: &str) -> Option<PemPair> {
        let (certificates, keys) = (self.loaded.list(certificate), self.loaded.list(key));
        if certificates.is_empty() && keys.is_empty() {
            return None;
        }
        let complaint = match (certificates.len(), keys.len()) {
            (_, 0) => Some(format!("{key} must be specified")),
            (0, _) => Some(format!("{certificate} must be specified")),
            (some, other) if some != other => {
                Some(format!("{certificate} was specified {some} times while {key} was specified {other} times"))
            }
            _ => None,
        };
        if let Some(complaint) = complaint {
            self.complaints.push(complaint);
            return None;
        }
        Some(PemPair { certificate: self.pem(certificate, certificates[0])?, key: self.pem(key, keys[0])? })
    }

    /// The second configured pair, where there are two: of a key of another kind.
    pub fn second_certificate(&mut self, certificate: &str, key: &str) -> Option<PemPair> {
        let (certificates, keys) = (self.loaded.list(certificate), self.loaded.list(key));
        Some(PemPair { certificate: self.pem(certificate, certificates.get(1)?)?, key: self.pem(key, keys.get(1)?)? })
    }

    pub fn pem(&mut self, key: &str, value: &str) -> Option<String> {
        use base64::Engine;
        if value.contains("-----BEGIN") {
            return Some(value.to_owned());
        }
        if let Ok(text) = std::fs::read_to_string(value) {
            return Some(text);
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if decoded.as_deref().is_some_and(|text| text.contains("-----BEGIN")) {
            return decoded;
        }
        // What is neither a path nor PEM may be a mangled key: it goes into no terminal and no log.
        let (what, shown) =
            if key.ends_with("_key") && !value.starts_with(['/', '.']) { ("key", "******") } else { ("certificate", value) };
        self.complaints.push(format!("{key}: failed loading {what} from {shown}"));
        None
    }

    /// A key that is in no table: a directive of nginx, as a file or the environment gives it.
    pub fn other(&self, key: &str) -> Option<&str> {
        self.loaded.others.get(key).map(String::as_str)
    }

    pub fn template(&mut self, key: &str) -> Option<String> {
        let path = self.loaded.text(key)?;
        std::fs::read_to_string(path).inspect_err(|error| self.complaints.push(format!("{key}: {path}: {error}"))).ok()
    }

    /// A count that cannot be negative.
    pub fn whole(&mut self, key: &str, default: u64) -> u64 {
        match self.loaded.number(key) {
            None => default,
            Some(number) if number >= 0.0 => number as u64,
            Some(_) => {
                self.complaints.push(format!("{key} must be 0 or greater"));
                default
            }
        }
    }

    /// nginx' sizes: `8k`, `10m`, `1g`, bytes without a unit.
    pub fn size(&mut self, key: &str, default: u64) -> u64 {
        match self.loaded.text(key) {
            Some(text) => self.parse_size(key, text).unwrap_or(default),
            None => default,
        }
    }

    /// The size that an nginx directive for proxied requests sets.
    pub fn directive_size(&mut self, name: &str, default: u64) -> u64 {
        match self.loaded.directive(name) {
            Some((key, text)) => self.parse_size(&key, text).unwrap_or(default),
            None => default,
        }
    }

    fn parse_size(&mut self, key: &str, text: &str) -> Option<u64> {
        let size = parse_unit(text, &[("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("", 1)]);
        if size.is_none() {
            self.complaints.push(format!("{key} is not a size: '{text}'"));
        }
        size
    }

    /// The time that an nginx directive sets: `500ms`, `60s`, `1h`, seconds without a unit.
    ///
    /// Of `keepalive_timeout 75s 60s` the first counts, the second is what nginx would tell clients.
    pub fn directive_time(&mut self, name: &str, default_seconds: u64) -> Duration {
        let default = Duration::from_secs(default_seconds);
        let Some((key, text)) = self.loaded.directive(name) else { return default };
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("", 1000)];
        match text.split_whitespace().next().and_then(|first| parse_unit(first, &units)) {
            Some(milliseconds) => Duration::from_millis(milliseconds),
            None => {
                self.complaints.push(format!("{key} is not a time: '{text}'"));
                default
            }
        }
    }
}

fn parse_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    digits.parse::<u64>().ok()?.checked_mul(factor)
}
