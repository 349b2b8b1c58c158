//! `/config`: the whole configuration of a node without a database, as one document.

use std::sync::Arc;

use http::{Method, StatusCode};
use portcullis_entities::declarative::{self, Document, Format, export};
use portcullis_schema::{Record, Schema};
use portcullis_store::Filter;
use serde_json::{Value, json};

use crate::Call;
use crate::answer::{Answer, Outcome, Refusal};
use crate::body;
use crate::call::Body;
use crate::rows::{Admin, now};
use crate::table::{PlainHandler, Table};

/// The only path that takes YAML.
pub const PATH: &str = "/config";

/// Rows read from the store at a time.
const PAGE: usize = 1000;

const SHOW: PlainHandler = |admin, _| Box::pin(show(admin));
const LOAD: PlainHandler = |admin, call| Box::pin(load(admin, call));

pub fn endpoints(table: &mut Table) {
    table.plain(Method::GET, PATH, SHOW);
    table.plain(Method::POST, PATH, LOAD);
}

/// Reading and loading are for nodes without a database. Asking for the methods is for every node, so that each handler asks.
fn without_database(admin: &Admin) -> Result<(), Refusal> {
    match admin.database() {
        false => Ok(()),
        true => Err(bad("this endpoint is only available when Kong is configured to not use a database")),
    }
}

fn bad(message: &str) -> Refusal {
    Refusal::message(StatusCode::BAD_REQUEST, message)
}

/// How a document was sent.
enum Sent {
    /// YAML or JSON as text. Only such documents are compared with the running one by their hash.
    Text(String),
    /// A JSON body that is the document itself.
    Fields(Record),
}

impl Sent {
    fn of(body: &Body) -> Result<Self, Refusal> {
        let field = body.fields.get("config").and_then(Value::as_str).map(str::to_owned);
        match body.media_type.as_deref() {
            Some(kind) if body::is_yaml(kind) && !body.raw.is_empty() => Ok(Self::Text(String::from_utf8_lossy(&body.raw).into_owned())),
            Some("application/json") => Ok(field.map_or_else(|| Self::Fields(body.fields.clone()), Self::Text)),
            // A form without the field is an empty text.
            _ if body.form => Ok(Self::Text(field.unwrap_or_default())),
            _ => Err(bad("expected a declarative configuration")),
        }
    }
}

/// The running configuration as a document that can be sent back as it is.
async fn show(admin: &Admin) -> Outcome {
    without_database(admin)?;
    let mut records = Vec::new();
    for schema in admin.catalog.entities.iter().filter(|schema| schema.exported && kept(schema)) {
        records.push((Arc::clone(schema), all(admin, schema).await?));
    }
    Ok(Answer::ok(json!({ "config": export::text(&records) })))
}

/// Whether the store keeps rows of this kind: those without an id are the database's own bookkeeping.
fn kept(schema: &Schema) -> bool {
    schema.field("id").is_some()
}

async fn all(admin: &Admin, schema: &Arc<Schema>) -> Result<Vec<Record>, Refusal> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = admin.store.page(schema, after, PAGE, Filter::default()).await?;
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return Ok(rows);
        }
    }
}

/// Replaces everything by what was sent, or nothing if any of it is wrong.
async fn load(admin: &Admin, call: &Call) -> Outcome {
    without_database(admin)?;
    let sent = Sent::of(&call.body)?;
    if call.query.first("check_hash") == Some("1")
        && let Sent::Text(text) = &sent
        && admin.store.configuration_hash().is_some_and(|running| running == declarative::hash(text))
    {
        return Ok(Answer::empty(StatusCode::NOT_MODIFIED));
    }
    let read = match sent {
        Sent::Text(text) => declarative::load(&admin.catalog, &text, Format::Unknown, now()),
        Sent::Fields(fields) => declarative::load_value(&admin.catalog, Value::Object(fields), now()),
    };
    let flatten = matches!(call.query.first("flatten_errors"), Some("1" | "true" | "on" | "yes"));
    let document = read.map_err(|refusal| match flatten {
        true => Refusal::Answer(Answer::json(StatusCode::BAD_REQUEST, &refusal.flattened_body())),
        false => refusal.error().into(),
    })?;
    let answer = document.answer();
    let Document { records, hash, .. } = document;
    let records = records.into_iter().filter(|(schema, _)| kept(schema));
    let rows = records.flat_map(|(schema, rows)| rows.into_iter().map(move |row| (Arc::clone(&schema), row)));
    let _editing = admin.editing().await;
    admin.writer.replace(rows.collect(), hash).await?;
    Ok(Answer::created(answer))
}
