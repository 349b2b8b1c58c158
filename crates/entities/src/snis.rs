//! SNIs: which certificate answers which server name.

use portcullis_schema::{Fields, Schema};
use serde::Deserialize;
use uuid::Uuid;

use crate::{Entity, Ref};

/// A server name of TLS handshakes and the certificate it is answered with.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Sni {
    /// The SNI's id.
    #[field(id())]
    pub id: Uuid,
    /// The server name, with a wildcard at either end if wanted.
    #[field(wildcard_host().required().unique_across_ws())]
    pub name: String,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
    /// The certificate.
    #[field(foreign("certificates").required())]
    pub certificate: Ref,
}

impl Entity for Sni {
    const NAME: &'static str = "snis";
    const ENDPOINT_KEY: Option<&'static str> = Some("name");

    fn schema() -> Schema {
        Self::base()
    }
}
