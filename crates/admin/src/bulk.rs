//! `POST /bulk`: many operations on entities in one transaction, all or nothing.
//!
//! The operations run through the very functions that serve their paths, on a rehearsal of the store: later ones see what
//! earlier ones did, and every failing one is told with the body it would have had on its own. Only if all succeed, what
//! they wrote is written as one change set.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use portcullis_entities::declarative::Document;
use portcullis_schema::{ApiError, Record, Violations};
use portcullis_store::{Applied, BoxFuture, ChangeSet, Operation, Store, StoreError};
use serde_json::{Value, json};

use crate::answer::{Answer, Outcome, Refusal};
use crate::call::{Body, Query};
use crate::rows::{Admin, record};
use crate::table::{Endpoint, Handle, Table, WholeHandler};
use crate::{Call, Writer, body, etag, serve};

pub const PATH: &str = "/bulk";
/// Operations in one request. Their size is limited with that of the body.
pub const MAX_OPERATIONS: usize = 1000;

const BULK: WholeHandler = |admin, table, call| Box::pin(bulk(admin, table, call));

pub fn endpoints(table: &mut Table) {
    table.set(Method::POST, PATH, Handle::Whole(BULK));
}

async fn bulk(admin: &Admin, table: &Table, call: &Call) -> Outcome {
    if !admin.database() {
        return Err(ApiError::unsupported("cannot apply bulk operations when not using a database").into());
    }
    if call.body.media_type.as_deref() != Some("application/json") {
        return Ok(body::unsupported());
    }
    let wrong = |complaint: &str| Refusal::from(ApiError::schema_violation(Violations::of("operations", complaint)));
    let items = match call.body.fields.get("operations") {
        None | Some(Value::Null) => return Err(wrong("required field missing")),
        Some(Value::Array(items)) if items.len() <= MAX_OPERATIONS => items,
        Some(Value::Array(_)) => return Err(wrong(&format!("length must be at most {MAX_OPERATIONS}"))),
        Some(_) => return Err(wrong("expected an array")),
    };
    if let Some(unknown) = call.body.fields.keys().find(|name| *name != "operations") {
        return Err(ApiError::schema_violation(Violations::of(unknown, "unknown field")).into());
    }

    // Kept until everything is written: what the operations were worked out from stays true.
    let _editing = admin.editing().await;
    let rehearsal = admin.store.rehearse().await?;
    let recorder = Arc::new(Recorder { store: rehearsal.clone(), operations: Mutex::default() });
    let trying = Admin { store: rehearsal, writer: recorder.clone(), editing: Arc::default(), ..admin.clone() };
    let mut answers = Vec::with_capacity(items.len());
    // How many operations of the change set there were after each item.
    let mut ends = Vec::with_capacity(items.len());
    for item in items {
        let answer = match one(&trying, table, item).await {
            Ok(answer) | Err(Refusal::Answer(answer)) => answer,
            Err(unavailable) => return Err(unavailable),
        };
        answers.push(answer);
        ends.push(recorder.count());
    }
    // The rehearsal ends here: other writers may go on, this one among them.
    let operations = recorder.taken();
    drop((trying, recorder));

    let failing = |answer: &Answer| !answer.status.is_success();
    if answers.iter().any(failing) {
        let failed = answers.iter().enumerate().filter(|(_, answer)| failing(answer)).map(|(at, answer)| failure(at, items, answer));
        return Err(refused(failed.collect(), items.len()));
    }
    if !operations.is_empty() {
        match admin.writer.write(ChangeSet { operations }).await {
            Ok(_) => {}
            // Another writer was quicker.
            Err(StoreError::Refused { operation, error }) => {
                let at = ends.partition_point(|end| *end <= operation);
                let answer = Refusal::from(error).into_answer();
                return Err(refused(vec![failure(at, items, &answer)], items.len()));
            }
            Err(unavailable) => return Err(unavailable.into()),
        }
    }
    let results: Vec<Value> = answers.iter().map(result).collect();
    Ok(Answer::ok(json!({ "results": results })))
}

