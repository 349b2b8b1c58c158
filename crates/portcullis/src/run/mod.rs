//! A running node: everything the other rooms hold, put together, and kept until a signal says otherwise.
//!
//! - [`workers`]: the threads that serve clients
//! - [`quic`]: the thread that receives their datagrams
//! - [`servers`]: Admin and Status API on the control runtime
//! - [`publisher`]: from a committed change to the next snapshot
//! - [`declarative`]: the configuration of a node without a database
//! - [`stores`]: where configuration is kept, [`last_good`]: copies of it for when that cannot be reached
//! - [`lua`]: what runs code in configuration
//! - [`extensions`]: what plugins add to the Admin API
//! - [`rows`]: plugins' own tables, as their requests read and write them
//! - [`node`]: facts the APIs and the plugins may ask for
//!
//! The control runtime (this file) never serves a client; the workers never wait for it.

pub mod catalog;
pub mod declarative;
mod extensions;
pub mod last_good;
pub mod lua;
mod memory;
mod node;
mod publisher;
mod quic;
mod rows;
mod servers;
pub mod stores;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use portcullis_admin::{AdminState, Settings as AdminSettings};
use portcullis_entities::DEFAULT_WORKSPACE;
use portcullis_lua::Lua;
use portcullis_plugin::extra_metrics::ExtraMetrics;
use portcullis_plugin::{Entry, Env, Rows, State, Tracing};
use portcullis_plugins::opentelemetry::{MetricsSender, MetricsTo};
use portcullis_plugins::queue::Counts;
use portcullis_proxy::balancer::{ProbeTls, Registry};
use portcullis_proxy::dns::Dns;
use portcullis_proxy::gateway::Gateway;
use portcullis_proxy::snapshot::builder::Builder;
use portcullis_proxy::snapshot::{Certificates, Serving};
use portcullis_proxy::vault::Vaults;
use portcullis_schema::Catalog;
use portcullis_store::Store;
use portcullis_store::declarative::Declarative;
use portcullis_wire::listener::Listen;
use portcullis_wire::listener::quic::QuicTls;
use portcullis_wire::tls::{self, Asked, CertifiedKey, ServerTls, Shown, UpstreamConfigs};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::access_log::{self, AccessLog};
use crate::conf::settings::{AccessLogs, Database, PemPair};
use crate::conf::{self, Complaints, Settings};
use crate::log::{Log, NOTICE};
use crate::{log, prefix};
use last_good::Keeper;
use node::Node;
use publisher::Publisher;
use quic::Quic;
use servers::ApiLog;
use stores::Stores;
use workers::{Plan, Sockets, Workers};

