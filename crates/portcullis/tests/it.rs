//! The real program: its command line, and its life on prefixes of its own.
#![allow(clippy::unwrap_used)]

#[path = "it/command_line.rs"]
mod command_line;
#[path = "it/gate.rs"]
mod gate;
#[path = "it/life.rs"]
mod life;
#[path = "it/reference.rs"]
mod reference;
