//! A gateway's Admin and Status API on free ports, a small catalog, and a client that reads answers to their end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_admin::{
    AddressHealth, AdminState, BoxFuture, Connections, HostHealth, Memory, Metrics, Node, Settings, UpstreamHealth, Writer, admin, status,
};
use portcullis_entities::declarative::Document;
use portcullis_schema::build::*;
use portcullis_schema::{Catalog, ConfigSchema, Field, Schema};
use portcullis_store::declarative::Declarative;
use portcullis_store::embedded::{Embedded, Settings as FileSettings};
use portcullis_store::{Applied, ChangeSet, Store, StoreError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use uuid::Uuid;

/// The id of the node in all tests.
pub const NODE: Uuid = Uuid::from_u128(0x57e41bd5_2e3a_4b4c_9a11_f798a47dfc21);

/// Core entities, two kinds of credential, groups, and two plugins.
pub fn catalog() -> Catalog {
    let mut entities = portcullis_entities::core();
    entities.push(Schema {
        admin_name: Some("key-auths"),
        nested_name: Some("key-auth"),
        endpoint_key: Some("key"),
        ttl: true,
        ..credential("keyauth_credentials", vec![("key", string().unique().auto())])
    });
    entities.push(Schema { cache_key: &["consumer", "group"], ..credential("acls", vec![("group", string().required())]) });
    let mut plugins = BTreeMap::new();
    let redis = record_of(vec![("host", string()), ("port", port().default(6379))], Vec::new()).required();
    let fields = vec![
        ("minute", number().gt(0.0)),
        ("hour", number().gt(0.0)),
        ("limit_by", string().default("consumer")),
        ("names", array(string())),
        ("headers", map(string(), string())),
        ("fault_tolerant", boolean().required().default(true)),
        ("redis", redis),
    ];
    plugins.insert("limit".to_owned(), Arc::new(plugin("limit", 910, fields, Vec::new())));
    let alone = vec![("consumer", foreign_cascade("consumers").eq(Value::Null))];
    plugins.insert("who".to_owned(), Arc::new(plugin("who", 1250, Vec::new(), alone)));
    Catalog { entities: entities.into_iter().map(Arc::new).collect(), plugins, ..Catalog::default() }
}

fn credential(name: &'static str, own: Vec<(&'static str, Field)>) -> Schema {
    let mut fields =
        vec![("id", id()), ("created_at", auto_timestamp()), ("consumer", foreign_cascade("consumers").required()), ("tags", tags())];
    fields.extend(own);
    Schema::new(name, fields)
}

fn plugin(name: &'static str, priority: i32, fields: Vec<(&'static str, Field)>, overrides: Vec<(&'static str, Field)>) -> ConfigSchema {
    let config = record_of(fields, Vec::new()).required();
    ConfigSchema { name: name.into(), priority, version: "3.9.3", config, overrides, checks: Vec::new(), shorthands: Vec::new() }
}

/// A node whose facts tests can set.
#[derive(Default)]
pub struct Facts {
    pub level: Mutex<String>,
    pub draining: AtomicBool,
    pub health: Mutex<Option<UpstreamHealth>>,
    /// What was marked by hand: target, address, healthy.
    pub marks: Mutex<Vec<(String, Option<String>, bool)>>,
    pub refuse_marks: Mutex<Option<String>>,
    /// While set, workers take up no write until it is notified.
    pub hold: Mutex<Option<Arc<Notify>>>,
    /// Writes that the workers have taken up.
    pub taken_up: AtomicUsize,
}

impl Node for Facts {
    fn version(&self) -> String {
        "3.9.3".to_owned()
    }
    fn hostname(&self) -> String {
        "gateway-host".to_owned()
    }
    fn id(&self) -> Uuid {
        NODE
    }
    fn configuration(&self) -> Value {
        json!({ "log_level": "notice", "pg_password": "******" })
    }
    fn pids(&self) -> (u32, Vec<u32>) {
        (1, vec![2, 3])
    }
    fn timers(&self) -> (u64, u64) {
        (5, 1)
    }
    fn connections(&self) -> Connections {
        Connections { active: 1, requests: 7, ..Connections::default() }
    }
    fn memory(&self) -> Memory {
        Memory { workers: vec![(2, 1_572_864)], shared: vec![("cache".to_owned(), 5 * 1024 * 1024, 1024)] }
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
    fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }
    fn log_level(&self) -> String {
        self.level.lock().unwrap().clone()
    }
    fn set_log_level(&self, level: &str, _lasting: Duration, _cluster: bool) {
        *self.level.lock().unwrap() = level.to_owned();
    }
    fn upstream_health(&self, _upstream: Uuid) -> Option<UpstreamHealth> {
        self.health.lock().unwrap().clone()
    }
    fn set_health(&self, _upstream: Uuid, target: &str, address: Option<&str>, healthy: bool) -> Result<(), String> {
        if let Some(complaint) = self.refuse_marks.lock().unwrap().clone() {
            return Err(complaint);
        }
        self.marks.lock().unwrap().push((target.to_owned(), address.map(str::to_owned), healthy));
        Ok(())
    }
    fn metrics(&self, open_metrics: bool) -> Option<Metrics> {
        Some(Metrics { open_metrics, text: if open_metrics { "up 1\n# EOF\n" } else { "up 1\n" }.to_owned() })
    }
}