/// Runs a node with these settings until it is told to stop; `ready` is called once it serves.
///
/// Errors with one line when it cannot start.
pub fn run(settings: Settings, ready: impl FnOnce()) -> Result<(), String> {
    let named = settings.loaded.given.contains_key("proxy_error_log");
    let file = (named || !settings.foreground).then_some(settings.error_log.as_path());
    let log = log::start(file, &settings.log_level).map_err(|error| format!("{}: {error}", settings.error_log.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // What a thread has freed is given back once it ends: after a large configuration that is most of it.
        .thread_keep_alive(Duration::from_secs(1))
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| format!("starting the control runtime: {error}"))?;
    let ended = runtime.block_on(live(settings, Arc::new(log), ready));
    // Background tasks (queues, probes) have been told to end with what owns them; none may hold up the exit.
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

/// How long a stopping node tries to send what logs and metrics have queued.
const QUEUES_PATIENCE: Duration = Duration::from_secs(3);

/// What lives as long as the process, whatever generation serves.
struct House {
    catalog: Arc<Catalog>,
    entries: &'static [Entry],
    store: Arc<dyn Store>,
    declarative: Option<Arc<Declarative>>,
    env: Env,
    node: Arc<Node>,
    publisher: Arc<Publisher>,
    lua: Lua,
    /// The default workspace's id.
    workspace: Uuid,
}

async fn live(settings: Settings, log: Arc<Log>, ready: impl FnOnce()) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("signal handlers: {error}"))?;
    let node_id = prefix::node_id(&settings);
    let lua = lua::install(&settings, node_id);
    let entries = catalog::enabled(&settings.plugins, &lua)?;
    let catalog = Arc::new(catalog::for_node(entries, &settings));
    let unwatched = catalog::unwatched(entries, &catalog);
    let Stores { store, embedded, postgres, declarative, copy } = Stores::open(&settings, &catalog, node_id, unwatched).await?;
    let workspace = copy.as_ref().map(|copy| copy.workspace).or(store.workspace()).unwrap_or(DEFAULT_WORKSPACE);
    let node = Node::new(node_id, &settings, store.clone(), Handle::current(), log.clone());
    let (rows, calls) = Rows::channel(settings.database == Database::Postgres);
    let env = Env { state: Arc::new(State::default()), node: node.clone(), rows, runtime: Handle::current() };
    lua.rows(env.rows.clone());
    node.expose(entries, env.clone());

    env.state.get::<Tracing>().set(settings.tracing.0, settings.tracing.1);
    env.state.get::<ExtraMetrics>().switch(settings.extra_metrics);
    let (gateway, builder, tls) = generation(&settings, entries, &env, workspace)?;
    let listens = all_listens(&settings);
    let publisher = Arc::new(Publisher::new(store.clone(), declarative.clone(), catalog.clone(), builder, gateway.clone(), node.clone()));
    let house = House { catalog, entries, store, declarative, env, node, publisher, workspace, lua };
    let used = match &copy {
        Some(copy) => {
            house.publisher.load_copy(&copy.rows).await;
            house.node.serve_copy(copy.number, copy.taken);
            catalog::plugins_in(&copy.rows)
        }
        None => {
            if !declarative::load(&settings, &house.catalog, &house.publisher).await? {
                house.publisher.load().await.map_err(|error| format!("loading the configuration: {error}"))?;
            }
            catalog::plugins_in_use(&house.catalog, &*house.store).await?
        }
    };
    drop(copy);
    catalog::refuse_disabled(&used, house.entries)?;
    match catalog::without_handler(&used, house.entries) {
        Some(problem) if settings.plugins_strict => return Err(problem),
        Some(problem) => warn!("{problem}: requests through them fail"),
        None => {}
    }

    let mut logs = Logs::start(&settings.access_logs, &house.env)?;
    // First, so that who can connect over TCP finds it open.
    let mut quic = Quic::default();
    quic.open(&listens, tls.quic.as_ref())?;
    let mut sockets = Sockets::open(&listens, settings.workers)?;
    let mut tasks = JoinSet::new();
    serve_apis(&mut tasks, &settings, &house, &logs)?;
    tasks.spawn(house.node.clone().watch_store());
    tasks.spawn(house.publisher.clone().follow());
    let mut metrics = Metrics::start(settings.otlp_metrics.as_ref(), &house.env)?;
    if let Some(copies) = stores::copies(&settings) {
        let node = house.node.clone();
        let told = Box::new(move |hash| node.know_hash(hash));
        tasks
            .spawn(Keeper { copies, store: house.store.clone(), entities: catalog::watched(house.entries, &house.catalog), told }.follow());
    }
    tasks.spawn(rows::serve(calls, house.catalog.clone(), house.store.clone(), house.publisher.clone()));
    let arrivals = quic.serve_with(&listens, tls.quic.as_ref(), settings.workers);
    let plan = plan(&settings, gateway.clone(), tls, logs.proxy.as_ref());
    let mut workers = Workers::start(&plan, &sockets, arrivals)?;
    house.node.serve_with(gateway, workers.open(), &settings);
    prefix::write_pid(&settings.prefix)?;
    prefix::keep_request_debug_token(&settings);
    ready();
    memory::give_back_code();
    info!(target: NOTICE, version = env!("CARGO_PKG_VERSION"), prefix = %settings.prefix.display(), workers = settings.workers, "serving");

    let home = settings.prefix.clone();
    let mut settings = settings;
    loop {
        match signals.next().await {
            Told::Reload => match reload(&settings, &house, &sockets, &mut quic, &logs).await {
                Ok(Renewed { settings: fresh, sockets: opened, workers: started, log: opened_log }) => {
                    let old = std::mem::replace(&mut workers, started);
                    // The old generation finishes what it has; nobody waits for it.
                    let log = opened_log.map(|fresh| logs.proxy.replace(fresh));
                    let retiring = old.retire();
                    tasks.spawn(async move {
                        retiring.await;
                        // What the last of them wrote goes out first.
                        drop(log);
                    });
                    logs.reopen();
                    sockets = opened;
                    settings = fresh;
                    match Metrics::start(settings.otlp_metrics.as_ref(), &house.env) {
                        Ok(fresh) => metrics = fresh,
                        Err(problem) => error!(problem, "metrics go where they went before"),
                    }
                    prefix::keep_request_debug_token(&settings);
                    info!(target: NOTICE, "reloaded");
                }
                Err(problem) => error!(problem, "not reloaded: the node serves on as before"),
            },
            Told::Reopen => {
                log.reopen();
                logs.reopen();
            }
            Told::Quit => {
                // The last to hold the listening sockets are the workers, which close them: nobody may connect and wait in vain.
                drop(sockets);
                let hurry = workers.hurry();
                let draining = tokio::spawn(workers.drain());
                tokio::select! {
                    _ = draining => {}
                    () = signals.stop() => {
                        quic.close();
                        hurry();
                    }
                }
                break;
            }
            Told::Stop => {
                quic.close();
                workers.stop().await;
                break;
            }
        }
    }
    quic.stop().await;
    tasks.shutdown().await;
    drop(logs);
    metrics.end().await;
    portcullis_plugins::queue::drain::drain(&house.env, QUEUES_PATIENCE).await;
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    if let Some(postgres) = postgres {
        postgres.close().await;
    }
    info!(target: NOTICE, "stopped");
    prefix::remove_pid(&home);
    Ok(())
}

