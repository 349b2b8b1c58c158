//! Kong's shared field definitions (behaviour checklist 3.2), by the names Kong gives them.

use serde_json::Value;

use crate::build::{array, boolean, foreign, integer, map, number, record_of, set, string};
use crate::{Check, Field, address, pcre};

/// Applies a check on text; other kinds are the business of the kind check before it.
fn text(value: &Value, check: impl FnOnce(&str) -> Result<(), String>) -> Result<(), String> {
    value.as_str().map_or(Ok(()), check)
}

pub fn uuid() -> Field {
    string().uuid_text()
}
/// The `id` of every entity.
pub fn id() -> Field {
    uuid().auto()
}
/// Seconds since the epoch, set when a row is made or changed.
pub fn auto_timestamp() -> Field {
    integer().timestamp().auto()
}
/// Seconds since the epoch with milliseconds after the point.
pub fn auto_timestamp_ms() -> Field {
    number().timestamp().auto()
}
pub fn port() -> Field {
    integer().between(0, 65535)
}
/// Milliseconds.
pub fn timeout() -> Field {
    integer().between(0, 2147483646)
}
/// Seconds.
pub fn ttl() -> Field {
    number().between(0, 100_000_000)
}
/// Letters, digits, `.`, `-`, `_`, `~`.
pub fn name() -> Field {
    string().custom(|value| text(value, |name| check_name(name, false)))
}
/// A name that may also use characters beyond ASCII.
pub fn utf8_name() -> Field {
    string().custom(|value| text(value, |name| check_name(name, true)))
}
fn check_name(name: &str, beyond_ascii: bool) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~') || (beyond_ascii && !c.is_ascii());
    if name.chars().all(fits) {
        return Ok(());
    }
    Err(format!("invalid value '{name}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"))
}
/// Printable text without comma and slash.
pub fn tag() -> Field {
    string().custom(|value| text(value, check_tag))
}
/// Whether a text may be a tag; also asked of tags in URLs.
pub fn check_tag(tag: &str) -> Result<(), String> {
    let fits = |c: char| !c.is_ascii() || (matches!(c, ' '..='~') && c != ',' && c != '/');
    if tag.chars().all(fits) {
        return Ok(());
    }
    Err(format!("invalid tag '{tag}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"))
}
pub fn tags() -> Field {
    set(tag().required())
}
/// A host name or address without port.
pub fn host() -> Field {
    string().custom(|value| text(value, address::check_host))
}
pub fn host_with_optional_port() -> Field {
    string().custom(|value| text(value, |host| address::parse_host(host).map(drop)))
}
/// A host name of a TLS handshake.
pub fn sni() -> Field {
    string().custom(|value| text(value, address::check_sni))
}
/// A host name of a TLS handshake, with a wildcard at either end if wanted.
pub fn wildcard_host() -> Field {
    string().custom(|value| text(value, address::check_wildcard_host))
}
/// A host of a route: a wildcard for a whole label at either end if wanted, and a port.
pub fn host_with_wildcard() -> Field {
    string()
        .matches_or("^[^*]*%*?[^*]*$", r"^[^*]*\*?[^*]*$", "invalid wildcard: must have at most one wildcard")
        .matches_any(
            &[("^%*%.", r"^\*\."), ("%.%*$", r"\.\*$"), ("^[^*]*$", r"^[^*]*$")],
            Some("invalid wildcard: must be placed at leftmost or rightmost label"),
        )
        // Kong puts letters in the place of the star before it looks at the name.
        .custom(|value| text(value, |host| address::parse_host(&host.replace('*', "abc")).map(drop)))
}
/// A path of an upstream: starts with `/`, no empty segment, only characters of RFC 3986.
pub fn path() -> Field {
    string().starts_with("/").matches_none("//", "//", "must not have empty segments").custom(|value| text(value, address::check_path))
}
/// A path of a route: `/prefix` in normal form or `~/regex`.
pub fn router_path() -> Field {
    string()
        .required()
        .matches_none("//", "//", "must not have empty segments")
        .matches_any(&[("^/", "^/"), ("^~/", "^~/")], Some("should start with: / (fixed path) or ~/ (regex path)"))
        .len_min(1)
        .custom(|value| text(value, check_router_path))
}
fn check_router_path(path: &str) -> Result<(), String> {
    if let Some(pattern) = path.strip_prefix('~') {
        return router_regex(pattern)
            .map_or_else(|reason| Err(format!("invalid regex: '{pattern}' (PCRE returned: {reason})")), |_| Ok(()));
    }
    if let Some(code) = address::bad_percent(path) {
        return Err(format!("invalid url-encoded value: '{code}'"));
    }
    let normal = address::normalize_path(path);
    if normal == path.as_bytes() {
        return Ok(());
    }
    Err(format!("non-normalized path, consider use '{}' instead", String::from_utf8_lossy(&normal)))
}

