//! Host names, addresses and paths as Kong reads them: the rules behind `host`, `sni`, `target`, upstream names, paths.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a host text turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A host name, as given.
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// Reads `host`, `host:port`, an IPv4 address with or without port, or an IPv6 address (in brackets if a port follows).
///
/// Leading zeros in IPv4 numbers are decimal. Errors in Kong's words (`invalid hostname: …`).
pub fn parse_host(text: &str) -> Result<(Host, Option<u16>), String> {
    if text.starts_with('[') || text.matches(':').count() > 1 {
        return parse_v6(text).unwrap_or_else(|| Err(format!("invalid ipv6 address: {text}")));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (text, None),
    };
    let numeric = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numeric {
        let address = parse_v4(name).ok_or_else(|| format!("invalid ipv4 address: {text}"))?;
        return Ok((Host::V4(address), port_number(port)?));
    }
    let port = port_number(port)?;
    if !is_hostname(name) {
        return Err(format!("invalid hostname: {text}"));
    }
    Ok((Host::Name(name.to_owned()), port))
}

fn port_number(text: Option<&str>) -> Result<Option<u16>, String> {
    text.map(|digits| digits.parse().map_err(|_| INVALID_PORT.to_owned())).transpose()
}

const INVALID_PORT: &str = "invalid port number";

/// Letters, digits, `-`, `_` and dots; no empty label, none that ends with a dash. A last dot is allowed.
pub fn is_hostname(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.split('.').all(|label| !label.is_empty() && !label.ends_with('-') && label.bytes().all(fits))
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut numbers = [0u8; 4];
    let mut parts = text.split('.');
    for number in &mut numbers {
        // Three digits and more with leading zeros are still decimal, unlike in the standard library.
        *number = parts.next()?.parse::<u32>().ok().and_then(|n| u8::try_from(n).ok())?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(numbers))
}

type Parsed = Result<(Host, Option<u16>), String>;

fn parse_v6(text: &str) -> Option<Parsed> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?),
            };
            (address, port)
        }
        None => (text, None),
    };
    let address = address.parse().ok()?;
    Some(port_number(port).map(|port| (Host::V6(address), port)))
}

/// An IPv6 address written out in full, as Kong keeps targets.
pub fn full_v6(address: Ipv6Addr) -> String {
    address.segments().map(|segment| format!("{segment:04x}")).join(":")
}

