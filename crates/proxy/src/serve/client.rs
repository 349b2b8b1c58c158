//! Who the client is: the TCP peer, and what trusted proxies in front of us say of it.
//!
//! Behaviour checklist 6.1: only a peer in `trusted_ips` changes the client's address (`real_ip_header`), scheme, host, port
//! and path; anybody else's `X-Forwarded-*` are replaced on the way to the upstream.

use std::net::IpAddr;

use portcullis_wire::Headers;
use portcullis_wire::headers::Known;

use crate::settings::ProxySettings;

/// Whether the settings believe what this peer says of its client. `None` is a unix socket.
pub fn is_trusted(settings: &ProxySettings, peer: Option<IpAddr>) -> bool {
    match peer {
        Some(ip) => !settings.trusted_ips.is_empty() && settings.trusted_ips.iter().any(|net| net.contains(&ip)),
        None => settings.trust_unix,
    }
}

/// The client's address behind a trusted peer; none keeps the peer's own.
pub fn real_ip(settings: &ProxySettings, headers: &Headers) -> Option<IpAddr> {
    let lines: Vec<&[u8]> = headers.get_all(&settings.real_ip_header).collect();
    let mut found = None;
    for line in lines.iter().rev() {
        // What stands before something that is no address is not believed, as in nginx.
        let words = line.rsplit(|byte| matches!(byte, b' ' | b',')).filter(|word| !word.is_empty());
        for word in words {
            let Some(ip) = std::str::from_utf8(word).ok().and_then(address) else { return found };
            found = Some(ip);
            if !settings.real_ip_recursive || !is_trusted(settings, found) {
                return found;
            }
        }
    }
    found
}

/// An address with or without a port, as `X-Forwarded-For` entries come.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(socket.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Whether a trusted peer says that its client came by https; the whole value counts, and its case.
pub fn forwarded_https(headers: &Headers) -> Option<bool> {
    headers.known(Known::XForwardedProto).map(|value| value == b"https")
}

/// The port clients see for a port we listen on.
pub fn mapped_port(settings: &ProxySettings, port: u16) -> u16 {
    settings.port_maps.iter().find(|(_, inner)| *inner == port).map_or(port, |(outer, _)| *outer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(header: &str, recursive: bool) -> ProxySettings {
        ProxySettings {
            trusted_ips: vec!["10.0.0.0/8".parse().unwrap()],
            real_ip_header: header.to_owned(),
            real_ip_recursive: recursive,
            ..ProxySettings::default()
        }
    }

    fn forwarded(value: &str) -> Headers {
        let mut headers = Headers::default();
        headers.append("X-Forwarded-For", value.as_bytes());
        headers
    }

    #[test]
    fn only_peers_in_trusted_ips_are_believed() {
        let settings = settings("x-real-ip", false);
        assert!(is_trusted(&settings, Some("10.1.2.3".parse().unwrap())));
        assert!(!is_trusted(&settings, Some("11.1.2.3".parse().unwrap())));
        assert!(!is_trusted(&settings, None));
        assert!(!is_trusted(&ProxySettings::default(), Some("127.0.0.1".parse().unwrap())));
    }

    #[test]
    fn recursion_passes_over_trusted_hops() {
        let chain = forwarded("1.1.1.1, 2.2.2.2:80, 10.0.0.1");
        assert_eq!(real_ip(&settings("x-forwarded-for", false), &chain), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(real_ip(&settings("x-forwarded-for", true), &chain), Some("2.2.2.2".parse().unwrap()));
        assert_eq!(real_ip(&settings("x-forwarded-for", true), &forwarded("10.9.9.9")), Some("10.9.9.9".parse().unwrap()));
        assert_eq!(real_ip(&settings("x-forwarded-for", true), &forwarded("nonsense")), None);
    }

    #[test]
    fn what_stands_before_something_that_is_no_address_is_not_believed() {
        let (last, through) = (settings("x-forwarded-for", false), settings("x-forwarded-for", true));
        assert_eq!(real_ip(&last, &forwarded("1.1.1.1, unknown")), None);
        assert_eq!(real_ip(&through, &forwarded("1.1.1.1, unknown, 10.0.0.2")), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(real_ip(&last, &forwarded("1.1.1.1 2.2.2.2, ")), Some("2.2.2.2".parse().unwrap()));
        assert_eq!(real_ip(&last, &forwarded("[2001:db8::1]:99")), Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn only_https_as_it_is_written_is_https() {
        let sent = |value: &str| {
            let mut headers = Headers::default();
            headers.append("X-Forwarded-Proto", value.as_bytes());
            forwarded_https(&headers)
        };
        assert_eq!(sent("https"), Some(true));
        assert_eq!(sent("https, http"), Some(false));
        assert_eq!(sent("HTTPS"), Some(false));
        assert_eq!(forwarded_https(&Headers::default()), None);
    }
}
