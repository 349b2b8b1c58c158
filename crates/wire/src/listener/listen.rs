//! Kong's listen syntax (behaviour checklist 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// `so_keepalive=idle:interval:count`; parts left out keep the system's values. Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    pub idle: Option<u32>,
    pub interval: Option<u32>,
    pub count: Option<u32>,
}

/// One entry of a `*_listen` key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: ListenAddress,
    pub ssl: bool,
    pub http2: bool,
    /// Beside TLS over TCP: HTTP/3 on the same port. Our own flag, which Kong has not.
    pub quic: bool,
    pub proxy_protocol: bool,
    pub reuseport: bool,
    pub deferred: bool,
    pub bind: bool,
    pub udp: bool,
    /// Connections the kernel queues; none is 16384.
    pub backlog: Option<u32>,
    pub ipv6only: Option<bool>,
    /// None leaves the socket as it is; `Some(None)` turns keep-alive probes off.
    pub so_keepalive: Option<Option<KeepAlive>>,
}

/// Parses the value of `key`: `off`, or entries separated by commas. `http2` on one entry counts for all, as in nginx.
///
/// Streams have a flag that HTTP has not, and the other way round. Errors with Kong's text.
pub fn parse_listens(key: &str, value: &str) -> Result<Vec<Listen>, String> {
    let value = value.trim();
    if value.eq_ignore_ascii_case("off") {
        return Ok(Vec::new());
    }
    let streams = key == "stream_listen";
    let foreign =
        |listen: &Listen| (listen.quic && key != "proxy_listen") || if streams { listen.http2 || listen.deferred } else { listen.udp };
    let entries = value.split(',').map(|entry| parse_entry(entry.trim()).filter(|listen| !foreign(listen)));
    let mut listens = entries.collect::<Option<Vec<_>>>().ok_or_else(|| {
        let first = if streams { "[udp] [ssl] [proxy_protocol]" } else { "[ssl] [http2] [proxy_protocol] [deferred]" };
        let flags = format!(
            "{first} [bind] [reuseport] [backlog=%d+] [ipv6only=on] [ipv6only=off] [so_keepalive=on] [so_keepalive=off] \
             [so_keepalive=%w*:%w*:%d*]"
        );
        format!("{key} must be of form: [off] | <ip>:<port> {flags}, [... next entry ...]")
    })?;
    for listen in listens.iter().filter(|listen| listen.quic) {
        if !listen.ssl {
            return Err(format!("{key}: quic needs ssl on the same entry"));
        }
        if matches!(listen.address, ListenAddress::Unix(_)) {
            return Err(format!("{key}: quic needs an address and a port"));
        }
    }
    if listens.iter().any(|listen| listen.http2) {
        listens.iter_mut().for_each(|listen| listen.http2 = true);
    }
    Ok(listens)
}

fn parse_entry(entry: &str) -> Option<Listen> {
    let mut words = entry.split_whitespace();
    let mut listen = Listen {
        address: parse_address(words.next()?)?,
        ssl: false,
        http2: false,
        quic: false,
        proxy_protocol: false,
        reuseport: false,
        deferred: false,
        bind: false,
        udp: false,
        backlog: None,
        ipv6only: None,
        so_keepalive: None,
    };
    for word in words {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("ssl", None) => listen.ssl = true,
            ("http2", None) => listen.http2 = true,
            ("quic", None) => listen.quic = true,
            ("proxy_protocol", None) => listen.proxy_protocol = true,
            ("reuseport", None) => listen.reuseport = true,
            ("deferred", None) => listen.deferred = true,
            ("bind", None) => listen.bind = true,
            ("udp", None) => listen.udp = true,
            ("backlog", Some(number)) => listen.backlog = Some(number.parse().ok()?),
            ("ipv6only", Some("on")) => listen.ipv6only = Some(true),
            ("ipv6only", Some("off")) => listen.ipv6only = Some(false),
            ("so_keepalive", Some("on")) => listen.so_keepalive = Some(Some(KeepAlive::default())),
            ("so_keepalive", Some("off")) => listen.so_keepalive = Some(None),
            ("so_keepalive", Some(parts)) => listen.so_keepalive = Some(Some(parse_keepalive(parts)?)),
            _ => return None,
        }
    }
    Some(listen)
}

