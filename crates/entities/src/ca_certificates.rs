//! CA certificates: whom we trust when we check the certificates of others.

use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_schema::{Check, Fields, Record, Schema, Transform};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::certificates::certificate;
use crate::{Entity, pem};

/// The certificate of an authority.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct CaCertificate {
    /// The certificate's id.
    #[field(id())]
    pub id: Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
    /// One certificate in PEM.
    #[field(certificate().required())]
    pub cert: String,
    /// SHA-256 of the certificate, computed on write.
    #[field(string().unique())]
    pub cert_digest: Option<String>,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
}

impl Entity for CaCertificate {
    const NAME: &'static str = "ca_certificates";

    fn schema() -> Schema {
        let digest = Transform {
            inputs: &["cert"],
            needs: &[],
            apply: |record| {
                let digest = record.get("cert").and_then(Value::as_str).and_then(pem::certificate).map(|facts| facts.digest);
                record.insert("cert_digest".to_owned(), digest.map_or(Value::Null, Value::from));
                Ok(())
            },
        };
        let check = Check::Custom { fields: vec!["cert"], check: check_authority };
        Schema { workspaceable: false, checks: vec![check], transforms: vec![digest], ..Self::base() }
    }
}

fn check_authority(record: &Record) -> Result<(), Vec<(String, Value)>> {
    let complain = |text: &str| Err(vec![("@entity".to_owned(), Value::from(text))]);
    let Some(text) = record.get("cert").and_then(Value::as_str) else { return Ok(()) };
    if pem::blocks(text).iter().filter(|block| block.label.ends_with("CERTIFICATE")).count() > 1 {
        return complain("please submit only one certificate at a time");
    }
    let Some(facts) = pem::certificate(text) else { return Ok(()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    if facts.not_after < now {
        return complain("certificate expired, \"Not After\" time is in the past");
    }
    if !facts.is_ca {
        return complain("certificate does not appear to be a CA because it is missing the \"CA\" basic constraint");
    }
    Ok(())
}
