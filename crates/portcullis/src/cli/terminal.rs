//! What a command says, in the form Kong's commands say it: bare lines, or dated ones with `--v`.

use super::Arguments;
use crate::conf::settings::KONG_VERSION;
use crate::conf::{Loaded, Settings};
use crate::log::Timestamp;

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    Normal,
    /// `--v`
    Verbose,
    /// `--vv`
    Debug,
}

/// The terminal of one command.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Called as `kong`, the program speaks of Kong where Kong does.
    as_kong: bool,
    verbosity: Verbosity,
}

impl Terminal {
    pub fn new(program: &str, arguments: &Arguments) -> Self {
        let verbosity = match (arguments.flag("v"), arguments.flag("vv")) {
            (_, true) => Verbosity::Debug,
            (true, _) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Self { as_kong: program == "kong", verbosity }
    }

    pub fn as_kong(self) -> bool {
        self.as_kong
    }

    pub fn verbosity(self) -> Verbosity {
        self.verbosity
    }

    /// `Kong started`, `Portcullis started`.
    pub fn product(self) -> &'static str {
        if self.as_kong { "Kong" } else { "Portcullis" }
    }

    pub fn program(self) -> &'static str {
        if self.as_kong { "kong" } else { "portcullis" }
    }

    pub fn version(self) -> &'static str {
        if self.as_kong { KONG_VERSION } else { env!("CARGO_PKG_VERSION") }
    }

    pub fn say(self, text: &str) {
        match self.verbosity {
            Verbosity::Normal => println!("{text}"),
            _ => println!("{} [info] {text}", Timestamp::now()),
        }
    }

    pub fn verbose(self, text: &str) {
        if self.verbosity >= Verbosity::Verbose {
            println!("{} [verbose] {text}", Timestamp::now());
        }
    }

    fn debug(self, text: &str) {
        if self.verbosity >= Verbosity::Debug {
            println!("{} [debug] {text}", Timestamp::now());
        }
    }

    pub fn warn(self, text: &str) {
        eprintln!("{} [warn] {text}", Timestamp::now());
    }

    pub fn error(self, text: &str) {
        eprintln!("{} [error] {text}", Timestamp::now());
    }

    pub fn greet(self) {
        self.verbose(&format!("{}: {}", self.product(), self.version()));
    }

    /// Passes on the warnings of a configuration and, with `--vv`, shows it.
    pub fn read(self, settings: &Settings) {
        let Loaded { warnings, .. } = &settings.loaded;
        for warning in warnings {
            self.warn(warning);
        }
        if self.verbosity < Verbosity::Debug {
            return;
        }
        // The map of settings is ordered by name.
        for (name, value) in settings.shown() {
            match value.as_str() {
                Some(text) => self.debug(&format!("{name} = \"{text}\"")),
                None => self.debug(&format!("{name} = {value}")),
            }
        }
    }
}
