//! Certificates: what we show in TLS handshakes, to clients and to upstreams.

use portcullis_schema::build::*;
use portcullis_schema::{Check, Fields, Record, Schema};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{Entity, pem};

/// A certificate chain with its private key, and a second pair of another kind of key if wanted.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Certificate {
    /// The certificate's id.
    #[field(id())]
    pub id: Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
    /// The chain in PEM, the certificate itself first.
    #[field(certificate().required().referenceable())]
    pub cert: String,
    /// The private key in PEM.
    #[field(private_key().required().referenceable().encrypted())]
    pub key: String,
    /// A chain with another kind of key, for clients that prefer it.
    #[field(certificate().referenceable().shown("required", false))]
    pub cert_alt: Option<String>,
    /// The private key of the second chain.
    #[field(private_key().referenceable().encrypted().shown("required", false))]
    pub key_alt: Option<String>,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
    /// Server names to be answered with it; each becomes an SNI.
    #[field(array(wildcard_host()).transient().shown("required", false))]
    #[serde(default)]
    pub snis: Option<Vec<String>>,
}

/// A certificate in PEM.
pub fn certificate() -> portcullis_schema::Field {
    string().custom(|value| match value.as_str() {
        Some(text) if pem::certificate(text).is_none() => Err("invalid certificate: not a certificate in PEM".to_owned()),
        _ => Ok(()),
    })
}

/// A private key in PEM.
pub fn private_key() -> portcullis_schema::Field {
    string().custom(|value| match value.as_str() {
        Some(text) if pem::public_half(text).is_none() => Err("invalid key: not a private key in PEM".to_owned()),
        _ => Ok(()),
    })
}

impl Entity for Certificate {
    const NAME: &'static str = "certificates";

    fn schema() -> Schema {
        let checks = vec![
            Check::MutuallyRequired(vec!["cert_alt", "key_alt"]),
            Check::Custom { fields: vec!["cert", "key"], check: |record| pair(record, "cert", "key", "certificate does not match key") },
            Check::Custom {
                fields: vec!["cert_alt", "key_alt"],
                check: |record| pair(record, "cert_alt", "key_alt", "alternative certificate does not match key"),
            },
            Check::Custom { fields: vec!["cert", "cert_alt"], check: different_kinds },
        ];
        Schema { checks, ..Self::base() }
    }
}

fn pair(record: &Record, certificate: &str, key: &str, complaint: &str) -> Result<(), Vec<(String, Value)>> {
    let text = |field: &str| record.get(field).and_then(Value::as_str);
    let (Some(certificate), Some(key)) = (text(certificate), text(key)) else { return Ok(()) };
    match (pem::certificate(certificate), pem::public_half(key)) {
        (Some(certificate), Some(public)) if certificate.public_key == public => Ok(()),
        _ => Err(vec![("@entity".to_owned(), complaint.into())]),
    }
}

fn different_kinds(record: &Record) -> Result<(), Vec<(String, Value)>> {
    let kind = |field: &str| record.get(field).and_then(Value::as_str).and_then(pem::certificate).map(|facts| facts.public_key.algorithm);
    match (kind("cert"), kind("cert_alt")) {
        (Some(first), Some(second)) if first == second => Err(vec![(
            "@entity".to_owned(),
            "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), \
             the provided certificates were both of the same type"
                .into(),
        )]),
        _ => Ok(()),
    }
}
