//! From field lines to a request, by the rules of RFC 9114 sections 4.2 and 4.3.

use h2::ext::Protocol;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

use super::qpack::Line;

/// Breaks the rules of a message: a stream error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The request that a field section is.
pub(super) fn request(lines: Vec<Line<'_>>) -> Result<Parts, Malformed> {
    let mut pseudo = Pseudo::default();
    let mut headers = HeaderMap::with_capacity(lines.len());
    for (name, value) in &lines {
        match name.strip_prefix(b":") {
            // All of them go before the other lines.
            Some(_) if !headers.is_empty() => return Err(Malformed),
            Some(name) => pseudo.take(name, value)?,
            None => append(&mut headers, name, value)?,
        }
    }
    let (uri, method, protocol) = pseudo.target(&headers)?;
    let mut parts = Request::new(()).into_parts().0;
    (parts.uri, parts.method, parts.headers) = (uri, method, headers);
    if let Some(protocol) = protocol {
        parts.extensions.insert(Protocol::from(protocol));
    }
    Ok(parts)
}

/// The trailers that a field section is.
pub(super) fn trailers(lines: Vec<Line<'_>>) -> Result<HeaderMap, Malformed> {
    let mut trailers = HeaderMap::with_capacity(lines.len());
    for (name, value) in &lines {
        append(&mut trailers, name, value)?;
    }
    Ok(trailers)
}

/// Pseudo-headers go no further than here: no name may begin with a colon. Names have no upper case.
fn append(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
    let name = HeaderName::from_lowercase(name).map_err(|_| Malformed)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| Malformed)?;
    // What is about a connection has no place here (section 4.2).
    if matches!(name, header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || (name == header::TE && !value.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        return Err(Malformed);
    }
    headers.append(name, value);
    Ok(())
}

#[derive(Default)]
struct Pseudo<'a> {
    method: Option<&'a str>,
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: Option<&'a str>,
    protocol: Option<&'a str>,
}

impl<'a> Pseudo<'a> {
    fn take(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Malformed> {
        let place = match name {
            b"method" => &mut self.method,
            b"scheme" => &mut self.scheme,
            b"authority" => &mut self.authority,
            b"path" => &mut self.path,
            b"protocol" => &mut self.protocol,
            _ => return Err(Malformed),
        };
        let value = std::str::from_utf8(value).ok().filter(|value| !value.is_empty()).ok_or(Malformed)?;
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(Malformed),
        }
    }

    /// What is asked for, once it is complete and agrees with the `host` line.
    fn target(self, headers: &HeaderMap) -> Result<(Uri, Method, Option<&'a str>), Malformed> {
        let method = self.method.and_then(|method| Method::from_bytes(method.as_bytes()).ok()).ok_or(Malformed)?;
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        let authority = match (self.authority, host) {
            (Some(authority), Some(host)) if authority.as_bytes() != host => return Err(Malformed),
            (Some(authority), _) => authority,
            (None, Some(host)) if !host.is_empty() => std::str::from_utf8(host).map_err(|_| Malformed)?,
            (None, _) => return Err(Malformed),
        };
        let uri = match (self.scheme, self.path, self.protocol) {
            // Towards an authority alone (section 4.4).
            (None, None, None) if method == Method::CONNECT => Uri::builder().authority(authority),
            (Some(_), Some(path), protocol) if protocol.is_none() == (method != Method::CONNECT) => {
                Uri::builder().scheme("https").authority(authority).path_and_query(path)
            }
            _ => return Err(Malformed),
        };
        Ok((uri.build().map_err(|_| Malformed)?, method, self.protocol))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a.test:1"), (":path", "/p?q=1")];

    fn read(lines: &[(&'static str, &'static str)]) -> Result<Parts, Malformed> {
        request(lines.iter().map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into())).collect())
    }

    #[test]
    fn a_field_section_is_a_request() {
        let parts = read(&[&GET[..], &[("x-a", "1"), ("te", "trailers"), ("x-a", "2")]].concat()).unwrap();
        assert_eq!(parts.uri, "https://a.test:1/p?q=1");
        assert_eq!(parts.headers.get_all("x-a").iter().count(), 2);
        let connect = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]];
        assert_eq!(read(&connect).unwrap().extensions.get::<Protocol>().unwrap().as_str(), "websocket");
        assert_eq!(read(&[(":method", "CONNECT"), GET[2]]).unwrap().uri, "a.test:1");
        assert!(read(&[GET[0], GET[1], GET[3], ("host", "a.test")]).is_ok());
    }

    #[test]
    fn what_is_missing_or_there_twice_makes_it_malformed() {
        for left_out in 0..GET.len() {
            let mut lines = GET.to_vec();
            lines.remove(left_out);
            assert_eq!(read(&lines).err(), Some(Malformed), "without {}", GET[left_out].0);
            let twice = [&GET[..], &GET[left_out..=left_out]].concat();
            assert_eq!(read(&twice).err(), Some(Malformed), "{} twice", GET[left_out].0);
        }
        for wrong in [
            ("X-A", "1"),
            ("x a", "1"),
            ("", "1"),
            ("x-a", "1\n"),
            (":status", "200"),
            (":other", "1"),
            (":protocol", "websocket"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("host", "b.test"),
        ] {
            assert_eq!(read(&[&GET[..], &[wrong]].concat()).err(), Some(Malformed), "{wrong:?}");
        }
        assert_eq!(read(&[GET[0], GET[1], GET[2], (":path", "")]).err(), Some(Malformed));
        assert_eq!(read(&[GET[0], GET[1], GET[2], ("x-a", "1"), GET[3]]).err(), Some(Malformed), "a pseudo-header after another line");
    }

    #[test]
    fn trailers_have_no_pseudo_headers() {
        let read = |name: &'static str| trailers(vec![(name.as_bytes().into(), b"1".as_slice().into())]);
        assert_eq!(read("x-a").unwrap().len(), 1);
        assert!(read(":path").is_err() && read("X-A").is_err() && read("connection").is_err());
    }
}
