//! `hybrid gen_cert`: the certificate that the nodes of a hybrid deployment share.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P384_SHA384};

use super::terminal::Terminal;
use super::{Arguments, Failure, create_new};
use crate::log::civil;

pub fn run(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let (certificate_path, key_path) = match arguments.positional.get(1..).unwrap_or_default() {
        [] => ("./cluster.crt", "./cluster.key"),
        [certificate, key, ..] => (certificate.as_str(), key.as_str()),
        [_] => return Err(Failure("both cert and key path needs to be provided".to_owned())),
    };
    let days = match arguments.value("days") {
        None => 1095,
        Some(text) => text.parse().ok().filter(|days| (1..=100_000).contains(days)).ok_or_else(|| Failure("invalid days".to_owned()))?,
    };
    let (certificate, key) = make(days).map_err(|error| Failure(format!("making a certificate: {error}")))?;
    let mut certificate_file = create_new(certificate_path, 0o644)?;
    let mut key_file = create_new(key_path, 0o600).inspect_err(|_| {
        // A certificate without its key is of no use, and would refuse the next try.
        let _ = std::fs::remove_file(certificate_path);
    })?;
    certificate_file.write_all(certificate.as_bytes()).map_err(|error| Failure(format!("{certificate_path}: {error}")))?;
    key_file.write_all(key.as_bytes()).map_err(|error| Failure(format!("{key_path}: {error}")))?;
    terminal
        .say(&format!("Successfully generated certificate/key pairs, they have been written to: '{certificate_path}' and '{key_path}'."));
    Ok(())
}

/// A self-signed certificate for the name that Kong's nodes expect of each other, and its key, as PEM.
fn make(days: i64) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "kong_clustering");
    params.distinguished_name = name;
    let today = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400) as i64;
    let date = |days: i64| {
        let (year, month, day) = civil(days);
        rcgen::date_time_ymd(year as i32, month as u8, day as u8)
    };
    // From the day before, for clocks that differ.
    (params.not_before, params.not_after) = (date(today - 1), date(today + days));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}