/// What a generation of workers serves with: made at the start and by every reload.
fn generation(
    settings: &Settings,
    entries: &'static [Entry],
    env: &Env,
    workspace: Uuid,
) -> Result<(Arc<Gateway>, Builder, ClientTls), String> {
    let dns = Dns::new(settings.dns.clone(), Handle::current()).map_err(|error| format!("name resolution: {error}"))?;
    let seed = uuid::Uuid::new_v4().as_u64_pair().1;
    let configs = UpstreamConfigs::with_defaults(settings.upstream_tls.clone());
    let probing = |verify| configs.make(Asked { verify: Some(verify), roots: &settings.trusted, ..Asked::default() }).config.clone();
    let probes = ProbeTls { verifying: probing(true), trusting: probing(false) };
    let registry = Registry::start(dns.clone(), Handle::current(), seed, Some(probes));
    let fallback = certificate(settings, settings.proxy_certificate.as_ref(), "portcullis-default")?;
    let second = settings.proxy_certificate_alternative.as_ref().map(|pair| tls::certified_key(&pair.certificate, &pair.key)).transpose();
    let fallback = Shown { first: fallback, second: second.map_err(|error| format!("ssl_cert: {error}"))? };
    let certificates = Certificates::new(Some(fallback), Arc::new(configs));
    let builder = Builder::new(entries, env.clone(), registry, certificates, workspace);
    let vaults = Vaults::new(settings.loaded.text("vault_env_prefix").unwrap_or_default());
    let builder = builder.flavored(settings.flavor).with_vaults(vaults);
    let gateway = Arc::new(Gateway::new(settings.proxy.clone(), dns, builder.snapshot()).with_extra(env.state.get()));
    let certificates = Arc::new(Serving { gateway: gateway.clone(), own: env.state.get() });
    let http = ServerTls::new(certificates.clone(), &settings.tls).map_err(|error| error.to_string())?;
    let streams = ServerTls::for_streams(certificates, &settings.tls).map_err(|error| error.to_string())?;
    let speaks_quic = settings.proxy_listens.iter().any(|listen| listen.quic);
    let quic = speaks_quic.then(|| QuicTls::new(&http, &settings.wire)).transpose().map_err(|error| error.to_string())?;
    Ok((gateway, builder, ClientTls { http, streams, quic }))
}

/// How TLS is spoken with clients.
struct ClientTls {
    http: ServerTls,
    streams: ServerTls,
    /// Where an entry says `quic`.
    quic: Option<QuicTls>,
}

