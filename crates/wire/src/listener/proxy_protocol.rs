//! The PROXY protocol, versions 1 and 2: who the client behind a load balancer is.
//!
//! Parsing is pure and bounded: a header is at most [`MAX_HEADER`] bytes. Source: the PROXY protocol specification of
//! HAProxy, sections 2.1 and 2.2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest header taken: version 2 with room for its extensions.
pub const MAX_HEADER: usize = 4096;
/// Longest version 1 line, CRLF included.
const MAX_LINE: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The ends the header names; none when it says nothing (`LOCAL`, `UNKNOWN`): then the connection's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    pub ends: Option<(SocketAddr, SocketAddr)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// A header of this many bytes.
    Header(ProxyHeader, usize),
    /// These bytes are no PROXY header.
    Bad,
}

/// Reads a header from the front of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
    let common = bytes.len().min(SIGNATURE.len());
    if bytes[..common] == SIGNATURE[..common] {
        return if common < SIGNATURE.len() { Parsed::Incomplete } else { parse_v2(bytes) };
    }
    let common = bytes.len().min(6);
    if bytes[..common] != b"PROXY "[..common] {
        return Parsed::Bad;
    }
    match bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') {
        None if bytes.len() >= MAX_LINE => Parsed::Bad,
        None => Parsed::Incomplete,
        Some(end) => parse_v1(&bytes[..=end]).map_or(Parsed::Bad, |header| Parsed::Header(header, end + 1)),
    }
}

fn parse_v1(line: &[u8]) -> Option<ProxyHeader> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(ProxyHeader { ends: None });
    }
    let (source, target): (IpAddr, IpAddr) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (source_port, target_port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let fits = match family {
        "TCP4" => source.is_ipv4() && target.is_ipv4(),
        "TCP6" => source.is_ipv6() && target.is_ipv6(),
        _ => false,
    };
    if !fits || words.next().is_some() {
        return None;
    }
    Some(ProxyHeader { ends: Some((SocketAddr::new(source, source_port), SocketAddr::new(target, target_port))) })
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some((&[command, family, high, low], _)) = bytes[SIGNATURE.len()..].split_first_chunk::<4>() else {
        return Parsed::Incomplete;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let end = SIGNATURE.len() + 4 + length;
    if command >> 4 != 2 || command & 15 > 1 || end > MAX_HEADER {
        return Parsed::Bad;
    }
    if bytes.len() < end {
        return Parsed::Incomplete;
    }
    let addresses = &bytes[SIGNATURE.len() + 4..end];
    let local = command & 15 == 0;
    let ends = match family >> 4 {
        _ if local => None,
        1 => match addresses.first_chunk::<12>() {
            Some(a) => Some((
                SocketAddr::new(Ipv4Addr::new(a[0], a[1], a[2], a[3]).into(), u16::from_be_bytes([a[8], a[9]])),
                SocketAddr::new(Ipv4Addr::new(a[4], a[5], a[6], a[7]).into(), u16::from_be_bytes([a[10], a[11]])),
            )),
            None => return Parsed::Bad,
        },
        2 => match (addresses.first_chunk::<16>(), addresses.get(16..32), addresses.get(32..36)) {
            (Some(source), Some(target), Some(ports)) => {
                let mut octets = [0u8; 16];
                octets.copy_from_slice(target);
                Some((
                    SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes([ports[0], ports[1]])),
                    SocketAddr::new(Ipv6Addr::from(octets).into(), u16::from_be_bytes([ports[2], ports[3]])),
                ))
            }
            _ => return Parsed::Bad,
        },
        // Unspecified and unix addresses say nothing a TCP gateway can use.
        _ => None,
    };
    Parsed::Header(ProxyHeader { ends }, end)
}

/// Reads the header from a fresh connection within `limit`; answers it with the bytes that came behind it.
pub async fn read_header<S: AsyncRead + Unpin>(stream: &mut S, limit: Duration) -> io::Result<(ProxyHeader, Vec<u8>)> {
    let read = async {
        let mut bytes = Vec::with_capacity(256);
        loop {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match parse(&bytes) {
                Parsed::Header(header, length) => return Ok((header, bytes.split_off(length))),
                Parsed::Incomplete if bytes.len() < MAX_HEADER => {}
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")),
            }
        }
    };
    tokio::time::timeout(limit, read).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ends(source: &str, target: &str) -> ProxyHeader {
        ProxyHeader { ends: Some((source.parse().unwrap(), target.parse().unwrap())) }
    }

    #[test]
    fn version_one_is_a_line() {
        let line = b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r\nGET /";
        for cut in 0..line.len() - 6 {
            assert_eq!(parse(&line[..cut]), Parsed::Incomplete, "{cut}");
        }
        assert_eq!(parse(line), Parsed::Header(ends("1.2.3.4:1111", "5.6.7.8:80"), line.len() - 5));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Parsed::Header(ProxyHeader { ends: None }, 15));
        for bad in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP4 ::1 ::1 1 2\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", b"PROXY TCP4 a b c d\n"]
        {
            assert_eq!(parse(bad), Parsed::Bad);
        }
        assert_eq!(parse(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat()), Parsed::Bad);
    }

    #[test]
    fn version_two_is_binary() {
        let mut header = SIGNATURE.to_vec();
        header.extend_from_slice(&[0x21, 0x11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 4, 87, 0, 80]);
        header.extend_from_slice(b"rest");
        for cut in 0..header.len() - 4 {
            assert_eq!(parse(&header[..cut]), Parsed::Incomplete, "{cut}");
        }
        assert_eq!(parse(&header), Parsed::Header(ends("1.2.3.4:1111", "5.6.7.8:80"), header.len() - 4));
        header[12] = 0x20;
        assert_eq!(parse(&header), Parsed::Header(ProxyHeader { ends: None }, header.len() - 4));
        header[12] = 0x31;
        assert_eq!(parse(&header), Parsed::Bad);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 7u64;
        for _ in 0..20_000 {
            let mut bytes = SIGNATURE[..(state % 13) as usize].to_vec();
            for _ in 0..state % 60 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.push((state >> 33) as u8);
            }
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            if let Parsed::Header(_, length) = parse(&bytes) {
                assert!(length <= bytes.len());
            }
        }
    }
}