/// Health of one target with one address.
pub fn host(host: &str, port: u16, weight: u64, healthy: bool) -> HostHealth {
    let addresses = vec![AddressHealth { ip: host.to_owned(), port, weight, healthy }];
    HostHealth { host: host.to_owned(), port, dns: "A".to_owned(), node_weight: weight, addresses }
}

/// Writes to the store itself; the workers are no more than a count.
struct Direct {
    store: Arc<dyn Store>,
    facts: Arc<Facts>,
    declarative: Option<Arc<Declarative>>,
}

impl Writer for Direct {
    fn write(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>> {
        Box::pin(async move {
            let applied = self.store.apply(changes).await?;
            let hold = self.facts.hold.lock().unwrap().clone();
            if let Some(hold) = hold {
                hold.notified().await;
            }
            self.facts.taken_up.fetch_add(1, Ordering::SeqCst);
            Ok(applied)
        })
    }
    fn replace(&self, document: Arc<Document>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let declarative = self.declarative.clone().expect("only a node without a database takes a whole configuration");
            let hash = document.hash.clone();
            let replacing = tokio::task::spawn_blocking(move || declarative.replace(&document.records).map(|_| declarative.set_hash(hash)));
            replacing.await.unwrap()
        })
    }
}

/// A running gateway, as far as its two APIs go.
pub struct Gateway {
    pub admin: SocketAddr,
    pub status: SocketAddr,
    pub facts: Arc<Facts>,
    pub store: Arc<dyn Store>,
    pub catalog: Arc<Catalog>,
    _folder: Option<tempfile::TempDir>,
}

impl Gateway {
    /// With a database in a file of its own.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(settle: impl FnOnce(&mut Settings)) -> Self {
        let catalog = Arc::new(catalog());
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(FileSettings::new(folder.path().join("gateway.db")), &catalog).unwrap());
        Self::over(catalog, store, None, Some(folder), settle).await
    }

    /// Without a database.
    pub async fn dbless() -> Self {
        let catalog = Arc::new(catalog());
        let declarative = Arc::new(Declarative::new(&catalog));
        Self::over(catalog, declarative.clone(), Some(declarative), None, |_| {}).await
    }

    pub async fn over(
        catalog: Arc<Catalog>,
        store: Arc<dyn Store>,
        declarative: Option<Arc<Declarative>>,
        folder: Option<tempfile::TempDir>,
        settle: impl FnOnce(&mut Settings),
    ) -> Self {
        let facts = Arc::new(Facts { level: Mutex::new("notice".to_owned()), ..Facts::default() });
        let writer = Arc::new(Direct { store: store.clone(), facts: facts.clone(), declarative });
        let mut settings = Settings::default();
        settle(&mut settings);
        let state =
            AdminState { catalog: catalog.clone(), store: store.clone(), writer, node: facts.clone(), settings, extensions: Vec::new() };
        let (admin, status) = (serve(admin(state.clone())).await, serve(status(state)).await);
        Self { admin, status, facts, store, catalog, _folder: folder }
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.admin, "GET", path, &[], b"").await
    }
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.json("POST", path, body).await
    }
    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.json("PUT", path, body).await
    }
    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.json("PATCH", path, body).await
    }
    pub async fn delete(&self, path: &str) -> Reply {
        send(self.admin, "DELETE", path, &[], b"").await
    }
    pub async fn json(&self, method: &str, path: &str, body: Value) -> Reply {
        send(self.admin, method, path, &[("content-type", "application/json")], body.to_string().as_bytes()).await
    }
    pub async fn form(&self, method: &str, path: &str, body: &str) -> Reply {
        send(self.admin, method, path, &[("content-type", "application/x-www-form-urlencoded")], body.as_bytes()).await
    }
    pub async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        send(self.admin, method, path, headers, body).await
    }
    pub async fn status(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        match body {
            Some(body) => send(self.status, method, path, &[("content-type", "application/json")], body.to_string().as_bytes()).await,
            None => send(self.status, method, path, &[], b"").await,
        }
    }
}

async fn serve(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub text: String,
    /// Null if the body is no JSON.
    pub body: Value,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    /// The `id` of the body.
    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id in {}", self.text)).to_owned()
    }
    /// Asserts the status, shows the body if it is another.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
    /// The values of a field of the rows of a list.
    pub fn column(&self, field: &str) -> Vec<String> {
        let rows = self.body["data"].as_array().unwrap_or_else(|| panic!("no list in {}", self.text));
        rows.iter().map(|row| row[field].as_str().unwrap_or_default().to_owned()).collect()
    }
}

async fn send(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses a large body may answer and close before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Reply { status, headers: headers.collect(), text: text.to_owned(), body: serde_json::from_str(text).unwrap_or(Value::Null) }
}