fn plan(settings: &Settings, gateway: Arc<Gateway>, tls: ClientTls, log: Option<&AccessLog>) -> Plan {
    let streams_from = settings.proxy_listens.len();
    let access_log = settings.access_logs.proxy.as_ref().zip(log).map(|(settings, log)| (settings.format.clone(), log.lines.clone()));
    let (port_maps, wire) = (settings.proxy.port_maps.clone(), settings.wire.clone());
    let (tls, stream_tls) = (tls.http, tls.streams);
    Plan { gateway, tls, stream_tls, streams_from, port_maps, wire, pools: settings.pools, access_log }
}

/// The listeners of HTTP, then those of streams.
fn all_listens(settings: &Settings) -> Vec<Listen> {
    settings.proxy_listens.iter().chain(&settings.stream_listens).cloned().collect()
}

/// A configured certificate, or the node's own of that name.
fn certificate(settings: &Settings, configured: Option<&PemPair>, stem: &str) -> Result<Arc<CertifiedKey>, String> {
    match configured {
        Some(pair) => tls::certified_key(&pair.certificate, &pair.key),
        None => tls::self_signed_default(&settings.prefix.join("ssl"), stem),
    }
    .map_err(|error| error.to_string())
}

/// Metrics on their way to a collector, for as long as this lives.
struct Metrics(Option<(Arc<MetricsSender>, tokio::task::JoinHandle<()>)>);

impl Metrics {
    fn start(to: Option<&MetricsTo>, env: &Env) -> Result<Self, String> {
        let Some(to) = to else { return Ok(Self(None)) };
        let sender = Arc::new(MetricsSender::new(to, env.clone()).map_err(|error| format!("otlp_metrics_endpoint: {error}"))?);
        let sending = sender.clone();
        Ok(Self(Some((sender, tokio::spawn(async move { sending.run().await })))))
    }

    /// Tells a last time what was counted, when nothing more will be.
    async fn end(&mut self) {
        if let Some((sender, task)) = self.0.take() {
            task.abort();
            let _ = tokio::time::timeout(QUEUES_PATIENCE, sender.send()).await;
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.0 {
            task.abort();
        }
    }
}

/// The access logs that are written.
struct Logs {
    proxy: Option<AccessLog>,
    admin: Option<AccessLog>,
    status: Option<AccessLog>,
}

impl Logs {
    fn start(settings: &AccessLogs, env: &Env) -> Result<Self, String> {
        Ok(Self {
            proxy: start_log(settings.proxy.as_ref(), env)?,
            admin: start_log(settings.admin.as_ref(), env)?,
            status: start_log(settings.status.as_ref(), env)?,
        })
    }

