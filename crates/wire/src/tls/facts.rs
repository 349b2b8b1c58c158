//! What certificates say that `webpki` does not look at and OpenSSL, which Kong uses, does.

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Whether a certificate without any DNS name of its own has this one as its common name. Its chain has been verified.
pub(super) fn common_name_fits(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let ServerName::DnsName(name) = name else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let has_names = certificate
        .subject_alternative_name()
        .is_ok_and(|names| names.is_some_and(|names| names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(_)))));
    !has_names && certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).any(|pattern| fits(pattern, name.as_ref()))
}

/// Checks name and time of a certificate that is a root itself.
pub(super) fn check_self_signed(certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if parsed.validity().not_before.timestamp() > now {
        return Err(CertificateError::NotValidYet.into());
    }
    if parsed.validity().not_after.timestamp() < now {
        return Err(CertificateError::Expired.into());
    }
    let names = parsed.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    let listed = names.into_iter().flatten().any(|listed| match (listed, name) {
        (GeneralName::DNSName(pattern), ServerName::DnsName(name)) => fits(pattern, name.as_ref()),
        (GeneralName::IPAddress(bytes), ServerName::IpAddress(address)) => match std::net::IpAddr::from(*address) {
            std::net::IpAddr::V4(v4) => **bytes == v4.octets(),
            std::net::IpAddr::V6(v6) => **bytes == v6.octets(),
        },
        _ => false,
    });
    if listed || common_name_fits(certificate, name) { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
}

/// Whether a name fits a pattern, whose first label may be `*`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(fits("*.example.com", "a.example.com") && fits("Example.com", "example.com"));
        assert!(!fits("*.example.com", "a.b.example.com") && !fits("*.example.com", "example.com"));
    }
}
