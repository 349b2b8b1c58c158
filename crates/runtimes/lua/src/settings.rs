//! What the configuration file says of Lua.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ipnet::IpNet;
use portcullis_plugin::{Exchange, Rows};
use portcullis_schema::Record;

use crate::custom::Instances;
pub use crate::native::Shared;

/// How far code in configuration is trusted (`untrusted_lua`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// It is not run.
    Off,
    /// It sees what can do no harm.
    Sandbox,
    /// It sees everything.
    On,
}

#[derive(Clone)]
pub struct Settings {
    pub untrusted: Untrusted,
    /// Modules that sandboxed code may load.
    pub sandbox_requires: Vec<String>,
    /// Globals that sandboxed code sees beside the usual ones, as dotted paths.
    pub sandbox_environment: Vec<String>,
    /// Where modules are looked for.
    pub package_path: String,
    /// How long code may run at a stretch.
    pub time_limit: Duration,
    /// Bytes that a thread's state may hold.
    pub memory_limit: usize,
    /// Peers whose word about clients is believed.
    pub trusted_ips: Vec<IpNet>,
    /// The node's configuration, as the Admin API shows it.
    pub configuration: Record,
    /// What a log plugin would send of an exchange.
    pub serialize: fn(&Exchange<'_>) -> Record,
    /// The version clients are told.
    pub version: String,
    pub node_id: String,
    /// Instances of users' plugins, as they are configured now.
    pub instances: Arc<Instances>,
    /// What `ngx.shared` holds.
    pub shared: Arc<Shared>,
    /// Where rows are read and written, once the node has a store.
    pub rows: Arc<OnceLock<Rows>>,
    pub hostname: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            untrusted: Untrusted::Sandbox,
            sandbox_requires: Vec::new(),
            sandbox_environment: Vec::new(),
            package_path: String::new(),
            time_limit: Duration::from_millis(500),
            memory_limit: 256 << 20,
            trusted_ips: Vec::new(),
            configuration: Record::new(),
            serialize: |_| Record::new(),
            version: "3.9.3".to_owned(),
            node_id: String::new(),
            instances: Arc::default(),
            shared: Arc::default(),
            rows: Arc::default(),
            hostname: String::new(),
        }
    }
}