    fn reopen(&self) {
        [&self.proxy, &self.admin, &self.status].into_iter().flatten().for_each(AccessLog::reopen);
    }
}

fn start_log(settings: Option<&access_log::Settings>, env: &Env) -> Result<Option<AccessLog>, String> {
    let count = env.state.get::<Counts>().of("access-log");
    let log =
        settings.map(|settings| AccessLog::start(&settings.path, count).map_err(|error| format!("{}: {error}", settings.path.display())));
    log.transpose()
}

fn serve_apis(tasks: &mut JoinSet<()>, settings: &Settings, house: &House, logs: &Logs) -> Result<(), String> {
    let mut added = extensions::of(house.entries, &house.env);
    added.extend(extensions::of_lua(&house.lua)?);
    let state = AdminState {
        catalog: house.catalog.clone(),
        store: house.store.clone(),
        writer: house.publisher.clone(),
        node: house.node.clone(),
        settings: AdminSettings {
            server: settings.proxy.headers.server.then(|| settings.proxy.product.clone()),
            latency: settings.proxy.headers.response_latency,
            origins: settings.admin_origins.clone(),
            body_limit: settings.admin_body_limit,
        },
        extensions: added,
    };
    let own_tls = |configured: Option<&PemPair>, stem: &str, ssl: bool| -> Result<Option<ServerTls>, String> {
        if !ssl {
            return Ok(None);
        }
        let key = certificate(settings, configured, stem)?;
        ServerTls::new(Arc::new(One(key)), &settings.tls).map(Some).map_err(|error| error.to_string())
    };
    let admin_tls = own_tls(settings.admin_certificate.as_ref(), "admin-portcullis-default", settings.admin_listens.iter().any(|l| l.ssl))?;
    let status_tls =
        own_tls(settings.status_certificate.as_ref(), "status-portcullis-default", settings.status_listens.iter().any(|l| l.ssl))?;
    let admin = portcullis_admin::admin(state.clone());
    let status = portcullis_admin::status(state);
    let log = |settings: Option<&access_log::Settings>, log: Option<&AccessLog>| {
        settings.zip(log).map(|(settings, log)| Arc::new(ApiLog::new(settings.format.clone(), log.lines.tap())))
    };
    let admin = servers::Api { router: admin, log: log(settings.access_logs.admin.as_ref(), logs.admin.as_ref()) };
    let status = servers::Api { router: status, log: log(settings.access_logs.status.as_ref(), logs.status.as_ref()) };
    servers::serve(tasks, "admin_listen", &settings.admin_listens, admin_tls.as_ref(), &admin)?;
    servers::serve(tasks, "status_listen", &settings.status_listens, status_tls.as_ref(), &status)
}

/// The one certificate of an API.
struct One(Arc<CertifiedKey>);

impl tls::Certificates for One {
    fn find(&self, _sni: Option<&str>) -> Option<Shown> {
        Some(self.0.clone().into())
    }
}

struct Renewed {
    settings: Settings,
    sockets: Sockets,
    workers: Workers,
    /// The proxy's access log, when it goes to another file now.
    log: Option<AccessLog>,
}

/// Reads the settings again and starts a generation that serves by them. On an error nothing has changed.
async fn reload(before: &Settings, house: &House, sockets: &Sockets, quic: &mut Quic, logs: &Logs) -> Result<Renewed, String> {
    let env_file = prefix::env_file(&before.prefix);
    let text = std::fs::read_to_string(&env_file).map_err(|error| format!("{}: {error}", env_file.display()))?;
    // What the environment said when the settings were written down stands in the file; it is not asked again.
    let settings = conf::read_stored(&text).map_err(|Complaints(complaints)| complaints.join("; "))?;
    if settings.database != before.database || settings.plugins != before.plugins {
        return Err("database and plugins change with a restart only".to_owned());
    }
    if settings.admin_listens != before.admin_listens || settings.status_listens != before.status_listens {
        warn!("admin_listen and status_listen change with a restart only");
    }
    house.env.state.get::<Tracing>().set(settings.tracing.0, settings.tracing.1);
    house.env.state.get::<ExtraMetrics>().switch(settings.extra_metrics);
    let (gateway, builder, tls) = generation(&settings, house.entries, &house.env, house.workspace)?;
    let listens = all_listens(&settings);
    let sockets = if listens == sockets.listens && settings.workers == sockets.workers() {
        sockets.try_clone()?
    } else {
        Sockets::open(&listens, settings.workers)?
    };
    quic.open(&listens, tls.quic.as_ref())?;
    if house.declarative.is_some() {
        declarative::load(&settings, &house.catalog, &house.publisher).await?;
    }
    house.publisher.renew(builder, gateway.clone()).await.map_err(|error| format!("loading the configuration: {error}"))?;
    let path = |settings: &Settings| settings.access_logs.proxy.as_ref().map(|log| log.path.clone());
    let log = if path(&settings) == path(before) { None } else { start_log(settings.access_logs.proxy.as_ref(), &house.env)? };
    let arrivals = quic.serve_with(&listens, tls.quic.as_ref(), settings.workers);
    let plan = plan(&settings, gateway.clone(), tls, log.as_ref().or(logs.proxy.as_ref()));
    let workers = Workers::start(&plan, &sockets, arrivals)?;
    house.node.serve_with(gateway, workers.open(), &settings);
    Ok(Renewed { settings, sockets, workers, log })
}

/// What a signal asks for.
enum Told {
    Reload,
    Reopen,
    Quit,
    Stop,
}

struct Signals {
    hangup: tokio::signal::unix::Signal,
    user: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.user.recv() => Told::Reopen,
            _ = self.quit.recv() => Told::Quit,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
        }
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