/// Kong's `host`: a name or an address, no port.
pub fn check_host(text: &str) -> Result<(), String> {
    match parse_host(text) {
        Err(error) if error == INVALID_PORT => Err("must not have a port".to_owned()),
        Err(_) => Err(format!("invalid value: {text}")),
        Ok((_, Some(_))) => Err("must not have a port".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// Kong's `sni`: a name, no address, no port.
pub fn check_sni(text: &str) -> Result<(), String> {
    match parse_host(text) {
        Err(error) if error == INVALID_PORT => Err("must not have a port".to_owned()),
        Err(_) => Err(format!("invalid value: {text}")),
        Ok((Host::V4(_) | Host::V6(_), _)) => Err("must not be an IP".to_owned()),
        Ok((_, Some(_))) => Err("must not have a port".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// Kong's `wildcard_host`: an SNI with at most one `*`, at either end.
pub fn check_wildcard_host(text: &str) -> Result<(), String> {
    let Some(star) = text.find('*') else { return check_sni(text) };
    if star != 0 && star + 1 != text.len() {
        return Err("wildcard must be leftmost or rightmost character".to_owned());
    }
    if text.matches('*').count() > 1 {
        return Err("only one wildcard must be specified".to_owned());
    }
    check_sni(&text.replace('*', "wildcard"))
}

/// An address or a network in CIDR notation.
pub fn is_ip_or_cidr(text: &str) -> bool {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let limit = if address.parse::<Ipv4Addr>().is_ok() {
        32
    } else if address.parse::<Ipv6Addr>().is_ok() {
        128
    } else {
        return false;
    };
    prefix.is_none_or(|prefix| prefix.bytes().all(|b| b.is_ascii_digit()) && prefix.parse::<u8>().is_ok_and(|bits| bits <= limit))
}

/// The first `%` that two hexadecimal digits don't follow, with what stands there.
pub fn bad_percent(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let at = (0..bytes.len()).find(|&at| bytes[at] == b'%' && !(hex(at + 1) && hex(at + 2)))?;
    Some(String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 3)]).into_owned())
}

/// Kong's `path`: only characters that RFC 3986 allows in one, and whole percent codes.
pub fn check_path(path: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@!$&'()*+,;=%".contains(&byte);
    if !path.bytes().all(fits) {
        return Err(format!("invalid path: '{path}' (characters outside of the reserved list of RFC 3986 found)"));
    }
    bad_percent(path).map_or(Ok(()), |code| Err(format!("invalid url-encoded value: '{code}'")))
}

/// The normal form in which prefixes are kept and requests matched: percent codes decoded unless they stand for a reserved
/// character (those in upper case), `.` and `..` resolved (RFC 3986 section 5.2.4), repeated slashes merged.
pub fn normalize_path(path: &str) -> Vec<u8> {
    const RESERVED: &[u8] = b"!#$%&'()*+,/:;=?@[]";
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| path.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()));
        match code.flatten() {
            Some(byte) if RESERVED.contains(&byte) => decoded.extend(format!("%{byte:02X}").bytes()),
            Some(byte) => decoded.push(byte),
            None => decoded.push(bytes[at]),
        }
        at += if code.flatten().is_some() { 3 } else { 1 };
    }
    if !decoded.contains(&b'.') && !decoded.windows(2).any(|pair| pair == b"//") {
        return decoded;
    }
    let mut out: Vec<&[u8]> = Vec::new();
    let mut segments = decoded.split(|&byte| byte == b'/').peekable();
    let absolute = decoded.first() == Some(&b'/');
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." if last => out.push(b""),
            b".." => {
                out.pop();
                if last {
                    out.push(b"");
                }
            }
            b"." => {}
            b"" if !last => {}
            _ => out.push(segment),
        }
    }
    let joined = out.join(&b'/');
    if absolute { [b"/".as_slice(), &joined].concat() } else { joined }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hosts_may_be_names_or_addresses_without_a_port() {
        for good in ["-dash.example.test", "under_score.example.test.", "10.1.2.3", "::1"] {
            assert_eq!(check_host(good), Ok(()), "{good}");
        }
        for bad in ["exa mple.test", "dash-.example.test", "two..dots", "10.1.2.300", "*.example.test"] {
            assert_eq!(check_host(bad), Err(format!("invalid value: {bad}")));
        }
        for with_port in ["example.test:8080", "[::1]:80", "10.0.0.1:99999"] {
            assert_eq!(check_host(with_port), Err("must not have a port".to_owned()));
        }
    }

    #[test]
    fn a_wildcard_stands_at_one_end() {
        for good in ["*.example.test", "example.*", "*", "a.test"] {
            assert_eq!(check_wildcard_host(good), Ok(()), "{good}");
        }
        assert!(check_wildcard_host("a.*.test").is_err_and(|e| e.starts_with("wildcard must be")));
        assert!(check_wildcard_host("*.a.*").is_err_and(|e| e.starts_with("only one")));
        assert!(check_wildcard_host("::1").is_err_and(|e| e == "must not be an IP"));
    }

    #[test]
    fn numbers_with_leading_zeros_are_decimal() {
        assert_eq!(parse_host("010.000.000.002:82").unwrap(), (Host::V4(Ipv4Addr::new(10, 0, 0, 2)), Some(82)));
    }

    #[test]
    fn paths_are_brought_to_one_form() {
        let normal = |path: &str| String::from_utf8(normalize_path(path)).unwrap();
        for (path, want) in [
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/enc%2foded", "/enc%2Foded"),
            ("/tilde%7Eplain", "/tilde~plain"),
            ("/caf%C3%A9", "/café"),
            ("/a/b/..", "/a/"),
            ("/..", "/"),
            ("/a/b/", "/a/b/"),
            ("/sp ace", "/sp ace"),
            ("/a//b", "/a/b"),
            ("/.hidden", "/.hidden"),
        ] {
            assert_eq!(normal(path), want, "{path}");
        }
    }

    #[test]
    fn a_broken_percent_code_is_quoted() {
        assert_eq!(bad_percent("/bad%2").as_deref(), Some("%2"));
        assert_eq!(bad_percent("/bad%zz/").as_deref(), Some("%zz"));
        assert_eq!(bad_percent("/fine%20"), None);
    }
}
