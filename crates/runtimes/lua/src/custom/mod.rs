//! Plugins that users wrote: `kong.plugins.NAME.handler` and `.schema`, found by `lua_package_path`.
//!
//! A plugin is looked at once, when the node starts: its priority, the phases it has code for, its schema and its own
//! entities. Each worker thread loads its modules anew when it first needs them.
//!
//! - [`api`]: endpoints of the Admin API
//! - [`schema`]: schemas from Lua tables
//! - [`entry`]: what the gateway is told of a plugin
//! - [`instance`]: a configured instance's handler

pub mod api;
pub mod entry;
pub mod instance;
pub mod schema;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use uuid::Uuid;

/// The configured instances of users' plugins: what their `configure` is told. Shared by all states.
#[derive(Default)]
pub struct Instances {
    by_plugin: Mutex<BTreeMap<&'static str, BTreeMap<Uuid, Value>>>,
    version: AtomicU64,
    names: Mutex<Vec<&'static str>>,
}

impl Instances {
    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Notes that there is such a plugin.
    pub fn know(&self, plugin: &'static str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push(plugin);
    }

    /// The plugins there are.
    pub fn names(&self) -> Vec<&'static str> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn add(&self, plugin: &'static str, id: Uuid, config: Value) {
        self.by_plugin.lock().unwrap_or_else(PoisonError::into_inner).entry(plugin).or_default().insert(id, config);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Forgets an instance if its configuration is still this one.
    pub fn remove(&self, plugin: &'static str, id: Uuid, config: &Value) {
        let mut all = self.by_plugin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instances) = all.get_mut(plugin)
            && instances.get(&id) == Some(config)
        {
            instances.remove(&id);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// The configurations of a plugin's instances.
    pub fn of(&self, plugin: &str) -> Vec<Value> {
        let all = self.by_plugin.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(plugin).map(|instances| instances.values().cloned().collect()).unwrap_or_default()
    }
}
