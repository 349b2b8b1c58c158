//! Entities that nobody writes by hand, and those of features this build only keeps the tables of.

use portcullis_schema::build::*;
use portcullis_schema::{Check, Field, Schema};
use serde_json::{Value, json};

/// The core entities' names. A workspace may not be called like one.
pub(crate) const CORE_ENTITIES: [&str; 17] = [
    "workspaces",
    "consumers",
    "certificates",
    "services",
    "routes",
    "snis",
    "upstreams",
    "targets",
    "plugins",
    "tags",
    "ca_certificates",
    "clustering_data_planes",
    "parameters",
    "vaults",
    "key_sets",
    "keys",
    "filter_chains",
];

/// Workspaces: one row, `default`, which everything belongs to.
pub fn workspaces() -> Schema {
    let fields = vec![
        ("id", id()),
        ("name", utf8_name().required().unique().len_min(1).not_one_of(CORE_ENTITIES)),
        ("comment", string()),
        ("created_at", auto_timestamp()),
        ("updated_at", auto_timestamp()),
        ("meta", open_record().required()),
        ("config", open_record().required()),
    ];
    Schema { endpoint_key: Some("name"), workspaceable: false, admin_api: false, ..Schema::new("workspaces", fields) }
}

/// A record none of whose fields we know.
fn open_record() -> Field {
    json().shown("type", "record").shown("fields", json!([]))
}

/// Tags: a view over the tags of all entities.
pub fn tags() -> Schema {
    let fields = vec![("tag", tag().required()), ("entity_name", string().required()), ("entity_id", uuid().auto().required())];
    Schema { endpoint_key: Some("tag"), workspaceable: false, exported: false, read_only: true, ..Schema::new("tags", fields) }
}

/// Parameters: what a cluster remembers about itself, such as its id.
pub fn parameters() -> Schema {
    let fields = vec![("created_at", auto_timestamp()), ("key", string().required().unique()), ("value", string().required())];
    Schema { endpoint_key: Some("key"), workspaceable: false, admin_api: false, ..Schema::new("parameters", fields) }
}

/// Data planes that a control plane has heard of.
pub fn clustering_data_planes() -> Schema {
    const STATES: [&str; 6] = [
        "unknown",
        "normal",
        "kong_version_incompatible",
        "plugin_set_incompatible",
        "plugin_version_incompatible",
        "filter_set_incompatible",
    ];
    let version = string().matches_none("%.%.", r"\.\.", "must not have empty version segments").matches_any(
        &[("^%d+[%.%d]*$", r"^\d+[.\d]*$"), ("^%d+[%.%d]*%-?.*$", r"^\d+[.\d]*-?.*$")],
        Some("invalid version number: must be in format of X.Y.Z"),
    );
    let expiry = record_of(vec![("expiry_timestamp", number().timestamp().shown("required", false))], Vec::new());
    let fields = vec![
        ("id", id().required()),
        ("last_seen", auto_timestamp()),
        ("updated_at", auto_timestamp()),
        ("ip", ip().required()),
        ("config_hash", string().len_eq(32)),
        ("hostname", host().required()),
        ("version", version),
        ("sync_status", string().required().one_of(STATES).default("unknown")),
        ("labels", map(string(), string())),
        ("cert_details", expiry.required()),
        ("rpc_capabilities", set(string())),
    ];
    Schema { workspaceable: false, admin_api: false, exported: false, ttl: true, ..Schema::new("clustering_data_planes", fields) }
}

/// Filter chains: WebAssembly filters of a route or a service.
pub fn filter_chains() -> Schema {
    let config = json().shown("required", false).shown(
        "json_schema",
        json!({
            "optional": true, "namespace": "proxy-wasm-filters", "parent_subschema_key": "name",
            "default": { "$schema": "http://json-schema.org/draft-04/schema#", "type": ["string", "null"] },
        }),
    );
    let filter = record_of(
        vec![
            ("name", string().required().one_of::<&str>([]).error("no such filter")),
            ("enabled", boolean().required().default(true)),
            ("config", config),
        ],
        Vec::new(),
    );
    let fields = vec![
        ("id", id()),
        ("name", utf8_name().unique()),
        ("enabled", boolean().required().default(true)),
        ("route", foreign_cascade("routes").unique().default(Value::Null)),
        ("service", foreign_cascade("services").unique().default(Value::Null)),
        ("filters", array(filter).required().len_min(1)),
        ("created_at", auto_timestamp()),
        ("updated_at", auto_timestamp()),
        ("tags", tags_field()),
    ];
    let checks = vec![
        Check::MutuallyExclusive(vec!["service", "route"]),
        Check::AtLeastOneOf(vec!["service", "route"]),
        Check::Shown(json!({ "custom_entity_check": { "field_sources": ["filters"], "run_with_invalid_fields": true } })),
    ];
    Schema {
        admin_name: Some("filter-chains"),
        endpoint_key: Some("name"),
        cache_key: &["route", "service"],
        checks,
        ..Schema::new("filter_chains", fields)
    }
}

fn tags_field() -> Field {
    portcullis_schema::build::tags()
}
