//! What the Admin API and the plugins may know of the running process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_admin as admin;
use portcullis_plugin::extra_metrics::{Configuration, ExtraFigures, ExtraGroups, ExtraMetrics};
use portcullis_plugin::{ConnectionCounts, Entry, Env, TargetHealth};
use portcullis_proxy::gateway::Gateway;
use portcullis_store::Store;
use serde_json::Value;
use uuid::Uuid;

use super::workers::Open;
use crate::conf::Settings;
use crate::log::Log;

/// Makes the text of `/metrics`.
type Exposition = fn(&Env, portcullis_plugin::Exposition) -> String;

/// Facts about this process, and the switches it has.
pub struct Node {
    me: Weak<Self>,
    id: Uuid,
    hostname: String,
    version: String,
    product: String,
    configuration: RwLock<serde_json::Map<String, Value>>,
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Handle,
    log: Arc<Log>,
    level: Mutex<Level>,
    draining: AtomicBool,
    loaded: AtomicBool,
    reachable: AtomicBool,
    /// What `/status` says of the copy that is served, until the store could be read.
    copy: Mutex<Option<Value>>,
    /// The hash of what the database holds, once it is known.
    hash: Mutex<Option<String>>,
    serving: RwLock<Option<Serving>>,
    metrics: OnceLock<(Exposition, Env)>,
    configured: Mutex<Configuration>,
    accepted_before: AtomicU64,
}

/// The generation that serves now.
#[derive(Clone)]
struct Serving {
    gateway: Arc<Gateway>,
    open: Arc<[Open]>,
}

struct Level {
    now: String,
    configured: String,
    /// Counts changes, so that an earlier one's expiry does not undo a later one.
    change: u64,
}

