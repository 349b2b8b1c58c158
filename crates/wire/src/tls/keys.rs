//! Certificates with their keys.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{TlsError, provider};

/// A certificate chain (leaf first) and its key, both PEM; the key in PKCS#8, PKCS#1 or SEC1.
///
/// Errors when either cannot be read or they do not belong together.
pub fn certified_key(certificate: &str, key: &str) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError(format!("certificate: {error}")))?;
    if chain.is_empty() {
        return Err(TlsError("certificate: no PEM certificate found".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| TlsError(format!("key: {error}")))?;
    let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| TlsError(format!("certificate and key: {error}")))?;
    Ok(Arc::new(pair))
}

/// When a pair's certificate ends, in seconds since the epoch.
pub fn ends_at(pair: &CertifiedKey) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(pair.cert.first()?).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// The node's own pair `<stem>.crt` and `<stem>.key` in a directory; made there (ECDSA P-256, self-signed for `localhost`,
/// 20 years) when absent.
pub fn self_signed_default(directory: &Path, stem: &str) -> Result<Arc<CertifiedKey>, TlsError> {
    let (certificate, key) = (directory.join(format!("{stem}.crt")), directory.join(format!("{stem}.key")));
    let failed = |path: &Path, error: io::Error| TlsError(format!("{}: {error}", path.display()));
    if !certificate.exists() || !key.exists() {
        let pair = self_signed()?;
        fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
        write_atomically(&key, pair.1.as_bytes(), 0o600).map_err(|error| failed(&key, error))?;
        write_atomically(&certificate, pair.0.as_bytes(), 0o644).map_err(|error| failed(&certificate, error))?;
    }
    let certificate_text = fs::read_to_string(&certificate).map_err(|error| failed(&certificate, error))?;
    let key_text = fs::read_to_string(&key).map_err(|error| failed(&key, error))?;
    certified_key(&certificate_text, &key_text)
}

fn self_signed() -> Result<(String, String), TlsError> {
    let failed = |error: rcgen::Error| TlsError(format!("making a self-signed certificate: {error}"));
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(failed)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Portcullis");
    name.push(DnType::CommonName, "localhost");
    params.distinguished_name = name;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    // rcgen's defaults reach from 1975 to 4096; clients dislike both ends.
    let year = 1970 + (unix_seconds() / 31_556_952) as i32;
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + 20, 1, 1);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A reader sees the old file or the whole new one, never a part.
fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_nodes_own_pair_is_made_once_and_kept_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = std::env::temp_dir().join(format!("portcullis-keys-{}", std::process::id()));
        let first = self_signed_default(&directory, "default").unwrap();
        let second = self_signed_default(&directory, "default").unwrap();
        assert_eq!(first.cert, second.cert);
        let mode = fs::metadata(directory.join("default.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (certificate, _) = self_signed().unwrap();
        let (_, key) = self_signed().unwrap();
        assert!(certified_key(&certificate, &key).is_err());
        assert!(certified_key("", &key).is_err());
        assert!(certified_key(&certificate, "nonsense").is_err());
    }
}
