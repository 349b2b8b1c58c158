//! Key sets: keys that belong together.

use portcullis_schema::{Fields, Schema};
use serde::Deserialize;
use uuid::Uuid;

use crate::Entity;

/// A named set of keys.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct KeySet {
    /// The set's id.
    #[field(id())]
    pub id: Uuid,
    /// A name to find it by.
    #[field(string().unique().shown("required", false))]
    pub name: Option<String>,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
}

impl Entity for KeySet {
    const NAME: &'static str = "key_sets";
    const ENDPOINT_KEY: Option<&'static str> = Some("name");

    fn schema() -> Schema {
        Schema { admin_name: Some("key-sets"), ..Self::base() }
    }
}
