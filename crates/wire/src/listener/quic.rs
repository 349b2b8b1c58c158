//! QUIC: one socket an address, whose datagrams one thread receives, and connections that the workers serve.
//!
//! Unlike TCP's, a QUIC connection is not tied to addresses: a client may move. So no socket is opened for each worker, which would
//! have the kernel deliver a moved client to a stranger. An [`Endpoint`] reads all datagrams of its address, gives those of known
//! connections to whoever serves them, and hands new connections to the workers in turn. Workers send by themselves.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quinn::{EndpointConfig, Incoming, TokioRuntime, VarInt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Entrance, Listen, ListenAddress, canonical, handshake_ended, peer_of, socket};
use crate::multiplexed::http3;
use crate::serve::{Peer, Service};
use crate::tls::{ServerTls, TlsError};
use crate::worker::{Settings, Worker};

/// New connections that wait for one worker; when all workers have so many, further ones are refused.
const WAITING: usize = 128;
/// Handshakes under way from which on clients first have to prove that their address is theirs (RFC 9000 section 8.1.2).
const UNPROVEN: usize = 1024;
/// Bytes of first packets that are kept for connections nobody has taken up yet: of one, and of all.
const FIRST_BYTES: u64 = 64 * 1024;
const ALL_FIRST_BYTES: u64 = 16 << 20;

/// What QUIC connections are made of. Clones share everything.
#[derive(Clone)]
pub struct QuicTls(quinn::ServerConfig);

impl QuicTls {
    /// Errors when TLS 1.3 is not spoken, which QUIC needs.
    pub fn new(tls: &ServerTls, settings: &Settings) -> Result<Self, TlsError> {
        let mut config = http3::server_config(tls.config(), settings)?;
        config.incoming_buffer_size(FIRST_BYTES).incoming_buffer_size_total(ALL_FIRST_BYTES);
        Ok(Self(config))
    }
}

/// A connection that a worker is to take up.
pub struct Arrival {
    incoming: Incoming,
    unproven: Unproven,
}

/// Counts a handshake while it lasts.
struct Unproven(Arc<AtomicUsize>);

impl Unproven {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Takers = Arc<Mutex<Vec<mpsc::Sender<Arrival>>>>;

/// The socket of one address. Dropping it refuses new connections; those it has go on.
pub struct Endpoint {
    endpoint: quinn::Endpoint,
    takers: Takers,
    runtime: Handle,
    /// Begins with the first takers: clients that come before them wait.
    handing_over: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Opens the socket of an entry. Datagrams are received on the runtime this is called in.
    pub fn open(listen: &Listen, tls: &QuicTls) -> io::Result<Self> {
        let socket = socket::open_quic(listen)?;
        let endpoint = quinn::Endpoint::new(EndpointConfig::default(), Some(tls.0.clone()), socket, Arc::new(TokioRuntime))?;
        Ok(Self { endpoint, takers: Takers::default(), runtime: Handle::current(), handing_over: None })
    }

    /// Makes new connections with these settings and gives them to new takers, one for each of `workers`.
    pub fn serve_with(&mut self, tls: &QuicTls, workers: usize) -> Vec<mpsc::Receiver<Arrival>> {
        let (senders, receivers) = (0..workers).map(|_| mpsc::channel(WAITING)).unzip();
        self.endpoint.set_server_config(Some(tls.0.clone()));
        *self.takers.lock().unwrap_or_else(PoisonError::into_inner) = senders;
        let (endpoint, takers) = (&self.endpoint, &self.takers);
        self.handing_over.get_or_insert_with(|| self.runtime.spawn(hand_over(endpoint.clone(), takers.clone())));
        receivers
    }

    /// Refuses new connections until [`Endpoint::serve_with`] is called again.
    pub fn refuse(&self) {
        self.endpoint.set_server_config(None);
        self.takers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether connections are left.
    pub fn is_used(&self) -> bool {
        self.endpoint.open_connections() > 0
    }

    /// Tells the clients of all connections that these end now.
    pub fn close(&self) {
        self.refuse();
        self.endpoint.close(VarInt::from_u32(0x100), b"");
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.refuse();
        if let Some(handing_over) = &self.handing_over {
            handing_over.abort();
        }
    }
}

async fn hand_over(endpoint: quinn::Endpoint, takers: Takers) {
    let unproven = Arc::new(AtomicUsize::new(0));
    let mut next = 0usize;
    while let Some(incoming) = endpoint.accept().await {
        if unproven.load(Ordering::Relaxed) >= UNPROVEN && !incoming.remote_address_validated() {
            // Fails only for clients that have proved it.
            let _ = incoming.retry();
            continue;
        }
        let takers = takers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arrival = Some(Arrival { incoming, unproven: Unproven::new(&unproven) });
        for turn in 0..takers.len() {
            let Some(waiting) = arrival.take() else { break };
            let taker = &takers[(next + turn) % takers.len()];
            if let Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) = taker.try_send(waiting) {
                arrival = Some(back);
            }
        }
        next = next.wrapping_add(1);
        // What is left is refused as it is dropped.
    }
}

/// Takes connections up and serves them, each on a task of its own, until the worker drains. Runs on a local runtime.
pub async fn accept<S: Service>(
    mut arrivals: mpsc::Receiver<Arrival>,
    listen: &Listen,
    entrance: &Entrance,
    service: Rc<S>,
    worker: Rc<Worker>,
) {
    let _listening = worker.listener_opened();
    let (listener, local) = (entrance.listener, address_of(listen));
    loop {
        worker.room_for_connection().await;
        let arrival = tokio::select! {
            biased;
            () = worker.drain_begun() => return,
            arrival = arrivals.recv() => arrival,
        };
        let Some(Arrival { incoming, unproven }) = arrival else { return };
        let (service, worker) = (service.clone(), worker.clone());
        let (open, tls) = (worker.connection_opened(), entrance.tls.clone());
        tokio::task::spawn_local(async move {
            let _open = open;
            let local = local.map(|local| SocketAddr::new(incoming.local_ip().unwrap_or(local.ip()), local.port()));
            let shaken = async { incoming.accept()?.await };
            let shaken = tokio::time::timeout(worker.settings.client_header_timeout, shaken).await;
            drop(unproven);
            handshake_ended(matches!(shaken, Ok(Ok(_))));
            let Ok(Ok(connection)) = shaken else { return };
            let Some(tls) = tls else { return };
            let peer = move |connection: &quinn::Connection| {
                let address = canonical(connection.remote_address());
                let tls = Some(http3::peer_facts(connection, &tls));
                Rc::new(Peer { tls, ..peer_of(listener, Some(address), local.map(canonical)) })
            };
            http3::run(service, worker, peer, connection).await;
        });
    }
}

fn address_of(listen: &Listen) -> Option<SocketAddr> {
    match listen.address {
        ListenAddress::Ip(address) => Some(address),
        ListenAddress::Unix(_) => None,
    }
}

/// What `Alt-Svc` says of a port (RFC 7838 section 3).
pub fn alternative(port: u16) -> Arc<[u8]> {
    format!("h3=\":{port}\"; ma=86400").into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alternative_names_the_port() {
        assert_eq!(alternative(8443).as_ref(), br#"h3=":8443"; ma=86400"#);
    }
}
