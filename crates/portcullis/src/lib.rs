//! The gateway's program as a library, so that its parsers can be fuzzed and its parts tested; `main.rs` only calls it.

mod access_log;
pub mod cli;
pub mod conf;
pub mod log;
pub mod prefix;
pub mod run;
