//! What requests and responses say about caching. Pure: `now` is an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_plugin::Headers;

/// The directives of a `Cache-Control` header that matter here. A directive that wants seconds and has none is as if absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CacheControl {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub only_if_cached: bool,
    pub max_age: Option<f64>,
    pub s_maxage: Option<f64>,
    pub max_stale: Option<f64>,
    pub min_fresh: Option<f64>,
}

impl CacheControl {
    pub fn of(headers: &Headers) -> Self {
        let mut control = Self::default();
        for value in headers.get_all("cache-control") {
            for directive in value.split(|byte| *byte == b',') {
                control.read(&String::from_utf8_lossy(directive));
            }
        }
        control
    }

    fn read(&mut self, directive: &str) {
        let (name, value) = directive.trim().split_once('=').unwrap_or((directive.trim(), ""));
        let seconds = || value.trim().trim_matches('"').parse::<f64>().ok().filter(|seconds| seconds.is_finite());
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => self.max_age = seconds(),
            "s-maxage" => self.s_maxage = seconds(),
            "max-stale" => self.max_stale = seconds(),
            "min-fresh" => self.min_fresh = seconds(),
            _ => {}
        }
    }

    /// Seconds for which a response is fresh by its own account: `s-maxage`, `max-age`, then `Expires`.
    pub fn lifetime(&self, headers: &Headers, now: u64) -> f64 {
        let expires = || {
            let at = httpdate::parse_http_date(std::str::from_utf8(headers.get("expires")?).ok()?).ok()?;
            Some(seconds_of(at) - now as f64)
        };
        self.s_maxage.or(self.max_age).or_else(expires).unwrap_or(0.0).max(0.0)
    }

    /// Whether a kept response of this age and lifetime, in seconds, is what a request with these directives takes.
    pub fn takes(&self, age: f64, lifetime: f64) -> bool {
        self.max_age.is_none_or(|most| age <= most)
            && self.max_stale.is_none_or(|most| age - lifetime <= most)
            && self.min_fresh.is_none_or(|least| lifetime - age >= least)
    }
}

fn seconds_of(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A media type with its parameters: what is kept is chosen by it.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaType {
    kind: String,
    subtype: String,
    /// Sorted; names in lower case.
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// None for what is no media type.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let (kind, subtype) = parts.next()?.trim().split_once('/')?;
        let is_token =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte));
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut parameters = Vec::new();
        for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            parameters.push((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()));
        }
        parameters.sort_unstable();
        Some(Self { kind: kind.to_ascii_lowercase(), subtype: subtype.to_ascii_lowercase(), parameters })
    }

    /// Whether a response of type `other` is one of these: either half may be `*`, parameters have to be the same.
    pub fn covers(&self, other: &Self) -> bool {
        let half = |own: &str, other: &str| own == "*" || own == other;
        half(&self.kind, &other.kind) && half(&self.subtype, &other.subtype) && self.parameters == other.parameters
    }
}

/// Whether a kept header goes out again: not what belonged to the first connection, nor what rate limits had to tell then.
pub fn is_replayed(name: &[u8]) -> bool {
    const OF_THE_CONNECTION: [&[u8]; 9] = [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
    ];
    let lower = name.to_ascii_lowercase();
    !OF_THE_CONNECTION.contains(&lower.as_slice()) && !lower.windows(19).any(|part| part == b"ratelimit-remaining")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn control(value: &str) -> CacheControl {
        let mut headers = Headers::default();
        headers.append("Cache-Control", value.as_bytes());
        CacheControl::of(&headers)
    }

    #[test]
    fn lifetimes_go_by_the_shared_age_then_the_age_then_the_date() {
        let mut headers = Headers::default();
        headers.append("Expires", b"Thu, 01 Jan 1970 00:01:40 GMT");
        assert_eq!(control("max-age=7, S-MaxAge=5").lifetime(&headers, 0), 5.0);
        assert_eq!(control("public,max-age=\"7\"").lifetime(&headers, 0), 7.0);
        assert_eq!(control("max-age=soon").lifetime(&headers, 40), 60.0);
        assert_eq!(control("").lifetime(&headers, 200), 0.0);
        assert_eq!(control("").lifetime(&Headers::default(), 0), 0.0);
    }

    #[test]
    fn requests_say_how_old_a_response_may_be() {
        assert!(control("max-age=10").takes(10.0, 300.0));
        assert!(!control("max-age=10").takes(11.0, 300.0));
        assert!(control("max-stale=5").takes(305.0, 300.0));
        assert!(!control("max-stale=5").takes(306.0, 300.0));
        assert!(!control("min-fresh=20").takes(290.0, 300.0));
    }

    #[test]
    fn media_types_match_by_halves_and_all_parameters() {
        let covers = |own: &str, other: &str| MediaType::parse(own).unwrap().covers(&MediaType::parse(other).unwrap());
        assert!(covers("application/json; charset=utf-8", "Application/JSON;Charset=utf-8"));
        assert!(!covers("application/json", "application/json; charset=utf-8"));
        assert!(!covers("application/json; charset=utf-8", "application/json; charset=UTF-8"));
        assert!(covers("image/*", "image/png"));
        assert!(covers("*/*", "a/b"));
        assert_eq!(MediaType::parse("nonsense"), None);
        assert_eq!(MediaType::parse(""), None);
    }

    #[test]
    fn what_belongs_to_a_connection_or_a_limit_is_not_replayed() {
        for name in ["Connection", "Content-Length", "X-RateLimit-Remaining-Minute", "RateLimit-Remaining"] {
            assert!(!is_replayed(name.as_bytes()), "{name}");
        }
        assert!(is_replayed(b"X-RateLimit-Limit-Minute"));
        assert!(is_replayed(b"Set-Cookie"));
    }
}
