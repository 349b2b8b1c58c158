//! Bytes: HTTP/1.1 on both sides by our own engine, HTTP/2 downstream, TLS, listeners, upstream connection pools.
//!
//! Stands on tokio, httparse, rustls and h2; knows no entity, no route and no plugin. A worker thread runs one
//! single-threaded runtime; everything here that holds a connection is `!Send` and stays on its worker.
//!
//! - [`headers`]: header lines kept as they came, with edits
//! - [`head`]: request and response heads, how a body is framed

pub mod head;
pub mod headers;

pub use head::{Framing, Method, RequestHead, ResponseHead, Version};
pub use headers::Headers;
