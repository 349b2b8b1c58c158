//! Every key of the configuration file: the one source for parsing, `GET /` and the reference documentation.
//!
//! One file a topic; [`TOPICS`] is the order in which values are checked and documented.

mod cluster;
mod database;
mod directives;
mod extensions;
mod listeners;
mod manager;
mod node;
mod proxying;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Boolean,
    /// nginx' kind of boolean: `on` or `off`, shown as text.
    OnOff,
    /// Values separated by commas.
    List,
    OneOf(&'static [&'static str]),
}

impl Kind {
    /// As Kong's messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text | Kind::OneOf(_) => "string",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
            Kind::OnOff => "ngx_boolean",
            Kind::List => "array",
        }
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would stand in the file; empty is not set.
    pub default: &'static str,
    pub doc: &'static str,
    /// The gateway acts on it. Others are accepted, so that a Kong file loads unchanged.
    pub acted_on: bool,
    /// Shown as `******`.
    pub secret: bool,
}

impl Key {
    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

const fn used(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc, acted_on: true, secret: false }
}

const fn accepted(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc, acted_on: false, secret: false }
}

/// Keys that belong together.
pub struct Topic {
    pub title: &'static str,
    pub keys: &'static [Key],
}

/// All keys.
pub const TOPICS: &[Topic] = &[
    Topic { title: "The node", keys: node::NODE },
    Topic { title: "Tracing", keys: node::TRACING },
    Topic { title: "Hybrid mode", keys: cluster::HYBRID },
    Topic { title: "Listeners", keys: listeners::LISTENERS },
    Topic { title: "TLS", keys: listeners::TLS },
    Topic { title: "Proxying", keys: proxying::PROXYING },
    Topic { title: "Workers and memory", keys: proxying::WORKERS },
    Topic { title: "Database", keys: database::DATABASE },
    Topic { title: "Name resolution", keys: proxying::DNS },
    Topic { title: "Lua and limits on what plugins read", keys: extensions::LUA },
    Topic { title: "Vaults, plugin servers, WASM", keys: extensions::EXTENSIONS },
    Topic { title: "Manager and request debugging", keys: manager::MANAGER },
    Topic { title: "nginx directives", keys: directives::DIRECTIVES },
];

/// All keys, in the order of [`TOPICS`].
pub fn all() -> impl Iterator<Item = &'static Key> {
    TOPICS.iter().flat_map(|topic| topic.keys)
}

pub fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// Another name of a key (behaviour checklist 2.1).
pub struct Alias {
    pub name: &'static str,
    pub stands_for: &'static str,
    /// Its use is warned about.
    pub deprecated: bool,
}

const fn alias(name: &'static str, stands_for: &'static str) -> Alias {
    Alias { name, stands_for, deprecated: false }
}

const fn deprecated(name: &'static str, stands_for: &'static str) -> Alias {
    Alias { name, stands_for, deprecated: true }
}

pub const ALIASES: &[Alias] = &[
    alias("nginx_user", "nginx_main_user"),
    alias("nginx_daemon", "nginx_main_daemon"),
    alias("nginx_worker_processes", "nginx_main_worker_processes"),
    alias("real_ip_header", "nginx_proxy_real_ip_header"),
    alias("real_ip_recursive", "nginx_proxy_real_ip_recursive"),
    deprecated("client_max_body_size", "nginx_http_client_max_body_size"),
    deprecated("opentelemetry_tracing", "tracing_instrumentations"),
    deprecated("opentelemetry_tracing_sampling_rate", "tracing_sampling_rate"),
    deprecated("privileged_worker", "dedicated_config_processing"),
    deprecated("router_consistency", "worker_consistency"),
];

/// Blocks of an nginx configuration that `nginx_<block>_<directive>` keys can name, longest prefixes first.
pub const BLOCKS: &[&str] = &[
    "wasm_wasmtime",
    "wasm_shm_kv",
    "wasm_wasmer",
    "wasm_v8",
    "supstream",
    "location",
    "upstream",
    "events",
    "sproxy",
    "stream",
    "status",
    "admin",
    "proxy",
    "http",
    "main",
    "wasm",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice_and_every_alias_has_its_key() {
        let mut names: Vec<_> = all().map(|key| key.name).chain(ALIASES.iter().map(|alias| alias.name)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(ALIASES.iter().all(|alias| find(alias.stands_for).is_some()));
        assert!(all().all(|key| key.doc.ends_with('.')));
    }
}