fn parse_address(text: &str) -> Option<ListenAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| ListenAddress::Unix(path.into()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => IpAddr::V6(v6.parse::<Ipv6Addr>().ok()?),
            None => IpAddr::V4(host.parse().ok()?),
        },
    };
    Some(ListenAddress::Ip(SocketAddr::new(ip, port)))
}

/// `30m:10:5`: idle and interval in nginx' time units, then a count; any part may be empty.
fn parse_keepalive(text: &str) -> Option<KeepAlive> {
    let mut parts = text.split(':');
    let (idle, interval, count) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let seconds = |part: &str| -> Option<Option<u32>> {
        if part.is_empty() {
            return Some(None);
        }
        let (digits, unit) = match part.find(|c: char| !c.is_ascii_digit()) {
            Some(at) => part.split_at(at),
            None => (part, "s"),
        };
        let factor = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        Some(Some(digits.parse::<u32>().ok()?.checked_mul(factor)?))
    };
    let count = if count.is_empty() { None } else { Some(count.parse().ok()?) };
    Some(KeepAlive { idle: seconds(idle)?, interval: seconds(interval)?, count })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entries_and_flags_are_read() {
        let listens = parse_listens("proxy_listen", "0.0.0.0:8000 reuseport backlog=16384, [::1]:8443 http2 ssl ipv6only=on").unwrap();
        assert_eq!(listens.len(), 2);
        assert!(listens[0].reuseport && listens[0].http2 && !listens[0].ssl);
        assert_eq!(listens[0].backlog, Some(16384));
        assert_eq!(listens[1].address, ListenAddress::Ip("[::1]:8443".parse().unwrap()));
        assert!(listens[1].ssl && listens[1].ipv6only == Some(true));
        let unix = parse_listens("proxy_listen", "unix:/tmp/x.sock so_keepalive=1m::3").unwrap();
        assert_eq!(unix[0].address, ListenAddress::Unix("/tmp/x.sock".into()));
        assert_eq!(unix[0].so_keepalive, Some(Some(KeepAlive { idle: Some(60), interval: None, count: Some(3) })));
        assert!(parse_listens("proxy_listen", "off").unwrap().is_empty());
    }

    #[test]
    fn quic_goes_with_ssl_on_a_port() {
        let listens = parse_listens("proxy_listen", "0.0.0.0:8443 ssl quic http2, 0.0.0.0:8000").unwrap();
        assert!(listens[0].quic && !listens[1].quic);
        for (key, value, complaint) in [
            ("proxy_listen", "0.0.0.0:8443 quic", "proxy_listen: quic needs ssl on the same entry"),
            ("proxy_listen", "unix:/tmp/x.sock ssl quic", "proxy_listen: quic needs an address and a port"),
            ("admin_listen", "0.0.0.0:8444 ssl quic", "admin_listen must be of form:"),
            ("stream_listen", "0.0.0.0:8444 ssl quic", "stream_listen must be of form:"),
        ] {
            assert!(parse_listens(key, value).unwrap_err().starts_with(complaint), "{key} = {value}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_key() {
        for wrong in
            ["", "8000", "0.0.0.0", "0.0.0.0:x", "0.0.0.0:70000", "0.0.0.0:1 nonsense", "0.0.0.0:1 backlog=x", "host.name:1", "unix:"]
        {
            let error = parse_listens("admin_listen", wrong).unwrap_err();
            assert!(error.starts_with("admin_listen must be of form: [off] | <ip>:<port> [ssl]"), "{wrong}: {error}");
        }
    }
}
