//! What surrounds a plugin: state that outlives configuration changes, the node, a runtime for background work.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::Rows;
use crate::extra_metrics::ExtraFigures;

/// Process-wide values by type: counters, queues, caches that must survive a change of configuration.
#[derive(Default)]
pub struct State {
    values: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl State {
    /// The one value of this type, made with `Default` when first asked for. Not for the request path: plugins take it in
    /// `new` and keep the `Arc`.
    pub fn get<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let value = values.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default())).clone();
        value.downcast::<T>().expect("values are stored under their own type")
    }
}

/// Counts of client connections and requests on this node, as nginx counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    pub accepted: u64,
    pub handled: u64,
    pub active: u64,
    pub reading: u64,
    pub writing: u64,
    pub waiting: u64,
    pub requests: u64,
}

/// One address of one target of one upstream, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    pub upstream: String,
    pub target: String,
    /// `ip:port`; empty when the name does not resolve.
    pub address: String,
    /// `healthchecks_off`, `healthy`, `unhealthy` or `dns_error`.
    pub state: &'static str,
}

/// Facts about this node.
pub trait Node: Send + Sync {
    fn id(&self) -> Uuid;
    fn hostname(&self) -> &str;
    /// The version clients compare with (`3.9.3` unless switched off).
    fn version(&self) -> &str;
    fn connections(&self) -> ConnectionCounts;
    fn datastore_reachable(&self) -> bool;
    fn target_health(&self) -> Vec<TargetHealth>;
    /// Bytes that each worker process uses, by process id.
    fn worker_memory(&self) -> Vec<(u32, u64)> {
        Vec::new()
    }
    /// What `extra_metrics` tells of the node itself.
    fn extra_figures(&self) -> ExtraFigures {
        ExtraFigures::default()
    }
    /// The CA certificates that plugins' own connections trust, in PEM (`lua_ssl_trusted_certificate`).
    fn trusted_certificates(&self) -> Arc<str> {
        Arc::from("")
    }
    /// Name and version of this gateway, as headers tell them: `kong/3.9.3`.
    fn product(&self) -> String {
        format!("kong/{}", self.version())
    }
    /// Up to which size request bodies stay in memory, in bytes (`client_body_buffer_size`).
    fn body_buffer_bytes(&self) -> u64 {
        8 << 10
    }
    /// How much memory cached responses may take on this node, in bytes (`mem_cache_size`).
    fn cache_bytes(&self) -> usize {
        128 << 20
    }
}

/// Handed to every plugin instance when it is made.
#[derive(Clone)]
pub struct Env {
    pub state: Arc<State>,
    pub node: Arc<dyn Node>,
    /// Plugins' own tables, for requests that have something to keep.
    pub rows: Rows,
    /// The control runtime: background tasks run here, never on a worker.
    pub runtime: tokio::runtime::Handle,
}
