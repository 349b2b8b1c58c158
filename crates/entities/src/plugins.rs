//! Plugins: instances of what runs on requests. What `config` holds is the plugin's own affair.

use portcullis_schema::{Fields, Record, Schema};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::services::Protocol;
use crate::{Entity, Ref};

/// A plugin, set up for all requests or for those of a route, a service, a consumer.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Plugin {
    /// The instance's id.
    #[field(id())]
    pub id: Uuid,
    /// Which plugin it is.
    #[field(string().required())]
    pub name: String,
    /// A name to find this instance by.
    #[field(utf8_name().unique())]
    pub instance_name: Option<String>,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
    /// Only requests of this route.
    #[field(foreign_cascade("routes").default(Value::Null))]
    pub route: Option<Ref>,
    /// Only requests to this service.
    #[field(foreign_cascade("services").default(Value::Null))]
    pub service: Option<Ref>,
    /// Only requests of this consumer.
    #[field(foreign_cascade("consumers").default(Value::Null))]
    pub consumer: Option<Ref>,
    /// The plugin's settings.
    #[field(record_of(Vec::new(), Vec::new()).shown("abstract", true))]
    pub config: Record,
    /// Only requests spoken in one of these.
    #[field(protocols())]
    pub protocols: Vec<Protocol>,
    /// A disabled instance is as if it weren't there.
    #[field(boolean().required().default(true))]
    pub enabled: bool,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
}

impl Entity for Plugin {
    const NAME: &'static str = "plugins";
    const ENDPOINT_KEY: Option<&'static str> = Some("instance_name");

    fn schema() -> Schema {
        Schema { cache_key: &["name", "route", "service", "consumer"], config_by: Some("name"), ..Self::base() }
    }
}
