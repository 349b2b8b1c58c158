//! Where clients connect: Kong's listen syntax, the sockets, the PROXY protocol.
//!
//! - [`listen`]: `0.0.0.0:8000 reuseport backlog=16384, …` and its flags
//! - [`socket`]: opening what they say, once per worker thread
//! - [`accept`]: accepting, and telling what a client speaks: PROXY header, TLS, HTTP/2 or HTTP/1.1
//! - [`quic`]: HTTP/3, over datagrams
//! - [`proxy_protocol`]: the header a load balancer puts before the client's bytes

pub mod accept;
pub mod listen;
pub mod proxy_protocol;
pub mod quic;
pub mod socket;

pub use accept::{Entrance, accept, accepted, handshakes};
pub(crate) use accept::{accept_each, canonical, handshake_ended, peer_of};
pub use listen::{KeepAlive, Listen, ListenAddress, parse_listens};
pub use socket::{Socket, accept_pause, open};
