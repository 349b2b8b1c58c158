//! Accepting connections, and telling what a client speaks before its first request.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{Listen, Socket as Listening, accept_pause, proxy_protocol};
use crate::downstream::{Downstream, Side};
use crate::h1::{self, H1};
use crate::serve::{Peer, Proxied, Service};
use crate::socket::{Socket, Transport};
use crate::tls::{ServerTls, looks_like_tls, peer_facts};
use crate::worker::Worker;

/// What an HTTP/2 client with prior knowledge begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a socket that is about to close waits for connections the kernel has already taken.
const LAST_LOOK: Duration = Duration::from_millis(5);

/// The id the next connection gets.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// TLS handshakes with clients that were completed, and those that were not.
static HANDSHAKES: (AtomicU64, AtomicU64) = (AtomicU64::new(0), AtomicU64::new(0));

/// TLS handshakes with HTTP clients of this process so far: completed, failed. Clients that left before they said a word are neither.
pub fn handshakes() -> (u64, u64) {
    (HANDSHAKES.0.load(Ordering::Relaxed), HANDSHAKES.1.load(Ordering::Relaxed))
}

/// Client connections accepted by this process so far.
pub fn accepted() -> u64 {
    CONNECTIONS.load(Ordering::Relaxed) - 1
}

/// What is behind a listening socket.
#[derive(Clone)]
pub struct Entrance {
    /// Index in the listen configuration; becomes [`Peer::listener`].
    pub listener: usize,
    /// Set on `ssl` listeners.
    pub tls: Option<ServerTls>,
    /// On plain listeners: clients may speak HTTP/2 with prior knowledge. On TLS listeners ALPN decides.
    pub http2: bool,
    /// Each connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// What answers over TLS say of HTTP/3 on the same port.
    pub alternative: Option<Arc<[u8]>>,
}

impl Entrance {
    /// The entrance that entry `listener` of a listen configuration describes; `tls` is used if the entry says `ssl`.
    pub fn new(listener: usize, listen: &Listen, tls: Option<&ServerTls>) -> Self {
        Self {
            listener,
            tls: tls.filter(|_| listen.ssl).cloned(),
            http2: listen.http2,
            proxy_protocol: listen.proxy_protocol,
            alternative: None,
        }
    }
}

