//! While the store is away.

use std::sync::Arc;

use portcullis_admin::BoxFuture;
use portcullis_schema::{Record, Schema};
use portcullis_store::{Applied, ChangeFeed, ChangeSet, Filter, Key, Page, Store, StoreError, Tagged};
use serde_json::json;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::kit::{Gateway, catalog};

/// A store that cannot be reached.
struct Away(broadcast::Sender<Arc<Applied>>);

fn away<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, StoreError>> {
    Box::pin(async { Err(StoreError::Unavailable("connection to 10.0.0.9 refused".to_owned())) })
}

impl Store for Away {
    fn get<'a>(&'a self, _of: &'a Arc<Schema>, _key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        away()
    }
    fn page<'a>(
        &'a self,
        _of: &'a Arc<Schema>,
        _after: Option<Uuid>,
        _size: usize,
        _filter: Filter,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        away()
    }
    fn apply(&self, _changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        away()
    }
    fn changes(&self) -> ChangeFeed {
        self.0.subscribe()
    }
    fn reachable(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }
    fn writable(&self) -> bool {
        true
    }
    fn configuration_hash(&self) -> Option<String> {
        None
    }
    fn tagged<'a>(
        &'a self,
        _tag: Option<&'a str>,
        _after: Option<(Uuid, String)>,
        _size: usize,
    ) -> BoxFuture<'a, Result<Vec<Tagged>, StoreError>> {
        away()
    }
}

#[tokio::test]
async fn clients_are_asked_to_come_back_and_not_told_why() {
    let gateway = Gateway::over(Arc::new(catalog()), Arc::new(Away(broadcast::channel(1).0)), None, None, |_| {}).await;
    for (method, path) in [("GET", "/services"), ("GET", "/services/x"), ("DELETE", "/services/x"), ("GET", "/"), ("GET", "/tags")] {
        let reply = gateway.raw(method, path, &[], b"").await.expect(503);
        assert!(reply.header("retry-after").is_some() && !reply.text.contains("10.0.0.9"), "{method} {path}: {}", reply.text);
    }
    gateway.post("/services", json!({ "host": "a.test" })).await.expect(503);
    // What is wrong with the request itself is still told.
    gateway.post("/services", json!({})).await.expect(400);
}

#[tokio::test]
async fn the_node_says_that_its_store_is_away() {
    let gateway = Gateway::over(Arc::new(catalog()), Arc::new(Away(broadcast::channel(1).0)), None, None, |_| {}).await;
    assert_eq!(gateway.get("/status").await.expect(200).body["database"], json!({ "reachable": false }));
    let reply = gateway.status("GET", "/status/ready", None).await.expect(503);
    assert_eq!(reply.body, json!({ "message": "failed to connect to database" }));
}
