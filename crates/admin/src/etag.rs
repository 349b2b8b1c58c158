//! `ETag`, `If-Match` and `If-None-Match` of single rows. Kong has none of them: clients that send none see no difference.
//!
//! A tag is a hash of what an answer shows, so that it is the same by id and by name and changes with anything that a client
//! can see. Only the remaining time to live, which changes by itself, is left out. A write with `If-Match` is checked twice:
//! the tags here, and that the row is still the one they were taken from in the transaction that changes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use portcullis_entities::declarative::Document;
use portcullis_schema::{ApiError, Record, Schema};
use portcullis_store::{Applied, BoxFuture, ChangeSet, Expected, Operation, StoreError};
use serde_json::Value;

use crate::answer::{Answer, Outcome, Refusal};
use crate::rows::{Admin, id_of, record};
use crate::serve::run;
use crate::table::{Endpoint, Handle, Table};
use crate::{Call, Writer};

/// Hex digits of a tag: 128 bits.
const DIGITS: usize = 32;

/// Runs one verb of an endpoint under the conditions of the request, and tags the row it answers with.
pub async fn answer(admin: &Admin, table: &Table, endpoint: &Endpoint, handle: &Handle, call: Call) -> Outcome {
    let Some(scope) = &endpoint.scope else { return run(admin, table, endpoint, handle, call).await };
    let reads = matches!(call.method, Method::GET | Method::HEAD);
    if reads {
        let unless = call.headers.contains_key(header::IF_NONE_MATCH).then(|| call.headers.clone());
        let answer = tagged(run(admin, table, endpoint, handle, call).await?);
        let Some(tag) = tag_of(&answer) else { return Ok(answer) };
        return match unless {
            Some(headers) if Tags::of(&headers, header::IF_NONE_MATCH).has(tag, true) => {
                Ok(Answer::empty(StatusCode::NOT_MODIFIED).header("etag", tag))
            }
            _ => Ok(answer),
        };
    }
    let conditional = call.headers.contains_key(header::IF_MATCH) && call.method != Method::POST && admin.database();
    let read = endpoint.verb(&Method::GET).filter(|_| conditional);
    let Some(read) = read else { return run(admin, table, endpoint, handle, call).await.map(tagged) };

    let wanted = Tags::of(&call.headers, header::IF_MATCH);
    let schema = &scope.schema;
    let asked = Call { method: Method::GET, ..call.clone() };
    let Some(id) = shown(run(admin, table, endpoint, read, asked.clone()).await, schema)?.and_then(|(shown, _)| id_of(&shown).ok()) else {
        return Err(failed(schema, call.param(call.params.len().saturating_sub(1))));
    };
    let failed = || failed(schema, &id.to_string());
    // The row first and then its tag: if it changes in between, the transaction finds that it isn't this row any more.
    let row = admin.get_by_id(schema, id).await?.ok_or_else(failed)?;
    let expected = match wanted {
        Tags::Any => Expected::Present,
        Tags::Listed(_) => {
            let (_, tag) = shown(run(admin, table, endpoint, read, asked).await, schema)?.ok_or_else(failed)?;
            if !wanted.has(&tag, false) {
                return Err(failed());
            }
            Expected::Unchanged(row)
        }
    };
    let guarded = Arc::new(Guarded {
        inner: admin.writer.clone(),
        require: Operation::Require(schema.clone(), id, expected),
        used: AtomicBool::new(false),
    });
    let admin = Admin { writer: guarded.clone(), ..admin.clone() };
    let answer = run(&admin, table, endpoint, handle, call).await?;
    // A row that went meanwhile is no error to a DELETE, which then writes nothing.
    let wrote = guarded.used.load(Ordering::Relaxed) || !answer.status.is_success();
    if wrote { Ok(tagged(answer)) } else { Err(failed()) }
}

