//! What the gateway is for the wire ([`Service`]), and what the wire tells it about a connection ([`Peer`]).

use std::net::SocketAddr;
use std::sync::Arc;

use crate::downstream::Downstream;
use crate::head::{RequestHead, ResponseHead};

/// Answers requests. One per worker thread, behind `Rc`; it need not be `Send`.
pub trait Service: 'static {
    /// Answers one request. It must end by [`Downstream::respond`], [`Downstream::relay`], [`Downstream::tunnel`] or
    /// [`Downstream::abort`]; a request that ends without any of them closes its connection without an answer.
    fn serve(&self, request: &mut RequestHead, down: &mut Downstream) -> impl Future<Output = ()>;

    /// The complete answer to a message that was refused before it became a request (400, 408, 413, 414, 494, 501…).
    ///
    /// `request` holds what could be understood: the header lines before the offending one. The wire adds `Content-Length`
    /// and `Connection: close`, and closes the connection.
    fn refuse(&self, refusal: &Refusal, request: &RequestHead, peer: &Peer) -> (ResponseHead, Vec<u8>);
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 405, 408, 413, 414, 494, 497, 501 or 505. 494 (header too large) and 497 (plain HTTP on a TLS port) are nginx'
    /// own numbers and leave as 400.
    pub status: u16,
    /// For logs.
    pub reason: &'static str,
}

impl Refusal {
    pub const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }
    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self { status: 400, reason }
    }
}

/// Who is on the other side of a client connection. Made once per connection, shared by its requests.
#[derive(Debug, Default)]
pub struct Peer {
    /// The client, or what the PROXY header said. None on unix sockets.
    pub address: Option<SocketAddr>,
    /// The client's IP address as text, without the port; `unix:` on unix sockets.
    pub address_text: Box<[u8]>,
    /// The address the client connected to, or what the PROXY header said. None on unix sockets.
    pub local: Option<SocketAddr>,
    /// The listening port as text; empty on unix sockets.
    pub local_port_text: Box<[u8]>,
    /// Set on TLS connections.
    pub tls: Option<TlsPeer>,
    /// The `Alt-Svc` value of its answers.
    pub alternative: Option<Arc<[u8]>>,
    /// The connection's real ends, when a PROXY header replaced them.
    pub proxy_protocol: Option<Proxied>,
    /// Unique within the process.
    pub connection_id: u64,
    /// Which of the configured listeners accepted it.
    pub listener: usize,
}

/// What a TLS handshake settled.
#[derive(Debug)]
pub struct TlsPeer {
    /// The server name the client asked for, in lower case.
    pub sni: Option<Box<str>>,
    /// As nginx' `$ssl_protocol` has it: `TLSv1.2`, `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, as OpenSSL names it where that is known.
    pub cipher: Box<str>,
    /// The certificate the client showed, in DER.
    pub certificate: Option<Box<[u8]>>,
    /// What became of it, as nginx' `$ssl_client_verify` has it.
    pub client_verify: &'static str,
}

/// The ends of the connection itself, behind which a PROXY header named others.
#[derive(Clone, Copy, Debug)]
pub struct Proxied {
    pub peer: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
}

/// Sees and changes a response body while it streams.
pub trait BodyFilter {
    /// Called with each decoded piece; `last` is true once, possibly with an empty piece.
    fn filter(&mut self, chunk: &mut Vec<u8>, last: bool);
}
