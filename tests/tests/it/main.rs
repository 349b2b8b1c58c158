//! The black-box suites: what a user meets, shown with the real program.
#![allow(clippy::unwrap_used)]

mod admin_api;
mod bad_input;
mod big_bodies;
mod framing;
mod http2;
mod key_auth_and_rate_limiting;
mod live_changes;
mod reload_and_drain;
mod smuggling;
mod tls;
mod tour;
