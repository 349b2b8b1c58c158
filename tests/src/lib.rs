//! The fixture of the black-box suites: the real program, something behind it, and clients that say exactly what a test wants.
//!
//! - [`Gateway`] starts the program in a directory of its own on free ports and ends it on drop.
//! - [`Upstream`] answers as the path says and remembers what it was asked.
//! - [`Postgres`] is a real server for those who need a database.
//! - [`Slapd`] is a real LDAP server, [`Redis`] a real Redis.
//! - [`Client`] speaks bytes, [`Admin`] speaks JSON.
//!
//! Everything blocks and everything has a deadline: a test that waits longer than [`PATIENCE`] fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a fixture fails the test it serves")]

mod admin;
mod client;
mod gateway;
mod postgres;
mod redis;
mod slapd;
mod upstream;

use std::time::{Duration, Instant};

pub use admin::{Admin, Reply};
pub use client::{Answer, Client, get};
pub use gateway::{Builder, Gateway, Outcome, free_port};
pub use postgres::Postgres;
pub use redis::Redis;
pub use slapd::Slapd;
pub use upstream::{Seen, Upstream};

/// How long anything may take before the test is given up: long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// True if the long forms of the tests were asked for (`PORTCULLIS_TEST_FULL=1`).
pub fn full() -> bool {
    std::env::var_os("PORTCULLIS_TEST_FULL").is_some_and(|value| value == "1")
}

/// Waits until `condition` holds, looking again every few milliseconds; panics naming `what` if it never does.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
