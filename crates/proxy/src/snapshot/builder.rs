//! Makes snapshots: from a whole store at the start, then change by change.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use portcullis_entities::consumers::Consumer;
use portcullis_entities::plugins::Plugin;
use portcullis_entities::routes::{Flavor, Route};
use portcullis_entities::services::{Protocol, Service};
use portcullis_entities::targets::Target;
use portcullis_entities::upstreams::Upstream;
use portcullis_entities::vaults::Vault;
use portcullis_plugin::{Entry, Env, Instance};
use portcullis_schema::{Catalog, Record, Schema, id_of};
use portcullis_store::{Change, Filter, Store, StoreError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::{error, warn};
use uuid::Uuid;

use super::{ById, ByUsername, Certificates, Credentials, ServiceRow, Snapshot};
use crate::balancer::{Registry, Upstreams};
use crate::plan::{Bound, PluginSet};
use crate::router::{self, Router};
use crate::vault::{self, Vaults};

/// Rows read from the store at once while loading.
const PAGE: usize = 1000;

/// Keeps the working copy that the next snapshot is made from.
pub struct Builder {
    work: Snapshot,
    entries: &'static [Entry],
    env: Env,
    registry: Arc<Registry>,
    /// Every route, also those of disabled services.
    routes: HashMap<Uuid, Arc<router::Route>>,
    instances: HashMap<Uuid, (Instance, &'static Entry)>,
    upstreams: HashMap<Uuid, Balanced>,
    /// Names of upstreams that have a client certificate, and its id.
    shown_to: HashMap<Uuid, (String, Uuid)>,
    loading: bool,
    flavor: Flavor,
    vaults: Vaults,
    /// Rows with references to secrets, as they are stored.
    referring: HashMap<(Box<str>, Uuid), Record>,
}

/// An upstream and its targets, in whatever order they come.
#[derive(Default)]
struct Balanced {
    entity: Option<Arc<Upstream>>,
    targets: BTreeMap<Uuid, Arc<Target>>,
}

impl Builder {
    pub fn new(entries: &'static [Entry], env: Env, registry: Arc<Registry>, certificates: Certificates, workspace: Uuid) -> Self {
        let credentials = entries.iter().flat_map(|entry| entry.indexes).map(|index| Credentials::new(*index)).collect();
        let work = Snapshot {
            router: Router::default(),
            plugins: PluginSet::default(),
            stream_plugins: PluginSet::default(),
            upstreams: Upstreams::new(registry.clone()),
            certificates,
            workspace,
            services: Default::default(),
            consumers: Default::default(),
            usernames: Default::default(),
            credentials,
        };
        Self {
            work,
            entries,
            env,
            registry,
            routes: HashMap::new(),
            instances: HashMap::new(),
            upstreams: HashMap::new(),
            shown_to: HashMap::new(),
            loading: false,
            flavor: Flavor::default(),
            vaults: Vaults::default(),
            referring: HashMap::new(),
        }
    }

    /// Secrets are to be found in these vaults, and in those the store brings.
    pub fn with_vaults(self, vaults: Vaults) -> Self {
        Self { vaults, ..self }
    }

    /// Routes are to be understood as this flavour of the router does.
    pub fn flavored(self, flavor: Flavor) -> Self {
        Self { flavor, ..self }
    }

    /// A snapshot of the working copy.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.work.clone())
    }

    /// Waits until the names of new targets are resolved, within `limit`: else their first requests would find nobody.
    pub async fn settle(&self, limit: Duration) {
        self.work.upstreams.settle(limit).await;
    }

    /// A builder like this one that holds nothing yet.
    pub fn emptied(&self) -> Self {
        let certificates = self.work.certificates.emptied();
        let fresh = Self::new(self.entries, self.env.clone(), self.registry.clone(), certificates, self.work.workspace);
        Self { loading: true, flavor: self.flavor, vaults: self.vaults.emptied(), ..fresh }
    }

    /// Ends loading: what waited for everything to be there is worked out.
    fn complete(mut self) -> Self {
        self.loading = false;
        // Vaults may have come after the rows that name them.
        if !self.referring.is_empty() {
            self.refill();
        }
        let upstreams: Vec<Uuid> = self.upstreams.keys().copied().collect();
        upstreams.into_iter().for_each(|id| self.balance(id));
        self
    }

    /// Forgets everything and reads the whole store.
    pub async fn load(&mut self, store: &dyn Store, catalog: &Catalog) -> Result<(), StoreError> {
        let mut fresh = self.emptied();
        for schema in &catalog.entities {
            if !fresh.reads(&schema.name) {
                continue;
            }
            let mut after = None;
            loop {
                let page = store.page(schema, after, PAGE, Filter::default()).await?;
                fresh.take(page.rows.iter().map(|row| (&**schema, row)));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        *self = fresh.complete();
        Ok(())
    }

    /// One that was [emptied](Builder::emptied), with these rows, in dependency order: what [`Builder::load`] would read from a
    /// store that holds just them.
    pub fn holding<'a>(mut self, rows: impl Iterator<Item = (&'a Schema, &'a Record)>) -> Self {
        self.take(rows);
        self.complete()
    }

    fn take<'a>(&mut self, rows: impl Iterator<Item = (&'a Schema, &'a Record)>) {
        let mut touched = Vec::new();
        for (schema, row) in rows {
            if let Some(id) = id_of(row).filter(|_| self.reads(&schema.name)) {
                self.change(&schema.name, id, None, Some(row), &mut touched);
            }
        }
        self.replan(&touched);
    }

    fn reads(&self, entity: &str) -> bool {
        has_a_part(self.entries, entity)
    }

    /// Works committed changes in. A row that cannot be understood is left out with a line in the log: it can only come from
    /// a store that somebody else wrote to, and everything else must go on being served.
    ///
    /// Answers whether the snapshot is another now: what nobody serves from changes nothing.
    pub fn apply(&mut self, changes: &[Change]) -> bool {
        let mut touched = Vec::new();
        let mut worked = false;
        for change in changes {
            if self.reads(&change.schema.name) {
                self.change(&change.schema.name, change.id, change.old.as_ref(), change.new.as_ref(), &mut touched);
                worked = true;
            }
        }
        self.replan(&touched);
        worked
    }

    fn replan(&mut self, touched: &[(Option<Uuid>, Option<Uuid>)]) {
        let routes = &self.routes;
        let service_of = |route| routes.get(&route).and_then(|route: &Arc<router::Route>| route.service);
        self.work.plugins.replan(touched, service_of);
        self.work.stream_plugins.replan(touched, service_of);
    }

    fn change(
        &mut self,
        entity: &str,
        id: Uuid,
        old: Option<&Record>,
        new: Option<&Record>,
        touched: &mut Vec<(Option<Uuid>, Option<Uuid>)>,
    ) {
        let filled = self.filled(entity, id, new);
        let new = filled.as_ref().or(new);
        match entity {
            "vaults" => self.vault(id, new, touched),
            "services" => self.service(id, new),
            "routes" => self.route(id, new),
            "consumers" => self.consumer(id, new),
            "plugins" => self.plugin(id, new, touched),
            "upstreams" => self.upstream(id, new),
            "targets" => self.target(id, old, new),
            "certificates" => {
                self.work.certificates.certificate(id, new);
                let upstreams: Vec<String> = self.shown_to.values().filter(|(_, of)| *of == id).map(|(name, _)| name.clone()).collect();
                self.speak_anew(|service| {
                    service.client_certificate.as_ref().map_or_else(|| upstreams.contains(&service.host), |of| of.id == id)
                });
            }
            "ca_certificates" => {
                self.work.certificates.authority(id, new);
                self.speak_anew(|service| service.ca_certificates.iter().flatten().any(|of| *of == id));
            }
            "snis" => self.work.certificates.sni(old, new),
            name => {
                for credentials in self.work.credentials.iter_mut().filter(|credentials| credentials.index.entity == name) {
                    credentials.change(old, new);
                }
            }
        }
    }

    /// The row with secrets in place of references; none if it has no references. Remembers which rows have.
    fn filled(&mut self, entity: &str, id: Uuid, new: Option<&Record>) -> Option<Record> {
        if !matches!(entity, "plugins" | "certificates" | "ca_certificates") {
            return None;
        }
        let Some(row) = new.filter(|row| vault::has_references(row)) else {
            if !self.referring.is_empty() {
                self.referring.remove(&(entity.into(), id));
            }
            return None;
        };
        self.referring.insert((entity.into(), id), row.clone());
        let mut filled = row.clone();
        if entity == "plugins" {
            let named = row.get("name").and_then(Value::as_str);
            let entry = self.entries.iter().find(|entry| Some(entry.name) == named)?;
            if let Some(config) = filled.get_mut("config") {
                self.vaults.fill_value(&(entry.schema)().config, config);
            }
        } else {
            let schema = portcullis_entities::core().into_iter().find(|schema| schema.name == entity)?;
            self.vaults.fill(&schema.fields, &mut filled);
        }
        Some(filled)
    }

    fn vault(&mut self, id: Uuid, new: Option<&Record>, touched: &mut Vec<(Option<Uuid>, Option<Uuid>)>) {
        match read::<Vault>(new) {
            Some(vault) => self.vaults.insert(vault),
            None => self.vaults.remove(id),
        }
        if !self.loading {
            self.refer_anew(touched);
        }
    }

    /// Compiles all rows with references once more: a vault they may name is another now.
    fn refer_anew(&mut self, touched: &mut Vec<(Option<Uuid>, Option<Uuid>)>) {
        let rows: Vec<((Box<str>, Uuid), Record)> = self.referring.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
        for ((entity, id), row) in rows {
            self.change(&entity, id, Some(&row), Some(&row), touched);
        }
    }

    fn refill(&mut self) {
        let mut touched = Vec::new();
        self.refer_anew(&mut touched);
        self.replan(&touched);
    }

    fn service(&mut self, id: Uuid, new: Option<&Record>) {
        let was_enabled = self.work.services.get(&id).is_none_or(|row| row.0.entity.enabled);
        let Some(service) = read::<Service>(new) else {
            self.work.services.remove(&id);
            return;
        };
        let enabled = service.enabled;
        let row = self.service_row(service);
        self.work.services.insert(ById(Arc::new(row)));
        if enabled != was_enabled {
            let routes: Vec<Arc<router::Route>> = self.routes.values().filter(|route| route.service == Some(id)).cloned().collect();
            routes.into_iter().for_each(|route| self.place(route));
        }
    }

    /// Works out anew how TLS is spoken with the services whose certificates changed.
    fn speak_anew(&mut self, concerned: impl Fn(&Service) -> bool) {
        let rows: Vec<Arc<ServiceRow>> =
            self.work.services.iter().filter(|row| row.0.tls.is_some() && concerned(&row.0.entity)).map(|row| row.0.clone()).collect();
        for row in rows {
            let fresh = self.service_row((*row.entity).clone());
            self.work.services.insert(ById(Arc::new(fresh)));
        }
    }

    fn route(&mut self, id: Uuid, new: Option<&Record>) {
        let before = self.routes.remove(&id).and_then(|route| route.service);
        let compiled = read::<Route>(new).and_then(|route| {
            router::Route::compile_for(Arc::new(route), self.flavor)
                .inspect_err(|problem| error!(route = %id, %problem, "route left out"))
                .ok()
        });
        let after = compiled.as_ref().and_then(|route| route.service);
        match compiled.map(Arc::new) {
            Some(route) => {
                self.routes.insert(id, route.clone());
                self.place(route);
            }
            None => _ = self.work.router.remove(id),
        }
        if before != after {
            self.work.plugins.route_moved(id, after);
            self.work.stream_plugins.route_moved(id, after);
        }
    }

    /// Puts a route into the router, or takes it out while its service is disabled.
    fn place(&mut self, route: Arc<router::Route>) {
        let disabled = route.service.is_some_and(|id| self.work.services.get(&id).is_some_and(|row| !row.0.entity.enabled));
        if disabled {
            self.work.router.remove(route.id);
        } else {
            self.work.router.insert(route);
        }
    }

    /// Services that lead to an upstream show its client certificate.
    fn show_to(&mut self, id: Uuid, upstream: Option<&Upstream>) {
        let shown = upstream.and_then(|upstream| Some((upstream.name.clone(), upstream.client_certificate.as_ref()?.id)));
        let before = match shown.clone() {
            Some(shown) => self.shown_to.insert(id, shown),
            None => self.shown_to.remove(&id),
        };
        if before != shown {
            let names: Vec<String> = before.into_iter().chain(shown).map(|(name, _)| name).collect();
            self.speak_anew(|service| names.contains(&service.host));
        }
    }

    fn upstream(&mut self, id: Uuid, new: Option<&Record>) {
        let upstream = read::<Upstream>(new);
        self.show_to(id, upstream.as_ref());
        let Some(upstream) = upstream.map(Arc::new) else {
            self.upstreams.remove(&id);
            self.work.upstreams.remove(id);
            return;
        };
        self.upstreams.entry(id).or_default().entity = Some(upstream);
        self.balance(id);
    }

    fn target(&mut self, id: Uuid, old: Option<&Record>, new: Option<&Record>) {
        if let Some(upstream) = old.and_then(upstream_of)
            && let Some(balanced) = self.upstreams.get_mut(&upstream)
        {
            balanced.targets.remove(&id);
            self.balance(upstream);
        }
        let (Some(upstream), Some(target)) = (new.and_then(upstream_of), read::<Target>(new)) else { return };
        self.upstreams.entry(upstream).or_default().targets.insert(id, Arc::new(target));
        self.balance(upstream);
    }

    /// Hands an upstream with all its targets to the balancers. While loading, that waits until everything is read.
    fn balance(&mut self, id: Uuid) {
        if self.loading {
            return;
        }
        let Some(Balanced { entity: Some(upstream), targets }) = self.upstreams.get(&id) else { return };
        self.work.upstreams.insert(upstream.clone(), targets.values().cloned().collect());
    }

    fn consumer(&mut self, id: Uuid, new: Option<&Record>) {
        if let Some(old) = self.work.consumers.remove(&id)
            && let Some(username) = old.0.username.as_deref()
        {
            self.work.usernames.remove(username);
        }
        let Some(consumer) = read::<Consumer>(new).map(Arc::new) else { return };
        if consumer.username.is_some() {
            self.work.usernames.insert(ByUsername(consumer.clone()));
        }
        self.work.consumers.insert(ById(consumer));
    }

    fn plugin(&mut self, id: Uuid, new: Option<&Record>, touched: &mut Vec<(Option<Uuid>, Option<Uuid>)>) {
        if let Some((instance, entry)) = self.instances.remove(&id) {
            self.work.plugins.remove(entry.name, &instance);
            self.work.stream_plugins.remove(entry.name, &instance);
            touched.push((instance.route, instance.service));
        }
        let Some(plugin) = read::<Plugin>(new) else { return };
        const HTTP: [&str; 4] = ["http", "https", "grpc", "grpcs"];
        let is_http = |protocol: &str| HTTP.contains(&protocol);
        let serves_http = plugin.protocols.is_empty() || plugin.protocols.iter().any(|protocol| is_http(protocol.as_str()));
        let serves_streams = !plugin.protocols.iter().all(|protocol| is_http(protocol.as_str()));
        if !plugin.enabled {
            return;
        }
        let Some(entry) = self.entries.iter().find(|entry| entry.name == plugin.name) else {
            error!(plugin = plugin.name, id = %id, "plugin is in use but not enabled");
            return;
        };
        let instance = Instance {
            id,
            route: plugin.route.map(|of| of.id),
            service: plugin.service.map(|of| of.id),
            consumer: plugin.consumer.map(|of| of.id),
        };
        let handler = (entry.make)(Value::Object(plugin.config), &instance, &self.env).map_err(|error| {
            warn!(plugin = entry.name, id = %id, %error, "plugin cannot run with its configuration: its requests are answered with 500");
            error.to_string()
        });
        touched.push((instance.route, instance.service));
        self.instances.insert(id, (instance.clone(), entry));
        let bound = Arc::new(Bound::new(entry, instance, handler));
        if serves_streams && entry.streams {
            self.work.stream_plugins.insert(bound.clone());
        }
        if serves_http {
            self.work.plugins.insert(bound);
        }
    }
}

/// Whether rows of this entity have a part in serving, with these plugins.
pub fn has_a_part(entries: &[Entry], entity: &str) -> bool {
    const CORE: [&str; 10] =
        ["services", "routes", "consumers", "plugins", "upstreams", "targets", "certificates", "snis", "vaults", "ca_certificates"];
    CORE.contains(&entity) || entries.iter().flat_map(|entry| entry.indexes).any(|index| index.entity == entity)
}

fn upstream_of(record: &Record) -> Option<Uuid> {
    record.get("upstream")?.get("id")?.as_str().and_then(|id| Uuid::try_parse(id).ok())
}

fn read<T: DeserializeOwned>(record: Option<&Record>) -> Option<T> {
    let record = record?;
    T::deserialize(record).inspect_err(|error| error!(%error, id = ?record.get("id"), "row left out: it is not what its schema says")).ok()
}

impl Builder {
    fn service_row(&self, entity: Service) -> ServiceRow {
        let of_upstream = self.shown_to.values().find(|(name, _)| *name == entity.host).map(|(_, certificate)| *certificate);
        service_row(entity, &self.work.certificates, of_upstream)
    }
}

fn service_row(entity: Service, certificates: &Certificates, of_upstream: Option<Uuid>) -> ServiceRow {
    let https = matches!(entity.protocol, Protocol::Https | Protocol::Grpcs);
    let grpc = matches!(entity.protocol, Protocol::Grpc | Protocol::Grpcs);
    let bare = entity.host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, entity.port));
    let host = if matches!(address, Some(SocketAddr::V6(_))) { format!("[{bare}]") } else { entity.host.clone() };
    let host_header = host_with_port(&host, entity.port, https);
    // A plugin may ask for TLS where an HTTP service does not.
    let streams_plainly = matches!(entity.protocol, Protocol::Tcp | Protocol::Udp | Protocol::TlsPassthrough);
    let tls = (!streams_plainly).then(|| certificates.upstream_tls(&entity, of_upstream));
    ServiceRow { https, grpc, port: entity.port, host: entity.host.as_str().into(), address, tls, host_header, entity: Arc::new(entity) }
}

/// `host:port`, without the port where it is the scheme's own (behaviour checklist 6.1, Host).
pub fn host_with_port(host: &str, port: u16, https: bool) -> Box<[u8]> {
    if port == if https { 443 } else { 80 } { host.as_bytes().into() } else { format!("{host}:{port}").into_bytes().into() }
}
