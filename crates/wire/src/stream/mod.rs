//! Connections that carry no HTTP: TCP, TLS (ended here or passed through) and UDP.
//!
//! - [`session`]: one client's TCP connection: what it begins with, TLS, and the bytes both ways
//! - [`datagrams`]: UDP: datagrams of one client make a session
//! - [`relay`]: bytes both ways between two sockets

pub mod datagrams;
mod relay;
pub mod session;

use std::io;
use std::rc::Rc;

pub use datagrams::DatagramSession;
pub use session::{Session, Upstream, connect};

use crate::listener::{Entrance, Socket};
use crate::worker::Worker;

/// What the gateway is for connections without HTTP. One per worker thread, behind `Rc`; it need not be `Send`.
pub trait StreamService: 'static {
    /// Serves a connection to its end. A session that is dropped closes its connection.
    fn serve_stream(&self, session: Session) -> impl Future<Output = ()>;

    /// Serves a client's datagrams until it has been silent for as long as the service says.
    fn serve_datagrams(&self, session: DatagramSession) -> impl Future<Output = ()>;
}

/// Accepts connections (or datagrams) and serves them, each on a task of its own, until the worker drains.
///
/// Errors only when the socket cannot be handed to the runtime.
pub async fn accept<S: StreamService>(socket: Socket, entrance: Entrance, service: Rc<S>, worker: Rc<Worker>) -> io::Result<()> {
    if let Socket::Udp(socket) = socket {
        return datagrams::accept(socket, entrance, service, worker).await;
    }
    crate::listener::accept_each(socket, entrance, worker, move |accepted, entrance, worker| {
        let service = service.clone();
        async move {
            if let Some((transport, peer)) = accepted.introduce(&entrance, &worker).await
                && let Some(session) = Session::begin(transport, peer, &entrance, &worker).await
            {
                service.serve_stream(session).await;
            }
        }
    })
    .await
}
