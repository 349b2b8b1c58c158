//! Kong's core entities: one documented struct each, from which validation, `/schemas`, Admin API routes, SQL columns and the
//! declarative format come.
//!
//! - one file an entity: [`services`], [`routes`], [`consumers`], [`plugins`], [`upstreams`], [`targets`], [`certificates`],
//!   [`snis`], [`ca_certificates`], [`vaults`], [`key_sets`], [`keys`]; [`internal`] holds the small ones nobody writes by hand
//! - [`core`] lists their schemas, parents before children
//! - [`declarative`]: the file format, in both directions
//! - [`pem`]: certificates and keys, as far as checks need to look into them
//!
//! The edges handle checked [`Record`](portcullis_schema::Record)s; the proxy deserialises them into these structs with
//! [`Entity::from_record`]. Stands on `schema` only; knows no store, no socket and no plugin.

pub mod ca_certificates;
pub mod certificates;
pub mod consumers;
pub mod declarative;
pub mod expression;
pub mod internal;
pub mod key_sets;
pub mod keys;
pub mod pem;
pub mod plugins;
pub mod routes;
pub mod services;
pub mod snis;
pub mod targets;
pub mod upstreams;
pub mod vaults;

pub use ca_certificates::CaCertificate;
pub use certificates::Certificate;
pub use consumers::Consumer;
pub use key_sets::KeySet;
pub use keys::Key;
pub use plugins::Plugin;
pub use routes::Route;
pub use services::Service;
pub use snis::Sni;
pub use targets::Target;
pub use upstreams::Upstream;
pub use vaults::Vault;

use portcullis_schema::{Fields, Record, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The only workspace; in DB-less mode it has this id in every Kong.
pub const DEFAULT_WORKSPACE: Uuid = Uuid::from_u128(0x0dc6f45b_8f8d_40d2_a504_473544ee190b);

/// A reference to a row of another entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ref {
    pub id: Uuid,
}

/// A URL, a table and a declarative key in one.
pub trait Entity: Fields + DeserializeOwned + 'static {
    /// `services`: the table and the declarative key.
    const NAME: &'static str;
    /// The field that names a row in a URL beside its id.
    const ENDPOINT_KEY: Option<&'static str> = None;

    /// The run-time description: fields, checks, keys.
    fn schema() -> Schema;

    /// The struct's fields as a schema, for `schema` to add checks and keys to.
    fn base() -> Schema {
        Schema { endpoint_key: Self::ENDPOINT_KEY, ..Schema::new(Self::NAME, Self::fields()) }
    }

    /// Makes the struct of a checked record. Errors where a record was not made by this schema.
    fn from_record(record: &Record) -> Result<Self, serde_json::Error> {
        serde_json::from_value(serde_json::Value::Object(record.clone()))
    }
}

/// The schemas of all core entities, parents before children.
pub fn core() -> Vec<Schema> {
    vec![
        internal::workspaces(),
        Consumer::schema(),
        Certificate::schema(),
        Service::schema(),
        Route::schema(),
        Sni::schema(),
        Upstream::schema(),
        Target::schema(),
        Plugin::schema(),
        internal::tags(),
        CaCertificate::schema(),
        internal::clustering_data_planes(),
        internal::parameters(),
        Vault::schema(),
        KeySet::schema(),
        Key::schema(),
        internal::filter_chains(),
    ]
}