/// The row of an answer and its tag; none where there is no such row. Any other refusal is the answer to the write too.
fn shown(read: Outcome, schema: &Schema) -> Result<Option<(Record, String)>, Refusal> {
    let answer = match read {
        Ok(answer) | Err(Refusal::Answer(answer)) => answer,
        Err(refusal) => return Err(refusal),
    };
    match answer.status {
        StatusCode::OK => {
            let shown = row(&answer).ok_or_else(|| Refusal::internal(format!("no row of {} in an answer", schema.name)))?;
            let tag = tag(&shown);
            Ok(Some((shown, tag)))
        }
        StatusCode::NOT_FOUND => Ok(None),
        _ => Err(Refusal::Answer(answer)),
    }
}

fn failed(schema: &Schema, key: &str) -> Refusal {
    let by = if crate::rows::uuid(key).is_some() { "id" } else { schema.endpoint_key.unwrap_or("id") };
    ApiError::precondition_failed(&schema.name, Record::from_iter([(by.to_owned(), key.into())])).into()
}

/// The answer with the tag of the row in it; any other answer as it is.
fn tagged(answer: Answer) -> Answer {
    if !matches!(answer.status, StatusCode::OK | StatusCode::CREATED) {
        return answer;
    }
    match row(&answer) {
        Some(row) => answer.header("etag", tag(&row)),
        None => answer,
    }
}

fn tag_of(answer: &Answer) -> Option<&str> {
    answer.headers.iter().find(|(name, _)| *name == "etag").map(|(_, tag)| tag.as_str())
}

/// The row that an answer shows; none for lists.
fn row(answer: &Answer) -> Option<Record> {
    // Lists are long, and start like this.
    if answer.body.starts_with(b"{\"data\":") {
        return None;
    }
    let row = record(serde_json::from_slice(&answer.body).ok()?);
    row.get("id").is_some_and(Value::is_string).then_some(row)
}

fn tag(row: &Record) -> String {
    let mut context = Context::new(&SHA256);
    hash_fields(&mut context, row.iter().filter(|(name, _)| *name != "ttl"));
    let digest = context.finish();
    let mut tag = String::with_capacity(DIGITS + 2);
    tag.push('"');
    for byte in &digest.as_ref()[..DIGITS / 2] {
        tag.push_str(&format!("{byte:02x}"));
    }
    tag.push('"');
    tag
}

/// Fields in order of name: their order says nothing.
fn hash_fields<'a>(context: &mut Context, fields: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_unstable_by_key(|(name, _)| name.as_str());
    context.update(b"{");
    for (name, value) in fields {
        context.update(Value::from(name.as_str()).to_string().as_bytes());
        hash(context, value);
    }
    context.update(b"}");
}

fn hash(context: &mut Context, value: &Value) {
    match value {
        Value::Object(fields) => hash_fields(context, fields.iter()),
        Value::Array(list) => {
            context.update(b"[");
            list.iter().for_each(|value| hash(context, value));
            context.update(b"]");
        }
        plain => {
            context.update(plain.to_string().as_bytes());
            context.update(b",");
        }
    }
}

/// What a condition lists.
#[derive(Clone)]
enum Tags {
    Any,
    Listed(Vec<String>),
}

impl Tags {
    fn of(headers: &HeaderMap, name: HeaderName) -> Self {
        let given = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        let tags: Vec<String> = given.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect();
        if tags.iter().any(|tag| tag == "*") { Self::Any } else { Self::Listed(tags) }
    }

    /// Whether `tag` is among them. A weak tag only counts where `weakly` says so.
    fn has(&self, tag: &str, weakly: bool) -> bool {
        let Self::Listed(tags) = self else { return true };
        tags.iter().any(|listed| listed == tag || (weakly && listed.strip_prefix("W/") == Some(tag)))
    }
}

/// Writes on the condition that a row is as the client takes it to be.
struct Guarded {
    inner: Arc<dyn Writer>,
    require: Operation,
    used: AtomicBool,
}

impl Writer for Guarded {
    fn write(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        self.used.store(true, Ordering::Relaxed);
        let operations = std::iter::once(self.require.clone()).chain(changes.operations).collect();
        self.inner.write(ChangeSet { operations })
    }

    fn replace(&self, document: Arc<Document>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.replace(document)
    }
}
