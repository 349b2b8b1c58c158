//! The gateway's program: command line, configuration, and the wiring of everything the other rooms hold.
//!
//! Everything else is in the library beside it: [`portcullis::cli`] is where a reader goes on.
use std::process::ExitCode;

use portcullis::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let program = arguments.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    cli::main(&program, arguments.collect())
}
