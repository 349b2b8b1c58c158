//! The fixture shared by the black-box suites: the real program on free ports, a scripted upstream, a client for any bytes.
//!
//! - [`Gateway`]: the program, started with a folder of its own and stopped when dropped; [`Admin`] speaks to its Admin API
//! - [`Upstream`]: a server whose answers the path chooses, and which tells what it saw
//! - [`Connection`]: a raw HTTP/1.1 client, over TCP or TLS, that sends whatever bytes it is given
//!
//! Everything panics with what it saw when something is not as it must be: this crate is for tests only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

mod admin;
mod client;
mod gateway;
mod program;
mod upstream;

pub use admin::{Admin, Answer};
pub use client::{Connection, Response, get};
pub use gateway::{Gateway, Settings};
pub use program::{program, run};
pub use upstream::{Seen, Upstream};

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the condition holds; panics with `what` when it doesn't in time.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A number from the environment for suites that have a short and a long form, else the short one.
pub fn scale(variable: &str, short: u64) -> u64 {
    std::env::var(variable).ok().map_or(short, |text| text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}
