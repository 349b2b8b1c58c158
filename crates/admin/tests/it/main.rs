//! The two APIs through a real port, over the embedded and the declarative store.
#![allow(clippy::unwrap_used, clippy::panic)]

mod arbitrary;
mod away;
mod bodies;
mod bulk;
mod certificates;
mod common;
mod dbless;
mod entities;
mod etag;
mod kit;
mod lists;
mod nested;
mod node;
mod openapi;
mod plugins;
mod status;
mod upstreams;
