//! Which origins are allowed.
//!
//! Kong tells three kinds of lists apart: none or a lone `*` (everybody); one plain origin (always named, whoever asks);
//! anything else (the asking origin is compared, and named if it fits).

use std::borrow::Cow;

use portcullis_plugin::Result;
use regex::bytes::Regex;

/// The configured origins, compiled.
pub enum Origins {
    /// None, or a lone `*`.
    Everybody,
    /// One plain origin.
    One(Box<[u8]>),
    Several {
        /// `*` is among them.
        everybody: bool,
        patterns: Vec<Pattern>,
    },
}

/// Something an asking origin may fit.
pub enum Pattern {
    /// `scheme://host[:port]`, the scheme's own port left out.
    Plain(Box<[u8]>),
    /// Fits the whole origin, or its host if the expression has no colon.
    Regex { regex: Regex, by_host: bool },
}

/// What the response says of the asking origin.
#[derive(Debug, PartialEq, Eq)]
pub enum Allowed<'a> {
    All,
    Origin(Cow<'a, [u8]>),
    None,
}

impl Origins {
    pub fn new(entries: Vec<String>) -> Result<Self> {
        match entries.as_slice() {
            [] => return Ok(Origins::Everybody),
            [star] if star == "*" => return Ok(Origins::Everybody),
            [plain] if is_plain(plain) => return Ok(Origins::One(plain.as_bytes().into())),
            _ => {}
        }
        let everybody = entries.iter().any(|entry| entry == "*");
        let patterns = entries.iter().filter(|entry| *entry != "*").map(|entry| Pattern::new(entry)).collect::<Result<_>>()?;
        Ok(Origins::Several { everybody, patterns })
    }

    /// Whether responses differ by origin, so that caches must keep them apart.
    pub fn vary(&self) -> bool {
        !matches!(self, Origins::Everybody)
    }

    /// What to say to a request with this `Origin` header.
    pub fn allowed<'a>(&'a self, origin: Option<&'a [u8]>) -> Allowed<'a> {
        match (self, origin) {
            (Origins::Everybody, _) => Allowed::All,
            (Origins::One(one), _) => Allowed::Origin(Cow::Borrowed(one)),
            (Origins::Several { .. }, None) => Allowed::None,
            (Origins::Several { everybody: true, .. }, _) => Allowed::All,
            (Origins::Several { patterns, .. }, Some(origin)) => {
                let (whole, host) = normalize(origin);
                let fits = patterns.iter().any(|pattern| match pattern {
                    Pattern::Plain(plain) => **plain == *whole,
                    Pattern::Regex { regex, by_host: true } => regex.is_match(host),
                    Pattern::Regex { regex, by_host: false } => regex.is_match(&whole),
                });
                if fits { Allowed::Origin(whole) } else { Allowed::None }
            }
        }
    }
}

impl Pattern {
    fn new(entry: &str) -> Result<Self> {
        if is_plain(entry) {
            return Ok(Pattern::Plain(normalize(entry.as_bytes()).0.into()));
        }
        // Fits from the start to the end, whether or not it says so itself.
        let body = entry.strip_prefix('^').unwrap_or(entry);
        let end = if body.ends_with('$') { "" } else { "$" };
        let regex = Regex::new(&format!("^(?:{body}{end})"))?;
        Ok(Pattern::Regex { regex, by_host: !entry.contains(':') })
    }
}

/// Nothing in it that would make it a regular expression.
fn is_plain(entry: &str) -> bool {
    !entry.is_empty() && entry.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'/' | b'-'))
}

