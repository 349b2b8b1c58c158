//! Bytes: HTTP/1.1 on both sides by our own engine, HTTP/2 and HTTP/3 downstream, TLS, listeners, upstream connection pools.
//!
//! Stands on tokio, httparse, rustls, h2, quinn and h3; knows no entity, no route and no plugin. A worker thread runs one
//! single-threaded runtime; everything here that holds a connection is `!Send` and stays on its worker.
//!
//! - [`headers`]: header lines kept as they came, with edits
//! - [`head`]: request and response heads, how a body is framed
//! - [`parse`]: the core without I/O: heads, chunked bodies, what is refused
//! - [`serve`]: what the gateway is for the wire
//! - [`downstream`]: the client's side of an exchange
//! - [`upstream`]: pools, sending a request, the response that comes back
//! - [`listener`]: where clients connect, and what becomes of a connection until its first request
//! - [`stream`]: TCP, TLS and UDP without HTTP
//! - [`tls`]: certificates and settings of both sides
//! - [`worker`]: settings, recycled buffers and coarse deadlines of one thread

mod body;
mod buffer;
pub mod downstream;
pub mod errors;
mod h1;
pub mod head;
pub mod headers;
pub mod listener;
mod multiplexed;
pub mod parse;
pub mod serve;
mod socket;
pub mod stream;
pub mod tls;
mod tunnel;
pub mod upstream;
pub mod worker;

pub use downstream::Downstream;
pub use errors::{BodyError, ClientGone, RelayError, UpstreamError, UpstreamErrorKind};
pub use head::{Framing, Method, RequestHead, ResponseHead, Version};
pub use headers::Headers;
pub use serve::{BodyFilter, Peer, Refusal, Service, TlsPeer};
pub use stream::StreamService;
pub use upstream::{Moments, PoolSettings, Pools, RequestBody, Target, Timeouts, UpstreamResponse, UpstreamTls};
pub use worker::{Settings, Worker};
