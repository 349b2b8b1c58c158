//! Consumers: who sends requests.

use portcullis_schema::{Check, Fields, Schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Entity;

/// Someone who sends requests, known by credentials.
#[derive(Clone, Debug, Deserialize, Serialize, Fields)]
pub struct Consumer {
    /// The consumer's id.
    #[field(id())]
    pub id: Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
    /// A name to find it by.
    #[field(string().unique())]
    pub username: Option<String>,
    /// What another system calls it.
    #[field(string().unique())]
    pub custom_id: Option<String>,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
}

impl Entity for Consumer {
    const NAME: &'static str = "consumers";
    const ENDPOINT_KEY: Option<&'static str> = Some("username");

    fn schema() -> Schema {
        Schema { checks: vec![Check::AtLeastOneOf(vec!["custom_id", "username"])], ..Self::base() }
    }
}
