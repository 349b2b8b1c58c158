//! AWS Signature Version 4 (docs.aws.amazon.com, "Create a signed AWS API request").

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use crate::secret::hex;

/// What requests are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub key: String,
    pub secret: String,
    /// Comes with credentials that last only for a while.
    pub token: Option<String>,
}

/// Where and for what a signature holds.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub region: &'a str,
    /// `lambda`, `sts`, `bedrock`.
    pub service: &'a str,
    /// Seconds since the epoch.
    pub now: u64,
}

/// Adds `Host`, `X-Amz-Date`, `X-Amz-Security-Token` and `Authorization` to the headers of a request. Every header that is
/// there already is signed. Errors when a value cannot be a header.
pub fn sign(
    method: &str,
    uri: &Uri,
    headers: &mut HeaderMap,
    body: &[u8],
    credentials: &Credentials,
    scope: Scope<'_>,
) -> Result<(), String> {
    let stamp = stamp(scope.now);
    let date = &stamp[..8];
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let standard = match (uri.scheme_str(), uri.port_u16()) {
        (Some("https"), Some(443)) | (Some("http"), Some(80)) => uri.host().unwrap_or_default(),
        _ => authority,
    };
    headers.insert(header::HOST, value(standard)?);
    headers.insert(HeaderName::from_static("x-amz-date"), value(&stamp)?);
    if let Some(token) = &credentials.token {
        headers.insert(HeaderName::from_static("x-amz-security-token"), value(token)?);
    }
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let signed = names.join(";");
    let mut canonical = format!("{method}\n{}\n{}\n", canonical_path(uri.path()), canonical_query(uri.query().unwrap_or_default()));
    for name in &names {
        let values: Vec<String> = headers.get_all(*name).iter().map(|value| one_line(value.as_bytes())).collect();
        canonical.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    canonical.push_str(&format!("\n{signed}\n{}", hex(digest(&SHA256, body).as_ref())));
    let place = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{place}\n{}", hex(digest(&SHA256, canonical.as_bytes()).as_ref()));
    let mut key = mac(format!("AWS4{}", credentials.secret).as_bytes(), date.as_bytes());
    for part in [scope.region, scope.service, "aws4_request"] {
        key = mac(&key, part.as_bytes());
    }
    let signature = hex(&mac(&key, text.as_bytes()));
    let authorization = format!("AWS4-HMAC-SHA256 Credential={}/{place}, SignedHeaders={signed}, Signature={signature}", credentials.key);
    headers.insert(header::AUTHORIZATION, value(&authorization)?);
    Ok(())
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

/// The path is encoded once more: what is percent-encoded on the wire is signed with its `%` encoded.
fn canonical_path(path: &str) -> String {
    path.bytes().map(|byte| if byte == b'/' { "/".to_owned() } else { encoded(byte) }).collect()
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(&str, &str)> =
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

fn one_line(value: &[u8]) -> String {
    String::from_utf8_lossy(value).split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// `20150830T123600Z`
fn stamp(now: u64) -> String {
    let (days, seconds) = ((now / 86_400) as i64, now % 86_400);
    // Years that start in March put the leap day at the end; an era is 400 years.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `09/Apr/2015:12:34:56 +0000`
pub fn common_log_time(now: u64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let stamp = stamp(now);
    let month = stamp[4..6].parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1))).unwrap_or(&"Jan");
    let clock = format!("{}:{}:{}", &stamp[9..11], &stamp[11..13], &stamp[13..15]);
    format!("{}/{month}/{}:{clock} +0000", &stamp[6..8], &stamp[..4])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// "get-vanilla" and "get-vanilla-query-order-key" of AWS's published test suite.
    #[test]
    fn signatures_are_those_of_the_published_suite() {
        let credentials =
            Credentials { key: "AKIDEXAMPLE".to_owned(), secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(), token: None };
        let scope = Scope { region: "us-east-1", service: "service", now: 1_440_938_160 };
        for (uri, signature) in [
            ("https://example.amazonaws.com/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let mut headers = HeaderMap::new();
            sign("GET", &uri.parse().unwrap(), &mut headers, b"", &credentials, scope).unwrap();
            let authorization = headers[header::AUTHORIZATION].to_str().unwrap();
            assert!(authorization.ends_with(&format!("SignedHeaders=host;x-amz-date, Signature={signature}")), "{authorization}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (now, text) in [(0, "19700101T000000Z"), (951_782_400, "20000229T000000Z"), (1_440_938_160, "20150830T123600Z")] {
            assert_eq!(stamp(now), text);
        }
    }
}