/// An origin as `scheme://host[:port]` without the scheme's own port, and its host. What is no URL stays as it is.
fn normalize(origin: &[u8]) -> (Cow<'_, [u8]>, &[u8]) {
    let as_is = (Cow::Borrowed(origin), origin);
    let Some(at) = origin.windows(3).position(|three| three == b"://") else { return as_is };
    let (scheme, rest) = (&origin[..at], &origin[at + 3..]);
    let authority = &rest[..rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len())];
    let authority = authority.rsplit(|byte| *byte == b'@').next().unwrap_or(authority);
    // A colon inside brackets belongs to an IPv6 address.
    let colon = authority.iter().rposition(|byte| matches!(byte, b':' | b']')).filter(|at| authority[*at] == b':');
    let (host, port) = match colon {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    };
    if host.is_empty() {
        return as_is;
    }
    let port = port.filter(|port| !matches!((scheme, *port), (b"http", b"80") | (b"https", b"443")));
    let length = at + 3 + host.len() + port.map_or(0, |port| port.len() + 1);
    if length == origin.len() {
        return (Cow::Borrowed(origin), host);
    }
    let mut whole = Vec::with_capacity(length);
    whole.extend_from_slice(&origin[..at + 3]);
    whole.extend_from_slice(host);
    if let Some(port) = port {
        whole.push(b':');
        whole.extend_from_slice(port);
    }
    (Cow::Owned(whole), host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn origins(entries: &[&str]) -> Origins {
        Origins::new(entries.iter().map(|entry| (*entry).to_owned()).collect()).unwrap()
    }

    fn allows(entries: &[&str], origin: &str) -> Option<String> {
        match origins(entries).allowed(Some(origin.as_bytes())) {
            Allowed::All => Some("*".to_owned()),
            Allowed::Origin(origin) => Some(String::from_utf8(origin.into_owned()).unwrap()),
            Allowed::None => None,
        }
    }

    #[test]
    fn one_plain_origin_is_named_whoever_asks() {
        assert_eq!(allows(&["https://one.test"], "https://other.test").as_deref(), Some("https://one.test"));
        assert_eq!(origins(&["https://one.test"]).allowed(None), Allowed::Origin(b"https://one.test".into()));
    }

    #[test]
    fn several_are_compared_without_the_schemes_own_port() {
        let two = ["https://one.test:443", "http://two.test:8080"];
        assert_eq!(allows(&two, "https://one.test").as_deref(), Some("https://one.test"));
        assert_eq!(allows(&two, "https://one.test:443").as_deref(), Some("https://one.test"));
        assert_eq!(allows(&two, "http://two.test:8080").as_deref(), Some("http://two.test:8080"));
        assert_eq!(allows(&two, "http://two.test"), None);
        assert_eq!(allows(&two, "http://one.test"), None);
        assert_eq!(allows(&two, "null"), None);
        assert_eq!(origins(&two).allowed(None), Allowed::None);
    }

    #[test]
    fn expressions_without_a_colon_fit_the_host() {
        assert_eq!(allows(&[r".*\.reg\.test"], "https://one.reg.test").as_deref(), Some("https://one.reg.test"));
        assert_eq!(allows(&[r".*\.reg\.test"], "https://one.reg.test.evil"), None);
        assert_eq!(allows(&[r"reg\.test"], "https://one.reg.test"), None);
        assert_eq!(allows(&[r"^https://.*\.reg\.test(:\d+)?$"], "https://one.reg.test:8443").as_deref(), Some("https://one.reg.test:8443"));
        assert_eq!(allows(&[r"https?://a\.test", r"https://b\.test"], "http://b.test"), None);
    }

    #[test]
    fn a_star_among_others_allows_everybody_who_asks() {
        assert_eq!(allows(&["https://x.test", "*"], "https://any.test").as_deref(), Some("*"));
        assert_eq!(origins(&["https://x.test", "*"]).allowed(None), Allowed::None);
        assert!(origins(&["https://x.test", "*"]).vary());
    }

    #[test]
    fn everybody_is_the_default() {
        assert_eq!(allows(&[], "https://any.test").as_deref(), Some("*"));
        assert_eq!(origins(&["*"]).allowed(None), Allowed::All);
        assert!(!origins(&["*"]).vary());
    }
}