/// Runs one operation as if it had come alone.
async fn one(admin: &Admin, table: &Table, item: &Value) -> Outcome {
    let Item { method, path, body, headers } = Item::of(item)?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = path.strip_suffix('/').unwrap_or(path);
    let Some((endpoint, params)) = table.find(&serve::segments(path)?) else { return Ok(Answer::not_found()) };
    if !changes_rows(endpoint) {
        return Err(Refusal::message(StatusCode::BAD_REQUEST, "only entities can be changed in bulk"));
    }
    let body = Body { fields: body, form: false, media_type: Some("application/json".to_owned()), ..Body::default() };
    let query = Query::parse(query);
    if query.len() > body::MAX_ARGUMENTS {
        return Err(body::too_many_arguments());
    }
    let call = Call { method, path: path.to_owned(), params, query, headers, body };
    let Some(handle) = endpoint.verb(&call.method) else {
        return Ok(Answer::message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"));
    };
    if let Some(before) = endpoint.before {
        before(admin, &call).await?;
    }
    etag::answer(admin, table, endpoint, handle, call).await
}

/// Collections and items of entities. What else has an effect (health marks) could not be undone.
fn changes_rows(endpoint: &Endpoint) -> bool {
    endpoint.scope.is_some() && endpoint.verb(&Method::GET).is_some()
}

/// One operation as it was sent.
struct Item<'a> {
    method: Method,
    path: &'a str,
    body: Record,
    headers: HeaderMap,
}

impl<'a> Item<'a> {
    fn of(item: &'a Value) -> Result<Self, Refusal> {
        let mut violations = Violations::default();
        let Value::Object(fields) = item else {
            return Err(Refusal::message(StatusCode::BAD_REQUEST, "an operation must be an object with 'method' and 'path'"));
        };
        let method = match fields.get("method").and_then(Value::as_str) {
            Some("POST") => Method::POST,
            Some("PUT") => Method::PUT,
            Some("PATCH") => Method::PATCH,
            Some("DELETE") => Method::DELETE,
            _ => {
                violations.add("method", "expected one of: POST, PUT, PATCH, DELETE".into());
                Method::POST
            }
        };
        let path = fields.get("path").and_then(Value::as_str).filter(|path| path.starts_with('/')).unwrap_or_else(|| {
            violations.add("path", "should start with: /".into());
            ""
        });
        let body = match fields.get("body") {
            None | Some(Value::Null) => Record::new(),
            Some(Value::Object(body)) => body.clone(),
            Some(_) => {
                violations.add("body", "expected a record".into());
                Record::new()
            }
        };
        let mut headers = HeaderMap::new();
        match fields.get("if_match") {
            None | Some(Value::Null) => {}
            Some(tags) => match tags.as_str().and_then(|tags| HeaderValue::from_str(tags).ok()) {
                Some(tags) => drop(headers.insert(header::IF_MATCH, tags)),
                None => violations.add("if_match", "expected the value of an If-Match header".into()),
            },
        }
        for name in fields.keys().filter(|name| !["method", "path", "body", "if_match"].contains(&name.as_str())) {
            violations.add(name, "unknown field".into());
        }
        if violations.is_empty() { Ok(Self { method, path, body, headers }) } else { Err(ApiError::schema_violation(violations).into()) }
    }
}

/// What an operation answered, without what belongs to the connection.
fn result(answer: &Answer) -> Value {
    let mut result = json!({ "status": answer.status.as_u16() });
    if let Ok(body) = serde_json::from_slice::<Value>(&answer.body) {
        result["body"] = body;
    } else if !answer.body.is_empty() {
        // A page of HTML, which Kong answers where it has no words of its own.
        result["body"] = json!({ "message": answer.status.canonical_reason() });
    }
    if let Some((_, tag)) = answer.headers.iter().find(|(name, _)| *name == "etag") {
        result["etag"] = tag.as_str().into();
    }
    result
}

fn failure(at: usize, items: &[Value], answer: &Answer) -> Value {
    let mut failure = record(result(answer));
    failure.insert("index".to_owned(), at.into());
    for name in ["method", "path"] {
        failure.insert(name.to_owned(), items.get(at).and_then(|item| item.get(name)).cloned().unwrap_or_default());
    }
    failure.into()
}

fn refused(errors: Vec<Value>, of: usize) -> Refusal {
    let message = format!("{} of {of} operations failed, nothing was changed", errors.len());
    let body = json!({ "name": "bulk operations failed", "message": message, "errors": errors });
    Refusal::Answer(Answer::json(StatusCode::BAD_REQUEST, &body))
}

/// Applies changes to a rehearsal and remembers them.
struct Recorder {
    store: Arc<dyn Store>,
    operations: Mutex<Vec<Operation>>,
}

impl Recorder {
    fn count(&self) -> usize {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn taken(&self) -> Vec<Operation> {
        std::mem::take(&mut *self.operations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Writer for Recorder {
    fn write(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            let operations = changes.operations.clone();
            let applied = self.store.apply(changes).await?;
            self.operations.lock().unwrap_or_else(PoisonError::into_inner).extend(operations);
            Ok(applied)
        })
    }

    fn replace(&self, _document: Arc<Document>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable("a rehearsal takes no whole configuration".to_owned())) })
    }
}
