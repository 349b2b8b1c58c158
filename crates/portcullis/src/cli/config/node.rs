//! The configuration of a running node, over its Admin API: read page by page, changed through `POST /bulk`.
//!
//! Reading works with any Admin API of this kind, a Kong's among them; changing asks for Portcullis, for only that changes all
//! or nothing.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use portcullis_plugins::http_client::{self, HttpClient};
use portcullis_schema::{Catalog, Record, Schema, id_of};
use portcullis_store::Operation;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::Failure;
use super::database::Rows;
use crate::conf::Settings;
use crate::run::catalog::{is_configuration, is_exported};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of an answer this much is read, in bytes.
const LONGEST: usize = 256 << 20;
/// Rows asked for at a time.
const PAGE: usize = 1000;
/// Operations that `/bulk` takes at once.
const AT_ONCE: usize = 1000;

/// The Admin API of a node.
pub struct Node {
    client: HttpClient,
    url: String,
}

impl Node {
    /// Errors with one line when nobody answers there as an Admin API does. Its certificate is verified
    /// where `lua_ssl_trusted_certificate` names some.
    pub async fn reach(url: &str, settings: &Settings) -> Result<Self, Failure> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Failure(format!("--node: the address of an Admin API is expected (http://127.0.0.1:8001), not '{url}'")));
        }
        let tls = http_client::tls(!settings.trusted.is_empty(), &settings.trusted);
        let node = Self { client: http_client::pooled(tls, Some(CONNECT), PATIENCE), url: url.trim_end_matches('/').to_owned() };
        let (status, about) = node.ask(Method::GET, "/", None).await?;
        let is_one = status == StatusCode::OK && about.get("plugins").is_some() && about.get("version").is_some();
        if is_one { Ok(node) } else { Err(Failure(format!("{url} is not the Admin API of a node (GET / answers {status})"))) }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), Failure> {
        let failed = |what: &dyn std::fmt::Display| Failure(format!("{}{path}: {what}", self.url));
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(text))).map_err(|error| failed(&error))?;
        let asked = async {
            let answer = self.client.request(request).await.map_err(|error| failed(&http_client::with_causes(&error)))?;
            let status = answer.status();
            let read = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| failed(&error))?;
            Ok((status, serde_json::from_slice(&read.to_bytes()).unwrap_or_default()))
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(failed(&"no answer came in time")))
    }

    /// All rows that are configuration, parents first. Of what the node doesn't know there are none.
    pub async fn rows(&self, catalog: &Catalog) -> Result<Rows, Failure> {
        let mut all = Rows::new();
        for schema in catalog.entities.iter().filter(|schema| schema.admin_api && is_exported(schema) && is_configuration(schema)) {
            let mut rows = Vec::new();
            if schema.name == "targets" {
                // Listed below their upstream only.
                let upstreams = all.iter().filter(|(of, _)| of.name == "upstreams").flat_map(|(_, rows)| rows).filter_map(id_of);
                for upstream in upstreams {
                    rows.extend(self.list(&format!("/upstreams/{upstream}/targets")).await?);
                }
            } else {
                rows = self.list(&collection(schema)).await?;
            }
            if !rows.is_empty() {
                all.push((schema.clone(), rows));
            }
        }
        Ok(all)
    }

    /// All rows of a collection. Of what the node doesn't know there are none; 400 is what one without Wasm says of filter chains.
    async fn list(&self, collection: &str) -> Result<Vec<Record>, Failure> {
        let mut rows = Vec::new();
        let mut next = Some(format!("{collection}?size={PAGE}"));
        while let Some(path) = next.take() {
            let (status, mut page) = self.ask(Method::GET, &path, None).await?;
            if matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) && rows.is_empty() {
                break;
            }
            let Some(Value::Array(found)) = page.get_mut("data").filter(|_| status == StatusCode::OK).map(Value::take) else {
                return Err(Failure(format!("{}{path} answers {status}: {}", self.url, message(&page))));
            };
            rows.extend(found.into_iter().filter_map(|row| if let Value::Object(row) = row { Some(row) } else { None }));
            next = page.get("next").and_then(Value::as_str).map(str::to_owned);
        }
        Ok(rows)
    }

    /// Applies these operations, all or none. Rows are sent as they were `given`, before values were computed. Errors with one line.
    pub async fn change(&self, operations: Vec<Operation>, given: &Rows, there: &Rows) -> Result<(), Failure> {
        if operations.len() > AT_ONCE {
            let count = operations.len();
            return Err(Failure(format!("{count} changes are more than the {AT_ONCE} that a node takes at once: sync its database")));
        }
        let (given, there) = (by_id(given), by_id(there));
        let operations: Vec<Value> = operations.into_iter().filter_map(|operation| sent(operation, &given, &there)).collect();
        let (status, answer) = self.ask(Method::POST, "/bulk", Some(&json!({ "operations": operations }))).await?;
        match status {
            StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND => Err(Failure(format!(
                "{} is not Portcullis and cannot be changed all or nothing: nothing was changed (diff works, sync needs its database)",
                self.url
            ))),
            _ => Err(Failure(format!("nothing was changed: {}", refusal(&answer, status)))),
        }
    }
}

/// Rows by entity and id.
type ById<'a> = HashMap<(&'a str, Uuid), &'a Record>;

fn by_id(rows: &Rows) -> ById<'_> {
    rows.iter().flat_map(|(schema, rows)| rows.iter().filter_map(|row| Some(((&*schema.name, id_of(row)?), row)))).collect()
}

fn collection(schema: &Schema) -> String {
    format!("/{}", schema.admin_name.unwrap_or(&schema.name))
}

/// Where a row stands. Targets are changed below their upstream only.
fn path_of(schema: &Schema, id: Uuid, row: Option<&Record>) -> String {
    let upstream = row.and_then(|row| row.get("upstream")?.get("id")?.as_str()).filter(|_| schema.name == "targets");
    match upstream {
        Some(upstream) => format!("/upstreams/{upstream}/targets/{id}"),
        None => format!("{}/{id}", collection(schema)),
    }
}

fn sent(operation: Operation, given: &ById<'_>, there: &ById<'_>) -> Option<Value> {
    match operation {
        Operation::Delete(schema, id) => {
            let row = there.get(&(&*schema.name, id)).copied();
            Some(json!({ "method": "DELETE", "path": path_of(&schema, id, row) }))
        }
        Operation::Insert(schema, row) | Operation::Update(schema, row) | Operation::Upsert(schema, row) => {
            let id = id_of(&row)?;
            let row = given.get(&(&*schema.name, id)).copied().unwrap_or(&row);
            let path = path_of(&schema, id, Some(row));
            // A PUT makes any row but a target.
            if schema.name == "targets" && !there.contains_key(&(&*schema.name, id)) {
                let list = path.rsplit_once('/').map_or(path.as_str(), |(list, _)| list);
                return Some(json!({ "method": "POST", "path": list, "body": row }));
            }
            Some(json!({ "method": "PUT", "path": path, "body": row }))
        }
        Operation::Require(..) | Operation::Clear => None,
    }
}

fn message(answer: &Value) -> &str {
    answer.get("message").and_then(Value::as_str).unwrap_or("no message")
}

/// The first complaint of a refusal.
fn refusal(answer: &Value, status: StatusCode) -> String {
    let first = answer.get("errors").and_then(|errors| errors.get(0));
    let Some(first) = first else { return format!("{} ({status})", message(answer)) };
    let word = |name: &str| first.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}: {}", word("method"), word("path"), message(first.get("body").unwrap_or(&Value::Null)))
}
