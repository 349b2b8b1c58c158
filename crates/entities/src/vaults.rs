//! Vaults: where secrets that configuration refers to are kept.

use portcullis_schema::{Fields, Record, Schema};
use serde::Deserialize;
use uuid::Uuid;

use crate::Entity;

/// A place of secrets, referred to as `{vault://prefix/secret}`.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Vault {
    /// The vault's id.
    #[field(id())]
    pub id: Uuid,
    /// How references name it.
    #[field(string().required().unique_across_ws().matches("^[a-z][a-z%d-]-[a-z%d]+$", "^[a-z][a-z0-9-]*?[a-z0-9]+$").not_one_of(["env"]))]
    pub prefix: String,
    /// The kind of vault.
    #[field(string().required())]
    pub name: String,
    /// What it is for.
    #[field(string())]
    pub description: Option<String>,
    /// The settings its kind asks for.
    #[field(record_of(Vec::new(), Vec::new()).shown("abstract", true))]
    pub config: Record,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
}

impl Entity for Vault {
    const NAME: &'static str = "vaults";
    const ENDPOINT_KEY: Option<&'static str> = Some("prefix");

    fn schema() -> Schema {
        Schema { cache_key: &["prefix"], config_by: Some("name"), ..Self::base() }
    }
}
