//! `/schemas`: what entities, plugins and vaults are made of, and whether a record would pass.

use http::{Method, StatusCode};
use portcullis_schema::{Op, Schema};
use serde_json::{Value, json};

use crate::Call;
use crate::answer::{Answer, Outcome, Refusal};
use crate::rows::{Admin, now};
use crate::table::{PlainHandler, Table};

const ENTITY: PlainHandler = |admin, call| Box::pin(async { entity(admin, call) });
const PLUGIN: PlainHandler = |admin, call| Box::pin(async { plugin(admin, call) });
const PLUGIN_CONFIG: PlainHandler = |admin, call| Box::pin(async { plugin_config(admin, call) });
const VAULT: PlainHandler = |admin, call| Box::pin(async { vault(admin, call) });
const FILTER: PlainHandler = |_, call| Box::pin(async { Err(absent(format!("Filter '{}' not found", call.param(0)))) });
const VALIDATE: PlainHandler = |admin, call| Box::pin(async { validate(admin, call, call.param(0)) });
const VALIDATE_PLUGIN: PlainHandler = |admin, call| Box::pin(async { validate(admin, call, "plugins") });
const VALIDATE_VAULT: PlainHandler = |admin, call| Box::pin(async { validate(admin, call, "vaults") });

pub fn endpoints(table: &mut Table) {
    table.plain(Method::GET, "/schemas/{name}", ENTITY);
    table.plain(Method::GET, "/schemas/plugins/{name}", PLUGIN);
    table.plain(Method::GET, "/plugins/schema/{name}", PLUGIN_CONFIG);
    table.plain(Method::GET, "/schemas/vaults/{name}", VAULT);
    table.plain(Method::GET, "/schemas/filters/{name}", FILTER);
    table.plain(Method::POST, "/schemas/{db_entity_name}/validate", VALIDATE);
    table.plain(Method::POST, "/schemas/plugins/validate", VALIDATE_PLUGIN);
    table.plain(Method::POST, "/schemas/vaults/validate", VALIDATE_VAULT);
}

fn absent(message: String) -> Refusal {
    Refusal::message(StatusCode::NOT_FOUND, message)
}

fn known<'a>(admin: &'a Admin, name: &str) -> Result<&'a Schema, Refusal> {
    admin.catalog.entity(name).map(|schema| &**schema).ok_or_else(|| absent(format!("No entity named '{name}'")))
}

fn entity(admin: &Admin, call: &Call) -> Outcome {
    Ok(Answer::ok(admin.catalog.describe(known(admin, call.param(0))?)))
}

fn described_plugin(admin: &Admin, name: &str) -> Result<Value, Refusal> {
    let plugin = admin.catalog.plugins.get(name).ok_or_else(|| absent(format!("No plugin named '{name}'")))?;
    Ok(admin.catalog.describe_plugin(plugin))
}

fn plugin(admin: &Admin, call: &Call) -> Outcome {
    Ok(Answer::ok(described_plugin(admin, call.param(0))?))
}

/// The older endpoint, which only shows the plugin's own configuration.
fn plugin_config(admin: &Admin, call: &Call) -> Outcome {
    let described = described_plugin(admin, call.param(0))?;
    let fields = described.get("fields").and_then(Value::as_array);
    let config = fields.and_then(|fields| fields.iter().find_map(|field| field.get("config")));
    let part = |name: &str| config.and_then(|config| config.get(name)).cloned().unwrap_or_else(|| json!([]));
    Ok(Answer::ok(json!({ "fields": part("fields"), "entity_checks": part("entity_checks") })))
}

fn vault(admin: &Admin, call: &Call) -> Outcome {
    let name = call.param(0);
    let vault = admin.catalog.vaults.get(name).ok_or_else(|| absent(format!("No vault named '{name}'")))?;
    Ok(Answer::ok(admin.catalog.describe_plugin(vault)))
}

/// Here Kong knows no types of a form's values but the plainest, and those at the top only.
fn plain(value: &mut Value) {
    let text = value.as_str().unwrap_or("text");
    match text {
        "" => *value = Value::Null,
        "true" => *value = Value::Bool(true),
        "false" => *value = Value::Bool(false),
        _ => {}
    }
}

/// Checks a record as a POST would, without looking at other rows.
fn validate(admin: &Admin, call: &Call, name: &str) -> Outcome {
    let schema = known(admin, name)?;
    let mut input = call.body.fields.clone();
    if call.body.form {
        input.values_mut().for_each(plain);
    }
    admin.catalog.prepare(schema, input, Op::Insert, None, now())?;
    Ok(Answer::message(StatusCode::OK, "schema validation successful"))
}
