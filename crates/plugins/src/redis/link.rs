//! The connection to one Redis server: commands of all workers travel over it together, and it is made anew when it breaks.
//!
//! Everything happens on the control runtime; a worker waits for the answer only. A server that could not be reached is left
//! alone for a moment, so that its absence costs a request nothing but the news of it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};
use portcullis_plugin::Env;
use portcullis_wire::tls::UpstreamConfigs;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tracing::warn;

use super::Redis;

/// How long a server that could not be reached is left alone.
const REST: Duration = Duration::from_millis(500);

/// Where a server is and how it is spoken to.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    host: String,
    port: u16,
    timeout: Duration,
    username: Option<String>,
    password: Option<String>,
    database: i64,
    tls: bool,
    verify: bool,
    server_name: Option<String>,
}

/// The links of this process, by their settings. Outlives configurations as long as one of them uses a link.
#[derive(Default)]
pub struct Links {
    links: Mutex<HashMap<Place, Weak<Link>>>,
}

/// See the module's description.
pub struct Link {
    place: Place,
    tls: Option<Arc<rustls::ClientConfig>>,
    runtime: Handle,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// No attempt is made before.
    rests_until: Option<Instant>,
}

impl Links {
    /// The link to the server of these settings.
    pub fn to(&self, redis: &Redis, env: &Env) -> Arc<Link> {
        let place = Place::of(redis);
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, link| link.strong_count() > 0);
        if let Some(link) = links.get(&place).and_then(Weak::upgrade) {
            return link;
        }
        let tls = place.tls.then(|| {
            let roots = if place.verify { vec![env.node.trusted_certificates()] } else { Vec::new() };
            let mut config = (*UpstreamConfigs::new().for_service(place.verify, None, &roots, None).config).clone();
            config.alpn_protocols.clear();
            Arc::new(config)
        });
        let link = Arc::new(Link { place: place.clone(), tls, runtime: env.runtime.clone(), state: Default::default() });
        links.insert(place, Arc::downgrade(&link));
        link
    }
}

impl Place {
    fn of(redis: &Redis) -> Self {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Self {
            host: redis.host.clone().unwrap_or_default(),
            port: redis.port.unwrap_or(6379),
            timeout: Duration::from_millis(redis.timeout.unwrap_or(2000).max(1)),
            username: given(&redis.username),
            password: given(&redis.password),
            database: redis.database.unwrap_or(0),
            tls: redis.ssl == Some(true),
            verify: redis.ssl_verify == Some(true),
            server_name: given(&redis.server_name),
        }
    }
}

impl Link {
    /// Runs `commands` over the connection, made first where there is none. Errors with one line for the log.
    pub async fn run<T, F>(self: &Arc<Self>, commands: impl FnOnce(MultiplexedConnection) -> F + Send + 'static) -> Result<T, String>
    where
        T: Send + 'static,
        F: Future<Output = RedisResult<T>> + Send + 'static,
    {
        let link = self.clone();
        let running = self.runtime.spawn(async move {
            let connection = link.connection().await?;
            match tokio::time::timeout(link.place.timeout, commands(connection)).await {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(error)) => {
                    // A refused command says nothing about the connection.
                    if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
                        link.state.lock().await.connection = None;
                    }
                    Err(format!("redis {}: {error}", link.place.address()))
                }
                Err(_) => {
                    *link.state.lock().await = State { connection: None, rests_until: Some(Instant::now() + REST) };
                    Err(format!("redis {}: timeout", link.place.address()))
                }
            }
        });
        running.await.unwrap_or_else(|error| Err(format!("redis: {error}")))
    }

    async fn connection(&self) -> Result<MultiplexedConnection, String> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok(connection.clone());
        }
        if state.rests_until.is_some_and(|until| Instant::now() < until) {
            return Err(format!("redis {}: not reachable a moment ago", self.place.address()));
        }
        match tokio::time::timeout(self.place.timeout, self.connect()).await.unwrap_or_else(|_| Err("timeout".to_owned())) {
            Ok(connection) => {
                *state = State { connection: Some(connection.clone()), rests_until: None };
                Ok(connection)
            }
            Err(error) => {
                state.rests_until = Some(Instant::now() + REST);
                warn!(server = self.place.address(), error, "redis cannot be reached");
                Err(format!("redis {}: {error}", self.place.address()))
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let place = &self.place;
        let host = place.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, place.port)).await.map_err(|error| error.to_string())?;
        // Commands are small and waited for.
        let _ = stream.set_nodelay(true);
        let mut info = RedisConnectionInfo::default().set_db(place.database).set_skip_set_lib_name();
        if let Some(password) = &place.password {
            info = info.set_password(password);
            if let Some(username) = &place.username {
                info = info.set_username(username);
            }
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(place.timeout));
        let text = |error: ::redis::RedisError| error.to_string();
        match &self.tls {
            None => {
                let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await.map_err(text)?;
                tokio::spawn(driver);
                Ok(connection)
            }
            Some(tls) => {
                let name = place.server_name.as_deref().unwrap_or(host).to_owned();
                let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
                let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(|error| error.to_string())?;
                let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await.map_err(text)?;
                tokio::spawn(driver);
                Ok(connection)
            }
        }
    }
}

impl Place {
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}
