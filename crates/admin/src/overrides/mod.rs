//! Where Kong's Admin API differs from what the schemas alone would give: single verbs of single paths.
//!
//! A file an entity. Each replaces verbs in the table and calls the generated functions for the rest.

mod acls;
mod ca_certificates;
pub mod certificates;
mod consumers;
mod filter_chains;
mod plugin_paths;
mod plugins;
mod schemas;
mod tags;
pub mod upstreams;

use portcullis_schema::{ApiError, Catalog, Op, Record, Schema};
use serde_json::json;

use crate::answer::Refusal;
use crate::rows::{Admin, record};
use crate::table::Table;

/// Replaces what differs.
pub fn endpoints(table: &mut Table, catalog: &Catalog) {
    acls::endpoints(table);
    ca_certificates::endpoints(table);
    certificates::endpoints(table, catalog);
    consumers::endpoints(table);
    filter_chains::endpoints(table);
    plugins::endpoints(table);
    plugin_paths::endpoints(table, catalog);
    schemas::endpoints(table);
    tags::endpoints(table);
    upstreams::endpoints(table);
    // Kong lists these paths and serves none of them.
    for pattern in ["/targets", "/targets/{targets}", "/targets/{targets}/upstream", "/snis/{snis}/certificate"] {
        table.at(pattern).disabled = true;
    }
}

/// What is checked before references are resolved and the schema is asked: a complaint here is the only one.
pub async fn admit(admin: &Admin, schema: &Schema, input: &mut Record, op: Op, existing: Option<&Record>) -> Result<(), Refusal> {
    match schema.name.as_ref() {
        "plugins" => plugins::admit(admin, input, existing).await,
        "targets" if op != Op::Update => upstreams::admit_target(input),
        _ => Ok(()),
    }
}

/// Kong's tables forbid null in two fields where its schemas allow it; it then names the wrong constraint, and the key by
/// which the row was addressed.
pub fn admit_row(schema: &Schema, row: &Record, by: Option<&str>) -> Result<(), ApiError> {
    let field = match schema.name.as_ref() {
        "targets" => "weight",
        "upstreams" => "slots",
        _ => return Ok(()),
    };
    if row.get(field).is_some_and(|value| !value.is_null()) {
        return Ok(());
    }
    let key = by.unwrap_or("id");
    Err(ApiError::primary_key_violation(record(json!({ key: row.get(key) }))))
}
