//! One client's TCP connection without HTTP.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::relay;
use crate::errors::UpstreamErrorKind;
use crate::listener::Entrance;
use crate::serve::Peer;
use crate::socket::{Socket, Transport};
use crate::tls::{ServerTls, looks_like_tls, peer_facts};
use crate::upstream::{Target, UpstreamTls};
use crate::worker::Worker;

/// Longest beginning of a handshake that is looked at for a server name.
const HELLO_LIMIT: usize = 16 * 1024 + 512;

/// A client's connection, at its beginning: nothing of it has been passed on.
pub struct Session {
    worker: Rc<Worker>,
    peer: Peer,
    socket: Socket,
    /// Set where a TLS handshake is under way on a listener for TLS.
    handshake: Option<Handshake>,
}

struct Handshake {
    tls: ServerTls,
    sni: Option<Box<str>>,
}

impl Session {
    /// Looks at what the client begins with, where the listener is for TLS. None when it left, or said what is no handshake.
    pub(super) async fn begin(mut transport: Transport, peer: Peer, entrance: &Entrance, worker: &Rc<Worker>) -> Option<Self> {
        let mut handshake = None;
        if let Some(tls) = &entrance.tls {
            let looking = read_hello(&mut transport);
            let sni = tokio::time::timeout(worker.settings.client_header_timeout, looking).await.ok()??;
            handshake = Some(Handshake { tls: tls.clone(), sni });
        }
        Some(Self { worker: worker.clone(), peer, socket: Socket::Plain(transport), handshake })
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The server name the client asks for, in lower case.
    pub fn sni(&self) -> Option<&str> {
        let settled = self.peer.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        settled.or_else(|| self.handshake.as_ref()?.sni.as_deref())
    }

    /// A TLS handshake is waiting to be answered or passed through.
    pub fn is_encrypted(&self) -> bool {
        self.handshake.is_some()
    }

    /// Answers the client's handshake: what follows is plain text. Nothing happens without one.
    pub async fn terminate(self) -> io::Result<Self> {
        let Self { worker, mut peer, socket, handshake } = self;
        let (Some(Handshake { tls, .. }), Socket::Plain(transport)) = (handshake, socket) else {
            return Err(io::Error::other("no handshake to answer"));
        };
        let accepting = tls.acceptor().accept(transport);
        let stream = tokio::time::timeout(worker.settings.client_header_timeout, accepting).await??;
        peer.tls = Some(peer_facts(stream.get_ref().1, &tls));
        Ok(Self { worker, peer, socket: Socket::ServerTls(Box::new(stream)), handshake: None })
    }

    /// Takes the connection's facts out, for those who go on needing them while it is relayed.
    pub fn take_peer(&mut self) -> Peer {
        std::mem::take(&mut self.peer)
    }

    /// Bytes both ways until both sides have ended, one of them broke, or nothing has passed for `idle`. Answers how many went
    /// to the client and to the upstream.
    pub async fn relay(mut self, upstream: &mut Upstream, idle: Duration) -> (u64, u64) {
        relay::both_ways(&mut self.socket, &mut upstream.socket, &self.worker, idle).await
    }
}

/// The server name in a client's first message, all of which is put back. The outer none is for whom left or speaks no TLS.
async fn read_hello(transport: &mut Transport) -> Option<Option<Box<str>>> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if transport.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if !bytes.first().is_some_and(|byte| looks_like_tls(*byte)) {
            return None;
        }
        let mut acceptor = rustls::server::Acceptor::default();
        // Reading from memory fails only where the records themselves are malformed.
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            acceptor.read_tls(&mut rest).ok()?;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            let sni = accepted.client_hello().server_name().map(|name| name.to_ascii_lowercase().into());
            transport.put_back(bytes);
            return Some(sni);
        }
        if bytes.len() > HELLO_LIMIT {
            return None;
        }
    }
}

/// A connection to an upstream, for one session.
pub struct Upstream {
    pub(super) socket: Socket,
}

/// Connects, with TLS where it is asked for, and says first who the client is where `announced` is given (PROXY protocol,
/// version 1).
pub async fn connect(
    address: SocketAddr,
    tls: Option<(&Arc<UpstreamTls>, &str)>,
    timeout: Duration,
    announced: Option<&Peer>,
) -> Result<Upstream, UpstreamErrorKind> {
    let connecting = async {
        let transport = crate::upstream::open(address).await?;
        let mut transport = Transport::tcp(transport);
        if let Some(peer) = announced {
            transport.write_all(introduction(peer).as_bytes()).await.map_err(UpstreamErrorKind::Connect)?;
        }
        let (tls, name) = tls.unzip();
        crate::upstream::secure(transport, &Target { address, tls }, name.unwrap_or_default()).await
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected.map(|socket| Upstream { socket }),
        Err(_) => Err(UpstreamErrorKind::ConnectTimeout),
    }
}

fn introduction(peer: &Peer) -> String {
    match (peer.address, peer.local) {
        (Some(from), Some(to)) if from.is_ipv4() == to.is_ipv4() => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
        }
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_client_is_introduced_by_its_address() {
        let peer = Peer { address: Some("10.0.0.1:7".parse().unwrap()), local: Some("10.0.0.2:80".parse().unwrap()), ..Peer::default() };
        assert_eq!(introduction(&peer), "PROXY TCP4 10.0.0.1 10.0.0.2 7 80\r\n");
        assert_eq!(introduction(&Peer::default()), "PROXY UNKNOWN\r\n");
    }
}
