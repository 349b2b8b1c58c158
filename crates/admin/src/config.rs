//! `/config`: the whole configuration of a node without a database, as one document.

use std::sync::Arc;

use http::{Method, StatusCode};
use portcullis_entities::declarative::{self, Document, Format, export};
use portcullis_schema::{Catalog, Record, Schema};
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
    /// JSON bodies come here unread.
    fn of(body: &Body) -> Result<Self, Refusal> {
        let field = |fields: &Record| fields.get("config").and_then(Value::as_str).map(str::to_owned);
        match body.media_type.as_deref() {
            Some(kind) if body::is_yaml(kind) && !body.raw.is_empty() => Ok(Self::Text(String::from_utf8_lossy(&body.raw).into_owned())),
            Some("application/json") => {
                let fields = body::json_fields(&body.raw)?;
                Ok(field(&fields).map_or(Self::Fields(fields), Self::Text))
            }
            // A form without the field is an empty text.
            _ if body.form => Ok(Self::Text(field(&body.fields).unwrap_or_default())),
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

/// Reads what was sent; none if it is what runs already. Long work for large documents.
fn read(catalog: &Catalog, body: &Body, running: Option<&str>, flatten: bool) -> Result<Option<Document>, Refusal> {
    let read = match Sent::of(body)? {
        Sent::Text(text) if running.is_some_and(|running| running == declarative::hash(&text)) => return Ok(None),
        Sent::Text(text) => declarative::load(catalog, &text, Format::Unknown, now()),
        Sent::Fields(fields) => {
            let text = String::from_utf8_lossy(&body.raw);
            let again = || body::json_fields(&body.raw).map(Value::Object).map_err(|_| "Cannot parse JSON body".to_owned());
            declarative::load_tree(catalog, Value::Object(fields), &text, now(), again)
        }
    };
    read.map(Some).map_err(|refusal| match flatten {
        true => Refusal::Answer(Answer::json(StatusCode::BAD_REQUEST, &refusal.flattened_body())),
        false => refusal.error().into(),
    })
}

/// How a document is to be taken, said in the query or in a form beside it.
const OPTIONS: [&str; 2] = ["check_hash", "flatten_errors"];
/// When a sender may try again that came while another document was being loaded.
const RETRY_SECS: &str = "10";

fn option(call: &Call, name: &str) -> Option<String> {
    let in_form = call.body.fields.get(name).and_then(Value::as_str);
    call.query.first(name).or(in_form).map(str::to_owned)
}

/// Replaces everything by what was sent, or nothing if any of it is wrong.
async fn load(admin: &Admin, call: &Call) -> Outcome {
    if admin.database() && call.body.media_type.as_deref() == Some("application/json") {
        // A body that cannot be read is complained about first.
        body::json_fields(&call.body.raw)?;
    }
    without_database(admin)?;
    let Ok(_loading) = admin.loading.try_lock() else {
        return Err(Refusal::Answer(
            Answer::message(StatusCode::TOO_MANY_REQUESTS, "Currently loading previous configuration").header("retry-after", RETRY_SECS),
        ));
    };
    let running = admin.store.configuration_hash().filter(|_| option(call, "check_hash").as_deref() == Some("1"));
    let flatten = option(call, "flatten_errors");
    let flatten = flatten.is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes"));
    let (catalog, mut body) = (Arc::clone(&admin.catalog), call.body.clone());
    OPTIONS.iter().for_each(|name| _ = body.fields.remove(*name));
    let reading = tokio::task::spawn_blocking(move || read(&catalog, &body, running.as_deref(), flatten));
    let Some(document) = reading.await.map_err(Refusal::internal)?? else {
        return Ok(Answer::empty(StatusCode::NOT_MODIFIED));
    };
    let document = Arc::new(document);
    let answered = Arc::clone(&document);
    let _editing = admin.editing().await;
    let replacing = admin.writer.replace(document);
    // Beside the loading. The last to let go of a large document does so on a thread where that holds nobody up.
    let answering = tokio::task::spawn_blocking(move || answered.answer());
    replacing.await?;
    let answer = answering.await.map_err(Refusal::internal)?.map_err(Refusal::internal)?;
    Ok(Answer::written(StatusCode::CREATED, answer))
}
