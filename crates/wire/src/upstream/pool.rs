//! Idle upstream connections of one worker thread, and how new ones are made.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::{PoolSettings, Target};
use crate::errors::{UpstreamError, UpstreamErrorKind};
use crate::socket::{Socket, Transport};
use crate::worker::{Sweep, Worker};

/// A connection to an upstream, idle or in use.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pool: Rc<Pool>,
    requests: u32,
}

impl Connection {
    /// Puts the connection back into its pool, unless it did its share of requests or the pool is full.
    #[inline]
    pub(crate) fn give_back(self, worker: &Worker) {
        let pool = self.pool.clone();
        let mut idle = pool.idle.borrow_mut();
        if self.requests < pool.settings.max_requests && idle.len() < pool.settings.size {
            idle.push(Idle { socket: self.socket, requests: self.requests, since: worker.clock().last() });
        }
    }
}

struct Idle {
    socket: Socket,
    requests: u32,
    since: Instant,
}

/// The idle connections to one target, the one used last on top.
struct Pool {
    settings: PoolSettings,
    /// The TLS server name; empty without TLS.
    server_name: Box<str>,
    idle: RefCell<Vec<Idle>>,
}

/// What connections must have in common to be shared. The server name's hash is checked against the name itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    tls: Option<u64>,
    server_name: u64,
}

/// Pool keys are few and their parts not the client's to choose, so a quick hash does.
#[derive(Clone, Copy, Default)]
struct QuickHasher(u64);

impl QuickHasher {
    #[inline]
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, word: u8) {
        self.mix(u64::from(word));
    }
    fn write_u16(&mut self, word: u16) {
        self.mix(u64::from(word));
    }
    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }
    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }
    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }
}

/// Idle upstream connections of one worker thread, by address and TLS identity.
pub struct Pools {
    pub(super) worker: Rc<Worker>,
    pub(super) settings: PoolSettings,
    pub(super) http2: super::http2::Shared,
    pools: RefCell<HashMap<Key, Rc<Pool>, BuildHasherDefault<QuickHasher>>>,
    connects: Cell<u64>,
}

impl Pools {
    pub fn new(worker: &Rc<Worker>, settings: PoolSettings) -> Rc<Self> {
        let pools = Rc::new(Self {
            worker: worker.clone(),
            settings,
            http2: Default::default(),
            pools: RefCell::default(),
            connects: Cell::new(0),
        });
        let sweep: std::rc::Weak<dyn Sweep> = Rc::downgrade(&pools) as _;
        worker.register(sweep);
        pools
    }

    /// Idle connections of all targets.
    pub fn idle(&self) -> usize {
        self.pools.borrow().values().map(|pool| pool.idle.borrow().len()).sum()
    }

    /// Connections made so far.
    pub fn connects(&self) -> u64 {
        self.connects.get()
    }

    pub(super) fn count_connect(&self) {
        self.connects.set(self.connects.get() + 1);
    }

    fn pool(&self, target: &Target<'_>, server_name: &str) -> Rc<Pool> {
        let mut key = Key { address: target.address, tls: None, server_name: 0 };
        let mut name = "";
        if let Some(tls) = target.tls {
            let mut hasher = QuickHasher::default();
            hasher.write(server_name.as_bytes());
            key.tls = Some(tls.id);
            key.server_name = hasher.finish();
            name = server_name;
        }
        if let Some(pool) = self.pools.borrow().get(&key) {
            if *pool.server_name == *name {
                return pool.clone();
            }
            // Two names with one hash: this one goes without a pool.
            let settings = PoolSettings { size: 0, ..self.settings };
            return Rc::new(Pool { settings, server_name: name.into(), idle: RefCell::default() });
        }
        let pool = Rc::new(Pool { settings: self.settings, server_name: name.into(), idle: RefCell::default() });
        self.pools.borrow_mut().insert(key, pool.clone());
        pool
    }

    /// An idle connection that is still open, or a new one. Says whether it was used before.
    pub(super) async fn take(
        &self,
        target: &Target<'_>,
        server_name: &str,
        fresh: bool,
        connect_timeout: Duration,
    ) -> Result<(Connection, bool), UpstreamError> {
        let pool = self.pool(target, server_name);
        if !fresh {
            loop {
                let idle = pool.idle.borrow_mut().pop();
                let Some(mut idle) = idle else { break };
                if idle.socket.is_quiet() {
                    return Ok((Connection { socket: idle.socket, pool, requests: idle.requests + 1 }, true));
                }
            }
        }
        self.count_connect();
        let connecting = Box::pin(connect(target, server_name));
        let socket = match tokio::time::timeout(connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(|kind| UpstreamError::new(kind, true))?,
            Err(_) => return Err(UpstreamError::new(UpstreamErrorKind::ConnectTimeout, true)),
        };
        Ok((Connection { socket, pool, requests: 1 }, false))
    }
}

pub(super) async fn connect(target: &Target<'_>, server_name: &str) -> Result<Socket, UpstreamErrorKind> {
    secure(Transport::tcp(open(target.address).await?), target, server_name).await
}

/// A connection without anything on it.
pub(crate) async fn open(address: SocketAddr) -> Result<TcpStream, UpstreamErrorKind> {
    let stream = TcpStream::connect(address).await.map_err(UpstreamErrorKind::Connect)?;
    stream.set_nodelay(true).map_err(UpstreamErrorKind::Connect)?;
    Ok(stream)
}

/// Puts TLS onto a connection, where the target wants it.
pub(crate) async fn secure(transport: Transport, target: &Target<'_>, server_name: &str) -> Result<Socket, UpstreamErrorKind> {
    let Some(tls) = target.tls else { return Ok(Socket::Plain(transport)) };
    let name = match ServerName::try_from(server_name) {
        Ok(name) => name.to_owned(),
        // A host that can be no TLS name: the handshake goes without one.
        Err(_) => ServerName::IpAddress(target.address.ip().into()),
    };
    let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
    let stream = connector.connect(name, transport).await.map_err(|error| UpstreamErrorKind::Tls(error.to_string()))?;
    Ok(Socket::ClientTls(Box::new(stream)))
}

impl Sweep for Pools {
    /// Closes what was idle too long or was closed by the other side, and forgets empty pools.
    fn sweep(&self, now: Instant) {
        self.http2.sweep(now, &self.settings);
        self.pools.borrow_mut().retain(|_, pool| {
            let mut idle = pool.idle.borrow_mut();
            idle.retain_mut(|idle| now.duration_since(idle.since) < self.settings.idle && idle.socket.is_quiet());
            !idle.is_empty() || Rc::strong_count(pool) > 1
        });
    }
}