/// Counts a handshake with an HTTP client.
pub(crate) fn handshake_ended(completed: bool) {
    let count = if completed { &HANDSHAKES.0 } else { &HANDSHAKES.1 };
    count.fetch_add(1, Ordering::Relaxed);
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Accepts connections and serves them, each on a task of its own, until the worker drains. Runs on a local runtime.
///
/// Connections the kernel had queued when draining began are accepted and served. Errors only when the socket cannot be
/// handed to the runtime.
pub async fn accept<S: Service>(socket: Listening, entrance: Entrance, service: Rc<S>, worker: Rc<Worker>) -> io::Result<()> {
    accept_each(socket, entrance, worker, move |accepted, entrance, worker| {
        let service = service.clone();
        async move { accepted.serve(&entrance, service, worker).await }
    })
    .await
}

/// Accepts connections and does with each what is asked for, on a task of its own.
pub(crate) async fn accept_each<F: Future<Output = ()> + 'static>(
    socket: Listening,
    entrance: Entrance,
    worker: Rc<Worker>,
    serve: impl Fn(Accepted, Rc<Entrance>, Rc<Worker>) -> F,
) -> io::Result<()> {
    // Dropped after the socket, which is declared later.
    let _listening = worker.listener_opened();
    let acceptor = match socket {
        Listening::Tcp(listener) => Acceptor::Tcp(TcpListener::from_std(listener)?),
        Listening::Unix(listener) => Acceptor::Unix(UnixListener::from_std(listener)?),
        Listening::Udp(_) => return Err(io::Error::other("datagrams carry no connections")),
    };
    let entrance = Rc::new(entrance);
    let begin = |connection| {
        let open = worker.connection_opened();
        let serving = serve(connection, entrance.clone(), worker.clone());
        tokio::task::spawn_local(async move {
            let _open = open;
            serving.await;
        });
    };
    let mut failures = 0;
    loop {
        worker.room_for_connection().await;
        let accepted = tokio::select! {
            biased;
            accepted = acceptor.accept() => accepted,
            () = worker.drain_begun() => break,
        };
        match accepted {
            Ok(connection) => {
                failures = 0;
                begin(connection);
            }
            Err(error) => {
                tracing::warn!(%error, listener = entrance.listener, "accepting a connection failed");
                if let Some(pause) = accept_pause(&error, failures) {
                    failures += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
    // Closing the socket would reset what the kernel still has in its queue.
    while let Ok(Ok(connection)) = tokio::time::timeout(LAST_LOOK, acceptor.accept()).await {
        begin(connection);
    }
    Ok(())
}

impl Acceptor {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Acceptor::Tcp(listener) => listener.accept().await.map(|(stream, address)| Accepted::Tcp(stream, address)),
            Acceptor::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

/// A connection just accepted.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Accepted {
    async fn serve<S: Service>(self, entrance: &Entrance, service: Rc<S>, worker: Rc<Worker>) {
        let Some((transport, peer)) = self.introduce(entrance, &worker).await else { return };
        match &entrance.tls {
            None => serve_plain(transport, entrance, service, worker, peer).await,
            Some(tls) => serve_tls(transport, tls, service, worker, Peer { alternative: entrance.alternative.clone(), ..peer }).await,
        }
    }

    /// Who it is, by the connection or by the PROXY header it begins with.
    pub(crate) async fn introduce(self, entrance: &Entrance, worker: &Worker) -> Option<(Transport, Peer)> {
        let (mut transport, address, local) = match self {
            Accepted::Tcp(stream, address) => {
                // A connection that is gone already fails here, and again at its first read.
                let _ = stream.set_nodelay(true);
                let local = stream.local_addr().ok();
                (Transport::tcp(stream), Some(address), local)
            }
            Accepted::Unix(stream) => (Transport::unix(stream), None, None),
        };
        let own = (address.map(canonical), local.map(canonical));
        let (mut address, mut local) = own;
        let mut proxied = None;
        if entrance.proxy_protocol {
            let read = proxy_protocol::read_header(&mut transport, worker.settings.client_header_timeout).await;
            let (header, rest) = read.ok()?;
            transport.put_back(rest);
            if let Some((source, target)) = header.ends {
                proxied = Some(Proxied { peer: own.0, local: own.1 });
                (address, local) = (Some(canonical(source)), Some(canonical(target)));
            }
        }
        Some((transport, Peer { proxy_protocol: proxied, ..peer_of(entrance.listener, address, local) }))
    }
}

/// A connection's facts as its addresses tell them.
pub(crate) fn peer_of(listener: usize, address: Option<SocketAddr>, local: Option<SocketAddr>) -> Peer {
    Peer {
        address,
        local,
        address_text: address.map_or_else(|| b"unix:".as_slice().into(), |at| at.ip().to_string().into_bytes().into()),
        local_port_text: local.map_or_else(Box::default, |at| at.port().to_string().into_bytes().into()),
        connection_id: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
        listener,
        ..Peer::default()
    }
}

/// IPv4 clients of a socket that listens on both families count as IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn serve_plain<S: Service>(mut transport: Transport, entrance: &Entrance, service: Rc<S>, worker: Rc<Worker>, peer: Peer) {
    let peer = Rc::new(peer);
    if entrance.http2 {
        let Some(speaks_http2) = look_ahead(&mut transport, worker.settings.client_header_timeout, begins_with_preface).await else {
            return;
        };
        if speaks_http2 {
            return crate::multiplexed::http2::run(service, worker, peer, Socket::Plain(transport)).await;
        }
    }
    let down = Downstream::new(&worker, peer, Side::H1(H1::new(Socket::Plain(transport))));
    h1::run(service, down).await;
}

async fn serve_tls<S: Service>(mut transport: Transport, tls: &ServerTls, service: Rc<S>, worker: Rc<Worker>, mut peer: Peer) {
    let limit = worker.settings.client_header_timeout;
    let first = |bytes: &[u8]| bytes.first().map(|byte| looks_like_tls(*byte));
    match look_ahead(&mut transport, limit, first).await {
        None => return,
        Some(false) => {
            let down = Downstream::new(&worker, Rc::new(peer), Side::H1(H1::new(Socket::Plain(transport))));
            return h1::refuse_plain(service, down).await;
        }
        Some(true) => {}
    }
    let Ok(Ok(stream)) = tokio::time::timeout(limit, tls.acceptor().accept(transport)).await else {
        return handshake_ended(false);
    };
    handshake_ended(true);
    let connection = stream.get_ref().1;
    peer.tls = Some(peer_facts(connection, tls));
    let speaks_http2 = connection.alpn_protocol() == Some(b"h2");
    let (peer, socket) = (Rc::new(peer), Socket::ServerTls(Box::new(stream)));
    if speaks_http2 {
        crate::multiplexed::http2::run(service, worker, peer, socket).await;
    } else {
        h1::run(service, Downstream::new(&worker, peer, Side::H1(H1::new(socket)))).await;
    }
}

/// Reads a connection's first bytes until `judge` knows what they are, and puts them back. None when the client left or took
/// longer than `limit`.
async fn look_ahead(transport: &mut Transport, limit: Duration, judge: impl Fn(&[u8]) -> Option<bool>) -> Option<bool> {
    let looking = async {
        let mut bytes = Vec::with_capacity(1024);
        loop {
            if transport.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            if let Some(verdict) = judge(&bytes) {
                transport.put_back(bytes);
                return Some(verdict);
            }
        }
    };
    tokio::time::timeout(limit, looking).await.ok().flatten()
}

fn begins_with_preface(bytes: &[u8]) -> Option<bool> {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] != PREFACE[..common] {
        return Some(false);
    }
    (common == PREFACE.len()).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_apart_at_the_first_byte_that_differs() {
        assert_eq!(begins_with_preface(b"PRI"), None);
        assert_eq!(begins_with_preface(b"PRO"), Some(false));
        assert_eq!(begins_with_preface(b"GET / HTTP/1.1"), Some(false));
        assert_eq!(begins_with_preface(&[PREFACE, b"more"].concat()), Some(true));
    }
}
