//! What the binary hands to this crate: where rows are, how they change, and what the running process knows.

use std::sync::Arc;
use std::time::Duration;

use portcullis_entities::declarative::Document;
use portcullis_schema::Catalog;
use portcullis_store::{Applied, BoxFuture, ChangeSet, Store, StoreError};
use serde_json::Value;
use uuid::Uuid;

use crate::{Answer, Call};

/// Everything the two APIs stand on.
#[derive(Clone)]
pub struct AdminState {
    pub catalog: Arc<Catalog>,
    pub store: Arc<dyn Store>,
    pub writer: Arc<dyn Writer>,
    pub node: Arc<dyn Node>,
    pub settings: Settings,
    /// Endpoints that plugins add to the Admin API.
    pub extensions: Vec<Extension>,
}

/// The parts of the configuration that change how answers look.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Value of the `Server` header, e.g. `portcullis/0.1.0`; none leaves it out.
    pub server: Option<String>,
    /// Whether `X-Kong-Admin-Latency` is sent.
    pub latency: bool,
    /// Origins (`scheme://authority`) of the manager; with none, any origin is answered.
    pub origins: Vec<String>,
    /// Largest request body, in bytes.
    pub body_limit: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let server = Some(concat!("portcullis/", env!("CARGO_PKG_VERSION")).to_owned());
        Self { server, latency: true, origins: Vec::new(), body_limit: 10 * 1024 * 1024 }
    }
}

/// Applies changes so that the next request sees them.
pub trait Writer: Send + Sync {
    /// Applies one change set and returns once this node's workers serve from it.
    fn write(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<Applied>, StoreError>>;

    /// Replaces the whole configuration of a node without a database by this one, whose hash the node then reports.
    fn replace(&self, document: Arc<Document>) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// How many connections the proxy has and had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connections {
    pub active: u64,
    pub reading: u64,
    pub writing: u64,
    pub waiting: u64,
    pub accepted: u64,
    pub handled: u64,
    /// Requests served so far.
    pub requests: u64,
}

/// Memory in use, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Process id and bytes of each process that serves.
    pub workers: Vec<(u32, u64)>,
    /// Name, capacity and use of each bounded store shared by the workers.
    pub shared: Vec<(String, u64, u64)>,
}

/// What the balancer knows about one upstream.
#[derive(Clone, Debug, Default)]
pub struct UpstreamHealth {
    /// Whether health checks are on.
    pub checked: bool,
    /// Whether the balancer as a whole can be used.
    pub healthy: bool,
    /// In the order the targets were added.
    pub hosts: Vec<HostHealth>,
}

/// One target as the balancer resolved it.
#[derive(Clone, Debug, Default)]
pub struct HostHealth {
    /// Host and port as the target names them.
    pub host: String,
    pub port: u16,
    /// `A`, `AAAA`, `SRV`, or `ttl=0, virtual SRV`.
    pub dns: String,
    pub node_weight: u64,
    pub addresses: Vec<AddressHealth>,
}

#[derive(Clone, Debug, Default)]
pub struct AddressHealth {
    pub ip: String,
    pub port: u16,
    pub weight: u64,
    pub healthy: bool,
}

/// An exposition of metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The text is OpenMetrics, not Prometheus' older format.
    pub open_metrics: bool,
    pub text: String,
}

/// Facts about and controls of the running process.
pub trait Node: Send + Sync {
    /// The Kong version that clients are told they talk to.
    fn version(&self) -> String;
    fn hostname(&self) -> String;
    fn id(&self) -> Uuid;
    /// Every configuration key with its value, secrets masked; `log_level` as it is now.
    fn configuration(&self) -> Value;
    /// The process id of the master and those of the workers.
    fn pids(&self) -> (u32, Vec<u32>);
    /// Timers running and waiting.
    fn timers(&self) -> (u64, u64);
    fn connections(&self) -> Connections;
    fn memory(&self) -> Memory;

    /// Why this node should get no traffic yet, in Kong's words; the store's part is asked of the store.
    fn ready(&self) -> Result<(), String>;
    fn draining(&self) -> bool;
    /// Answers "draining" to readiness probes from now on.
    fn drain(&self);

    /// One of Kong's names: `debug`, `info`, `notice`, `warn`, `error`, `crit`, `alert`, `emerg`.
    fn log_level(&self) -> String;
    /// Changes the level and goes back after `lasting`; zero never goes back. `cluster` reaches the other nodes too.
    fn set_log_level(&self, level: &str, lasting: Duration, cluster: bool);

    /// None if the balancer doesn't have the upstream.
    fn upstream_health(&self, upstream: Uuid) -> Option<UpstreamHealth>;
    /// Marks a target (`host:port`), or one `address` (`ip:port`) of it. Errors with what the client is told.
    fn set_health(&self, upstream: Uuid, target: &str, address: Option<&str>, healthy: bool) -> Result<(), String>;

    /// The hash of the configuration that the database holds, as far as this node knows one: 32 hex digits, the same on all nodes
    /// whose databases hold the same.
    fn configuration_hash(&self) -> Option<String> {
        None
    }

    /// What is served instead of the store's contents while the store is away since the start: which copy, and from when.
    fn copy_served(&self) -> Option<Value> {
        None
    }

    /// The exposition of metrics, if a plugin makes one; in OpenMetrics' format if the client takes it and there is reason to.
    fn metrics(&self, open_metrics: bool) -> Option<Metrics>;
    /// A value of this node's caches.
    fn cached(&self, key: &str) -> Option<Value> {
        let _ = key;
        None
    }
    /// Forgets one key, or everything.
    fn forget(&self, key: Option<&str>) {
        let _ = key;
    }
    /// The DNS client's statistics, where there are some.
    fn dns_statistics(&self) -> Option<Value> {
        None
    }
    /// Whether this node is the control plane of a hybrid deployment.
    fn control_plane(&self) -> bool {
        false
    }
    /// Whether WASM filters can be used.
    fn wasm(&self) -> bool {
        false
    }
}

/// What an [`Extension`] runs: gets the call, makes the answer.
pub type ExtensionHandler = Arc<dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync>;

/// An endpoint that a plugin adds, e.g. `DELETE /proxy-cache/{cache_key}`.
#[derive(Clone)]
pub struct Extension {
    pub method: http::Method,
    /// Parameters in braces; the call has their values in order.
    pub path: &'static str,
    pub handle: ExtensionHandler,
}
