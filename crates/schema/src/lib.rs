//! What a field may hold: the one description from which validation, defaults, `/schemas`, Admin API routes, SQL,
//! the declarative format and the docs come.
//!
//! Records at the edges, types in the core: the Admin API, the stores and declarative files speak checked JSON
//! [`Record`]s and a run-time [`Schema`]; the proxy and the plugins speak structs that serde makes from a checked record.
//!
//! - [`field`]: [`Field`], its [`Kind`] and the [`Rule`]s a value must keep, in Kong's vocabulary
//! - [`build`]: the builder functions that `#[field(…)]` attributes call
//! - [`typedefs`]: Kong's shared definitions (`port`, `host`, `tags`, …) with their checks; [`address`] holds the host rules
//! - [`schema`]: [`Schema`]: named fields, entity checks, keys, shorthands; [`Catalog`] holds all of them
//! - [`check`]: rules that span several fields
//! - [`prepare`](Catalog::prepare): an input becomes a complete, valid record: shorthands, merge, defaults, checks
//! - [`describe`](Catalog::describe): what `/schemas` answers; [`infer`] gives form values their types
//! - [`violation`]: complaints, gathered all at once, in Kong's words and body shapes
//!
//! No I/O, no async, no knowledge of any entity.

pub mod address;
pub mod build;
pub mod check;
pub mod describe;
pub mod error;
pub mod field;
mod fill;
pub mod infer;
pub mod lua;
mod pattern;
mod pcre;
mod prepare;
pub mod schema;
pub mod typedefs;
mod validate;
pub mod violation;

pub use check::{Check, RecordCode};
pub use error::ApiError;
pub use field::{Code, Field, Kind, OnDelete, Rule};
pub use fill::random_text;
pub use portcullis_schema_derive::Fields;
pub use prepare::Given;
pub use schema::{Catalog, ConfigSchema, Op, Schema, Shorthand, Transform};
pub use validate::is_reference;
pub use violation::Violations;

/// A checked or unchecked JSON object: what edges pass around.
pub type Record = serde_json::Map<String, serde_json::Value>;

/// The id of a row; none where it has none that is a UUID.
pub fn id_of(row: &Record) -> Option<uuid::Uuid> {
    row.get("id")?.as_str().and_then(|id| uuid::Uuid::try_parse(id).ok())
}

/// A struct whose fields carry rules; derived with `#[derive(Fields)]`.
pub trait Fields {
    /// The fields in the order they are declared.
    fn fields() -> Vec<(&'static str, Field)>;
}
