//! Reaching a server: addresses, TLS, the pool of connections and what each is told first.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts};
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::{explain, timed_out};
use super::statements::quoted;

/// A Postgres server and how it is used: the `pg_*` keys.
#[derive(Clone)]
pub struct Server {
    /// A name, an address, or the directory of a Unix socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    /// The schema the tables are in; none leaves it to the server (`public`).
    pub schema: Option<String>,
    /// Speak TLS, with this; a server that doesn't is then refused.
    pub tls: Option<Arc<ClientConfig>>,
    /// How long connecting and each statement may take.
    pub timeout: Duration,
    /// Connections at most.
    pub pool_size: usize,
    /// Callers that may wait for a connection; none for no limit.
    pub backlog: Option<usize>,
    /// How long an unused connection is kept; none for ever.
    pub idle: Option<Duration>,
    /// Statements at once; zero for no limit.
    pub concurrent: usize,
    /// How long to wait for a turn when there is such a limit.
    pub turn_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 5432,
            user: "kong".to_owned(),
            password: None,
            database: "kong".to_owned(),
            schema: None,
            tls: None,
            timeout: Duration::from_secs(5),
            pool_size: 10,
            backlog: None,
            idle: Some(Duration::from_secs(60)),
            concurrent: 0,
            turn_timeout: Duration::from_secs(60),
        }
    }
}

impl Server {
    pub(super) fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name("portcullis")
            .connect_timeout(self.timeout)
            .keepalives_idle(Duration::from_secs(30))
            .ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable });
        if let Some(password) = &self.password {
            config.password(password);
        }
        config
    }

    pub(super) fn tls(&self) -> Result<MakeRustlsConnect, String> {
        let config = match &self.tls {
            Some(config) => config.as_ref().clone(),
            // Never used, but the type is the same for both.
            None => ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        };
        Ok(MakeRustlsConnect::new(config))
    }

    /// What a session is told before anything else.
    pub(super) fn greeting(&self) -> String {
        let mut greeting = format!("SET TIME ZONE 'UTC'; SET statement_timeout = {}", self.timeout.as_millis());
        if let Some(schema) = &self.schema {
            greeting.push_str(&format!("; SET search_path TO {}", quoted(schema)));
        }
        greeting
    }

    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Connections to one server.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    pub server: Arc<Server>,
    turns: Option<Arc<Semaphore>>,
}

impl Connections {
    pub fn new(server: Server) -> Result<Self, String> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(server.config(), server.tls()?, recycling);
        let greeting = server.greeting();
        let greet = Hook::async_fn(move |client, _| {
            let greeting = greeting.clone();
            Box::pin(async move { client.batch_execute(&greeting).await.map_err(HookError::Backend) })
        });
        let timeouts = Timeouts { wait: Some(server.timeout), create: Some(server.timeout), recycle: Some(server.timeout) };
        let pool = Pool::builder(manager)
            .max_size(server.pool_size.max(2))
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .post_create(greet)
            .build()
            .map_err(|error| error.to_string())?;
        let turns = (server.concurrent > 0).then(|| Arc::new(Semaphore::new(server.concurrent)));
        Ok(Self { pool, server: Arc::new(server), turns })
    }

    /// A connection that is open as far as anyone knows.
    pub async fn get(&self) -> Result<Connection, String> {
        let turn = match &self.turns {
            None => None,
            Some(turns) => match tokio::time::timeout(self.server.turn_timeout, turns.clone().acquire_owned()).await {
                Ok(Ok(turn)) => Some(turn),
                _ => return Err("timeout waiting for a turn (pg_max_concurrent_queries)".to_owned()),
            },
        };
        if self.server.backlog.is_some_and(|backlog| self.pool.status().waiting >= backlog.max(1)) {
            return Err("too many wait for a connection (pg_backlog)".to_owned());
        }
        let client = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                format!("{} ({})", explain(&error), self.server.address())
            }
            PoolError::Timeout(_) => timed_out(),
            other => other.to_string(),
        })?;
        Ok(Connection { client, _turn: turn })
    }

    /// Closes connections that nobody has used for a while.
    pub fn trim(&self) {
        if let Some(idle) = self.server.idle {
            self.pool.retain(|_, metrics| metrics.last_used() < idle);
        }
    }

    pub fn close(&self) {
        self.pool.close();
    }
}

/// A connection for a while, and the turn that allows its use.
pub(super) struct Connection {
    pub client: Object,
    _turn: Option<tokio::sync::OwnedSemaphorePermit>,
}
