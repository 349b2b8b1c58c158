//! The wire on real sockets: a small service in front of a scripted upstream.

#![allow(clippy::unwrap_used, clippy::panic)]

mod bodies;
mod connections;
mod framing;
mod grpc;
mod http2;
mod http2_frames;
mod listeners;
mod refusals;
mod support;
mod upstreams;
