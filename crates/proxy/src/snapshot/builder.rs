//! Makes snapshots: from a whole store at the start, then change by change.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portcullis_entities::consumers::Consumer;
use portcullis_entities::plugins::Plugin;
use portcullis_entities::routes::Route;
use portcullis_entities::services::{Protocol, Service};
use portcullis_entities::targets::Target;
use portcullis_entities::upstreams::Upstream;
use portcullis_plugin::{Entry, Env, Instance};
use portcullis_schema::{Catalog, Record};
use portcullis_store::{Change, Filter, Store, StoreError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::{error, warn};
use uuid::Uuid;

use super::{ById, ByUsername, Certificates, Credentials, RouteRow, ServiceRow, Snapshot};
use crate::balancer::Upstreams;
use crate::plan::{Bound, PluginSet};
use crate::router::{self, Conditions, Router};

/// Rows read from the store at once while loading.
const PAGE: usize = 1000;

/// Keeps the working copy that the next snapshot is made from.
pub struct Builder {
    work: Snapshot,
    entries: &'static [Entry],
    env: Env,
    instances: HashMap<Uuid, (Instance, &'static Entry)>,
}

impl Builder {
    pub fn new(entries: &'static [Entry], env: Env, upstreams: Upstreams, certificates: Certificates, workspace: Uuid) -> Self {
        let credentials = entries.iter().flat_map(|entry| entry.indexes).map(|index| Credentials::new(*index)).collect();
        let work = Snapshot {
            router: Router::default(),
            plugins: PluginSet::default(),
            upstreams,
            certificates,
            workspace,
            routes: Default::default(),
            services: Default::default(),
            consumers: Default::default(),
            usernames: Default::default(),
            credentials,
        };
        Self { work, entries, env, instances: HashMap::new() }
    }

    /// A snapshot of the working copy.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.work.clone())
    }

    /// Forgets everything and reads the whole store.
    pub async fn load(&mut self, store: &dyn Store, catalog: &Catalog) -> Result<(), StoreError> {
        let mut fresh = Self::new(
            self.entries,
            self.env.clone(),
            self.work.upstreams.emptied(),
            self.work.certificates.emptied(),
            self.work.workspace,
        );
        for schema in &catalog.entities {
            if !fresh.reads(&schema.name) {
                continue;
            }
            let mut after = None;
            loop {
                let page = store.page(schema, after, PAGE, Filter::default()).await?;
                let changes = page.rows.into_iter().filter_map(|row| {
                    let id = id_of(&row)?;
                    Some(Change { schema: schema.clone(), id, old: None, new: Some(row) })
                });
                fresh.apply(&changes.collect::<Vec<_>>());
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        *self = fresh;
        Ok(())
    }

    /// Whether rows of this entity have a part in serving.
    fn reads(&self, entity: &str) -> bool {
        const CORE: [&str; 8] = ["services", "routes", "consumers", "plugins", "upstreams", "targets", "certificates", "snis"];
        CORE.contains(&entity)
            || entity == "ca_certificates"
            || self.work.credentials.iter().any(|credentials| credentials.index.entity == entity)
    }

    /// Works committed changes in. A row that cannot be understood is left out with a line in the log: it can only come from
    /// a store that somebody else wrote to, and everything else must go on being served.
    pub fn apply(&mut self, changes: &[Change]) {
        let mut touched = Vec::new();
        for change in changes {
            let (old, new) = (change.old.as_ref(), change.new.as_ref());
            match &*change.schema.name {
                "services" => self.service(change.id, new),
                "routes" => self.route(change.id, new),
                "consumers" => self.consumer(change.id, new),
                "plugins" => self.plugin(change.id, new, &mut touched),
                "upstreams" => match read::<Upstream>(new) {
                    Some(upstream) => self.work.upstreams.set_upstream(upstream),
                    None => self.work.upstreams.remove_upstream(change.id),
                },
                "targets" => match read::<Target>(new) {
                    Some(target) => self.work.upstreams.set_target(target),
                    None => self.work.upstreams.remove_target(change.id),
                },
                "certificates" => self.work.certificates.certificate(change.id, new),
                "snis" => self.work.certificates.sni(change.id, old, new),
                name => {
                    for credentials in self.work.credentials.iter_mut().filter(|credentials| credentials.index.entity == name) {
                        credentials.change(old, new);
                    }
                }
            }
        }
        let routes = &self.work.routes;
        self.work.plugins.replan(&touched, |route| routes.get(&route).and_then(|row| row.1.service));
    }

    fn service(&mut self, id: Uuid, new: Option<&Record>) {
        let was_enabled = self.work.services.get(&id).is_none_or(|row| row.1.entity.enabled);
        let Some(service) = read::<Service>(new) else {
            self.work.services.remove(&id);
            return;
        };
        let enabled = service.enabled;
        let row = service_row(service, &self.work.certificates);
        self.work.services.insert(ById(id, Arc::new(row)));
        if enabled != was_enabled {
            let routes: Vec<Arc<RouteRow>> =
                self.work.routes.iter().filter(|row| row.1.service == Some(id)).map(|row| row.1.clone()).collect();
            routes.into_iter().for_each(|row| self.place(&row));
        }
    }

    fn route(&mut self, id: Uuid, new: Option<&Record>) {
        let before = self.work.routes.get(&id).and_then(|row| row.1.service);
        let Some(route) = read::<Route>(new) else {
            self.work.routes.remove(&id);
            self.work.router.remove(id);
            self.work.plugins.route_moved(id, None);
            return;
        };
        let row = Arc::new(route_row(route));
        let after = row.service;
        self.work.routes.insert(ById(id, row.clone()));
        self.place(&row);
        if before != after {
            self.work.plugins.route_moved(id, after);
        }
    }

    /// Puts a route into the router, or takes it out while its service is disabled. Routes for streams only have no place in
    /// a router for HTTP.
    fn place(&mut self, row: &RouteRow) {
        let id = row.entity.id;
        let disabled = row.service.is_some_and(|id| self.work.services.get(&id).is_some_and(|row| !row.1.entity.enabled));
        let compiled = router::Route::compile(&conditions(&row.entity));
        match compiled {
            Ok(route) if !disabled && route.protocols.any_http() => self.work.router.insert(Arc::new(route)),
            Ok(_) => _ = self.work.router.remove(id),
            Err(problem) => {
                self.work.router.remove(id);
                error!(route = %id, %problem, "route left out");
            }
        }
    }

    fn consumer(&mut self, id: Uuid, new: Option<&Record>) {
        if let Some(old) = self.work.consumers.remove(&id)
            && let Some(username) = old.1.username.as_deref()
        {
            self.work.usernames.remove(username);
        }
        let Some(consumer) = read::<Consumer>(new).map(Arc::new) else { return };
        if consumer.username.is_some() {
            self.work.usernames.insert(ByUsername(consumer.clone()));
        }
        self.work.consumers.insert(ById(id, consumer));
    }

    fn plugin(&mut self, id: Uuid, new: Option<&Record>, touched: &mut Vec<(Option<Uuid>, Option<Uuid>)>) {
        if let Some((instance, entry)) = self.instances.remove(&id) {
            self.work.plugins.remove(entry.name, &instance);
            touched.push((instance.route, instance.service));
        }
        let Some(plugin) = read::<Plugin>(new) else { return };
        const HTTP: [&str; 4] = ["http", "https", "grpc", "grpcs"];
        let serves_http = plugin.protocols.is_empty() || plugin.protocols.iter().any(|protocol| HTTP.contains(&protocol.as_str()));
        if !plugin.enabled || !serves_http {
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
        let handler = (entry.make)(plugin.config, &instance, &self.env).map_err(|error| {
            warn!(plugin = entry.name, id = %id, %error, "plugin cannot run with its configuration: its requests are answered with 500");
            error.to_string()
        });
        touched.push((instance.route, instance.service));
        self.instances.insert(id, (instance.clone(), entry));
        self.work.plugins.insert(Arc::new(Bound { entry, instance, handler }));
    }
}

fn route_row(entity: Route) -> RouteRow {
    use Protocol::{Grpc, Grpcs, Https, Tls, TlsPassthrough};
    RouteRow {
        service: entity.service.as_ref().map(|service| service.id),
        grpc: entity.protocols.iter().all(|protocol| matches!(protocol, Grpc | Grpcs)),
        tls_only: entity.protocols.iter().all(|protocol| matches!(protocol, Https | Grpcs | Tls | TlsPassthrough)),
        entity: Arc::new(entity),
    }
}

fn conditions(route: &Route) -> Conditions {
    Conditions {
        id: route.id,
        protocols: route.protocols.iter().map(|protocol| protocol.as_str().to_owned()).collect(),
        methods: route.methods.clone().unwrap_or_default(),
        hosts: route.hosts.clone(),
        paths: route.paths.clone().unwrap_or_default(),
        headers: route.headers.iter().flatten().map(|(name, values)| (name.clone(), values.clone())).collect(),
        snis: route.snis.clone().unwrap_or_default(),
        regex_priority: route.regex_priority.unwrap_or(0),
    }
}

fn id_of(record: &Record) -> Option<Uuid> {
    record.get("id")?.as_str().and_then(|id| Uuid::try_parse(id).ok())
}

fn read<T: DeserializeOwned>(record: Option<&Record>) -> Option<T> {
    let record = record?;
    serde_json::from_value(Value::Object(record.clone()))
        .inspect_err(|error| error!(%error, id = ?record.get("id"), "row left out: it is not what its schema says"))
        .ok()
}

fn service_row(entity: Service, certificates: &Certificates) -> ServiceRow {
    let https = matches!(entity.protocol, Protocol::Https | Protocol::Grpcs);
    let bare = entity.host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, entity.port));
    let host = if matches!(address, Some(SocketAddr::V6(_))) { format!("[{bare}]") } else { entity.host.clone() };
    let host_header = host_with_port(&host, entity.port, https);
    let tls = https.then(|| certificates.upstream_tls(&entity));
    ServiceRow { https, port: entity.port, address, tls, host_header, entity: Arc::new(entity) }
}

/// `host:port`, without the port where it is the scheme's own (behaviour checklist 6.1, Host).
pub fn host_with_port(host: &str, port: u16, https: bool) -> Box<[u8]> {
    if port == if https { 443 } else { 80 } { host.as_bytes().into() } else { format!("{host}:{port}").into_bytes().into() }
}