impl Node {
    pub fn new(id: Uuid, settings: &Settings, store: Arc<dyn Store>, runtime: tokio::runtime::Handle, log: Arc<Log>) -> Arc<Self> {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let level = Level { now: settings.log_level.clone(), configured: settings.log_level.clone(), change: 0 };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id,
            hostname,
            version: settings.version.clone(),
            product: settings.proxy.product.clone(),
            configuration: RwLock::new(configuration_of(settings)),
            store,
            runtime,
            log,
            level: Mutex::new(level),
            draining: AtomicBool::new(false),
            loaded: AtomicBool::new(false),
            reachable: AtomicBool::new(true),
            copy: Mutex::new(None),
            hash: Mutex::new(None),
            serving: RwLock::new(None),
            metrics: OnceLock::new(),
            configured: Mutex::default(),
            accepted_before: AtomicU64::new(0),
        })
    }

    /// Names the plugin that makes the exposition at `/metrics`, if there is one.
    pub fn expose(&self, entries: &[Entry], env: Env) {
        if let Some(exposition) = entries.iter().find_map(|entry| entry.metrics) {
            let _ = self.metrics.set((exposition, env));
        }
    }

    /// A generation of workers took over.
    pub fn serve_with(&self, gateway: Arc<Gateway>, open: Arc<[Open]>, settings: &Settings) {
        let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = &*serving {
            self.accepted_before.fetch_add(before.gateway.requests.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        *serving = Some(Serving { gateway, open });
        *self.configuration.write().unwrap_or_else(PoisonError::into_inner) = configuration_of(settings);
        self.loaded.store(true, Ordering::Release);
    }

    /// A copy of the configuration is served until the store could be read.
    pub fn serve_copy(&self, number: u64, taken: u64) {
        let told = serde_json::json!({ "source": "last good copy", "copy": number, "taken_at": taken });
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// A configuration went out to the workers, so long after this node was told of it.
    pub fn published(&self, lag: Duration) {
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        *configured = Configuration { version: configured.version + 1, published_at: seconds_since_epoch(), lag, ..*configured };
    }

    /// A change cannot be served yet.
    pub fn not_published(&self) {
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        *configured = Configuration { errors: configured.errors + 1, last_error_at: seconds_since_epoch(), ..*configured };
    }

    /// The store was read: what is served is what it holds.
    pub fn serve_store(&self) {
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The configuration in the database has this hash now.
    pub fn know_hash(&self, hash: String) {
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner) = Some(hash);
    }

    /// Looks after the store every now and then, so that asking costs nothing.
    pub async fn watch_store(self: Arc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            self.reachable.store(self.store.reachable().await, Ordering::Relaxed);
        }
    }

    fn serving(&self) -> Option<Serving> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counts(&self) -> ConnectionCounts {
        let Some(serving) = self.serving() else { return ConnectionCounts::default() };
        let active = serving.open.iter().map(|open| open.clients.load(Ordering::Relaxed)).sum();
        let requests = self.accepted_before.load(Ordering::Relaxed) + serving.gateway.requests.load(Ordering::Relaxed);
        let accepted = portcullis_wire::listener::accepted();
        ConnectionCounts { accepted, handled: accepted, active, reading: 0, writing: active, waiting: 0, requests }
    }
}

fn seconds_since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn configuration_of(settings: &Settings) -> serde_json::Map<String, Value> {
    settings.shown()
}

/// A size as nginx writes it: `512k`, `128m`, `1g`, or bytes.
fn bytes_of(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, shift) = match text.bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

impl portcullis_plugin::Node for Node {
    fn id(&self) -> Uuid {
        self.id
    }

    fn hostname(&self) -> &str {
        &self.hostname
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn connections(&self) -> ConnectionCounts {
        self.counts()
    }

    fn datastore_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    fn worker_memory(&self) -> Vec<(u32, u64)> {
        admin::Node::memory(self).workers
    }

    fn extra_figures(&self) -> ExtraFigures {
        const MOST_CERTIFICATES: usize = 1000;
        let serving = self.serving();
        let ends = |serving: &Serving| {
            let snapshot = serving.gateway.snapshot();
            snapshot.certificates.ends().take(MOST_CERTIFICATES).map(|(id, ends)| (id.to_string(), ends)).collect()
        };
        ExtraFigures {
            upstream_idle: serving.iter().flat_map(|serving| &*serving.open).map(|open| open.idle.load(Ordering::Relaxed)).sum(),
            dns: portcullis_proxy::dns::lookups(),
            handshakes: portcullis_wire::listener::handshakes(),
            certificates: serving.as_ref().map(ends).unwrap_or_default(),
            configuration: *self.configured.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn trusted_certificates(&self) -> Arc<str> {
        let configuration = self.configuration.read().unwrap_or_else(PoisonError::into_inner).clone();
        let files = configuration.get("lua_ssl_trusted_certificate").and_then(Value::as_array);
        let mut text = String::new();
        for file in files.into_iter().flatten().filter_map(Value::as_str) {
            match std::fs::read_to_string(file) {
                Ok(pem) => text.push_str(&pem),
                Err(error) => tracing::warn!(file, %error, "trusted certificates cannot be read"),
            }
        }
        text.into()
    }

    fn product(&self) -> String {
        self.product.clone()
    }

    fn body_buffer_bytes(&self) -> u64 {
        let configuration = self.configuration.read().unwrap_or_else(PoisonError::into_inner);
        let size = |key: &str| configuration.get(key).and_then(Value::as_str).filter(|size| *size != "8k").and_then(bytes_of);
        let bytes = size("nginx_http_client_body_buffer_size").or_else(|| size("client_body_buffer_size"));
        bytes.map_or(8 << 10, |bytes| bytes as u64)
    }

    fn cache_bytes(&self) -> usize {
        let configuration = self.configuration.read().unwrap_or_else(PoisonError::into_inner);
        configuration.get("mem_cache_size").and_then(Value::as_str).and_then(bytes_of).unwrap_or(128 << 20)
    }

    fn target_health(&self) -> Vec<TargetHealth> {
        let Some(serving) = self.serving() else { return Vec::new() };
        let snapshot = serving.gateway.snapshot();
        let mut all = Vec::new();
        for balancer in snapshot.upstreams.iter() {
            let health = balancer.health();
            for target in &health.targets {
                let name = format!("{}:{}", target.host, target.port);
                let of = |address: String, state| TargetHealth { upstream: balancer.name(), target: name.clone(), address, state };
                if target.addresses.is_empty() {
                    all.push(of(String::new(), "dns_error"));
                }
                for address in &target.addresses {
                    let state = match (target.checked, address.healthy) {
                        (false, _) => "healthchecks_off",
                        (true, true) => "healthy",
                        (true, false) => "unhealthy",
                    };
                    all.push(of(format!("{}:{}", address.ip, address.port), state));
                }
            }
        }
        all
    }
}

impl admin::Node for Node {
    fn version(&self) -> String {
        self.version.clone()
    }

    fn hostname(&self) -> String {
        self.hostname.clone()
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn configuration(&self) -> Value {
        let mut shown = self.configuration.read().unwrap_or_else(PoisonError::into_inner).clone();
        shown.insert("log_level".to_owned(), admin::Node::log_level(self).into());
        Value::Object(shown)
    }

    fn pids(&self) -> (u32, Vec<u32>) {
        let workers = self.serving().map_or(0, |serving| serving.open.len());
        (std::process::id(), vec![std::process::id(); workers])
    }

    fn timers(&self) -> (u64, u64) {
        (0, 0)
    }

    fn connections(&self) -> admin::Connections {
        let counts = self.counts();
        admin::Connections {
            active: counts.active,
            reading: counts.reading,
            writing: counts.writing,
            waiting: counts.waiting,
            accepted: counts.accepted,
            handled: counts.handled,
            requests: counts.requests,
        }
    }

    fn memory(&self) -> admin::Memory {
        let pages: u64 =
            std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0);
        let resident = pages * rustix::param::page_size() as u64;
        admin::Memory { workers: vec![(std::process::id(), resident)], shared: Vec::new() }
    }

    fn ready(&self) -> Result<(), String> {
        if self.loaded.load(Ordering::Acquire) { Ok(()) } else { Err("router builds not yet complete".to_owned()) }
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn log_level(&self) -> String {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    fn set_log_level(&self, level: &str, lasting: Duration, _cluster: bool) {
        let (change, configured) = {
            let mut state = self.level.lock().unwrap_or_else(PoisonError::into_inner);
            state.now = level.to_owned();
            state.change += 1;
            (state.change, state.configured.clone())
        };
        self.log.set_level(level);
        if lasting.is_zero() {
            return;
        }
        let (log, node) = (self.log.clone(), self.me.clone());
        self.runtime.spawn(async move {
            tokio::time::sleep(lasting).await;
            let Some(node) = node.upgrade() else { return };
            let mut state = node.level.lock().unwrap_or_else(PoisonError::into_inner);
            if state.change == change {
                state.now = configured.clone();
                log.set_level(&configured);
            }
        });
    }

    fn upstream_health(&self, upstream: Uuid) -> Option<admin::UpstreamHealth> {
        let snapshot = self.serving()?.gateway.snapshot();
        let health = snapshot.upstreams.by_id(upstream)?.health();
        let hosts = health.targets.iter().map(|target| admin::HostHealth {
            host: target.host.clone(),
            port: target.port,
            dns: target.dns.unwrap_or_default().to_owned(),
            node_weight: target.weight.into(),
            addresses: target
                .addresses
                .iter()
                .map(|address| admin::AddressHealth {
                    ip: address.ip.clone(),
                    port: address.port,
                    weight: address.weight.into(),
                    healthy: address.healthy,
                })
                .collect(),
        });
        Some(admin::UpstreamHealth { checked: health.checks_in_use, healthy: health.healthy, hosts: hosts.collect() })
    }

    fn set_health(&self, upstream: Uuid, target: &str, address: Option<&str>, healthy: bool) -> Result<(), String> {
        let gone = || "upstream not found".to_owned();
        let snapshot = self.serving().ok_or_else(gone)?.gateway.snapshot();
        let balancer = snapshot.upstreams.by_id(upstream).ok_or_else(gone)?;
        let address = match address {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| format!("invalid address: {text}"))?),
        };
        balancer.set_health(target, address, healthy).map_err(|error| error.to_string())
    }

    fn configuration_hash(&self) -> Option<String> {
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn copy_served(&self) -> Option<Value> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn metrics(&self, open_metrics: bool) -> Option<admin::Metrics> {
        let (exposition, env) = self.metrics.get()?;
        // Only exemplars are worth another format: without them everybody gets Kong's.
        let open_metrics = open_metrics && env.state.get::<ExtraMetrics>().groups().has(ExtraGroups::EXEMPLARS);
        let format = if open_metrics { portcullis_plugin::Exposition::OpenMetrics } else { portcullis_plugin::Exposition::Text };
        Some(admin::Metrics { open_metrics, text: exposition(env, format) })
    }
}