/// Reads the regular expression of a route's path. `Ok(Err(reason))` is one that only backtracking engines understand: the
/// field takes it, the router (but for the traditional flavour) doesn't. Errors with the reason where none does.
pub fn router_regex(pattern: &str) -> Result<Result<(), String>, String> {
    if let Some(complaint) = pcre::complaint(pattern) {
        return Err(complaint);
    }
    let Err(error) = regex::Regex::new(pattern) else { return Ok(Ok(())) };
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    if reason.contains("look-around") || reason.contains("backreferences") { Ok(Err(reason)) } else { Err(reason) }
}
pub fn http_method() -> Field {
    string().matches("^%u+$", "^[A-Z]+$")
}
pub fn header_name() -> Field {
    string().custom(|value| text(value, check_header_name))
}
/// Whether a text may be the name of a header, in Kong's eyes.
pub fn check_header_name(name: &str) -> Result<(), String> {
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Ok(());
    }
    Err(format!("bad header name '{name}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"))
}
/// Header names with their values, `host` left out: routes match on these.
pub fn router_headers() -> Field {
    let names = header_name().matches_none(
        "^[Hh][Oo][Ss][Tt]$",
        "^(?i:host)$",
        "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
    );
    map(names, array(string()))
}
pub fn url() -> Field {
    string().custom(|value| text(value, check_url))
}
/// Whether a text is a URL with scheme and host.
pub fn check_url(url: &str) -> Result<(), String> {
    // RFC 3986 section 3.1: what stands before the colon is a scheme only if it looks like one.
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    let (scheme, rest) = url.split_once("://").filter(|(scheme, _)| scheme.is_empty() || is_scheme(scheme)).unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() || host.starts_with(':') {
        return Err("missing host in url".to_owned());
    }
    if scheme.is_empty() {
        return Err("missing scheme in url".to_owned());
    }
    Ok(())
}
/// An address.
pub fn ip() -> Field {
    string().custom(|value| text(value, |ip| ip.parse::<std::net::IpAddr>().map(drop).map_err(|_| format!("not an ip address: {ip}"))))
}
pub fn ip_or_cidr() -> Field {
    string().custom(|value| {
        text(value, |ip| if address::is_ip_or_cidr(ip) { Ok(()) } else { Err(format!("invalid ip or cidr range: '{ip}'")) })
    })
}
/// Addresses and ports of one side of a stream connection.
pub fn addresses() -> Field {
    set(record_of(vec![("ip", ip_or_cidr()), ("port", port())], vec![Check::AtLeastOneOf(vec!["ip", "port"])]))
}
pub fn sources() -> Field {
    addresses()
}
pub fn destinations() -> Field {
    addresses()
}

/// Every protocol Kong knows, sorted.
pub const PROTOCOLS: [&str; 8] = ["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"];
/// The protocols that carry HTTP, sorted: a plugin's default.
pub const HTTP_PROTOCOLS: [&str; 4] = ["grpc", "grpcs", "http", "https"];

pub fn protocol() -> Field {
    string().one_of(PROTOCOLS)
}
/// A plugin's protocols: any may be named, HTTP is the default.
pub fn protocols() -> Field {
    set(protocol()).required().default(HTTP_PROTOCOLS)
}
/// A plugin's protocols where only HTTP makes sense.
pub fn protocols_http() -> Field {
    set(string().one_of(HTTP_PROTOCOLS)).required().default(HTTP_PROTOCOLS)
}
/// Override of a plugin's `consumer`, `route` or `service` that it cannot be bound to.
pub fn no_consumer() -> Field {
    foreign("consumers").eq(Value::Null)
}
pub fn no_route() -> Field {
    foreign("routes").eq(Value::Null)
}
pub fn no_service() -> Field {
    foreign("services").eq(Value::Null)
}
/// What Kong says of a name that is not a token of RFC 2616.
const NO_TOKEN: &str = "contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters \
                        ()<>@,;:\\\"/?={}[] are not allowed.";
/// A cookie's name or a header's: token characters of RFC 7230.
pub fn cookie_name() -> Field {
    string().custom(|value| {
        text(value, |name| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.bytes().all(fits) { Ok(()) } else { Err(NO_TOKEN.to_owned()) }
        })
    })
}
/// A boolean with a default: what most switches of plugins are.
pub fn switch(default: bool) -> Field {
    boolean().required().default(default)
}
