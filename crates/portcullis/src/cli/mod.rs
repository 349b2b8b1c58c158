//! The command line: Kong's commands, flags, words and exit codes (behaviour checklist 1).
//!
//! Called as `kong`, the program speaks of Kong where Kong does, so that scripts that match on its output keep working.

mod arguments;
mod config;
mod process;

use std::path::PathBuf;
use std::process::ExitCode;

pub use arguments::Arguments;

use crate::conf::{self, Complaints, Settings};
use crate::log::Timestamp;

/// Why a command failed: the text after `Error: `.
pub struct Failure(pub String);

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<Complaints> for Failure {
    fn from(complaints: Complaints) -> Self {
        Self(complaints.0.join("\n"))
    }
}

/// Commands in the order help lists them.
const COMMANDS: [&str; 15] = [
    "check",
    "config",
    "drain",
    "health",
    "hybrid",
    "migrations",
    "prepare",
    "quit",
    "reload",
    "restart",
    "roar",
    "start",
    "stop",
    "vault",
    "version",
];

/// Runs the command the arguments name.
pub fn main(program: &str, arguments: Vec<String>) -> ExitCode {
    let name = Name(program == "kong");
    let Some(command) = arguments.first().cloned() else {
        eprint!("{}", usage(&name));
        return ExitCode::FAILURE;
    };
    if command == "--help" || command == "-h" {
        print!("{}", usage(&name));
        return ExitCode::SUCCESS;
    }
    if !COMMANDS.contains(&command.as_str()) && command != process::SERVE {
        eprint!("No such command: {command}\n\n{}", usage(&name));
        return ExitCode::FAILURE;
    }
    let arguments = match Arguments::parse(&arguments[1..]) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprint!("{problem}\n\n{}", usage(&name));
            return ExitCode::FAILURE;
        }
    };
    if arguments.flag("help") {
        print!("{}", usage(&name));
        return ExitCode::SUCCESS;
    }
    let done = match command.as_str() {
        "version" => version(&name, &arguments),
        "check" => return check(&arguments),
        "prepare" => process::prepare(&arguments),
        "start" => process::start(&name, &arguments),
        process::SERVE => return process::serve(&arguments),
        "stop" => process::stop(&name, &arguments),
        "quit" => process::quit(&name, &arguments),
        "reload" => process::reload(&name, &arguments),
        "restart" => process::restart(&name, &arguments),
        "health" => process::health(&name, &arguments),
        "config" => match config::run(&name, &arguments) {
            Some(done) => done,
            None => {
                eprint!("{}", usage(&name));
                return ExitCode::FAILURE;
            }
        },
        "roar" => {
            println!("{} stands guard.", name.product());
            Ok(())
        }
        other => Err(Failure(format!("'{other}' is not available in this version"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            eprint!("Error: {text}\n\n  Run with --v (verbose) or --vv (debug) for more details\n");
            ExitCode::FAILURE
        }
    }
}

/// What the program calls itself.
pub struct Name(bool);

impl Name {
    /// `Kong started`, `Portcullis started`.
    pub fn product(&self) -> &'static str {
        if self.0 { "Kong" } else { "Portcullis" }
    }

    pub fn program(&self) -> &'static str {
        if self.0 { "kong" } else { "portcullis" }
    }
}

fn usage(name: &Name) -> String {
    let program = name.program();
    let mut text = format!("Usage: {program} COMMAND [OPTIONS]\n\nThe available commands are:\n");
    for command in COMMANDS {
        text.push_str(&format!(" {command}\n"));
    }
    text.push_str("\nOptions:\n --v              verbose\n --vv             debug\n");
    text
}

fn version(name: &Name, arguments: &Arguments) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    if arguments.flag("all") {
        println!("{}: {}", name.product(), if name.0 { conf::settings::KONG_VERSION } else { own });
        println!(
            "{}: {}",
            if name.0 { "Portcullis" } else { "compatible with Kong" },
            if name.0 { own } else { conf::settings::KONG_VERSION }
        );
    } else {
        println!("{}", if name.0 { conf::settings::KONG_VERSION } else { own });
    }
    Ok(())
}

fn check(arguments: &Arguments) -> ExitCode {
    let path = PathBuf::from(arguments.positional.first().map_or("/etc/kong/kong.conf", String::as_str));
    match conf::read(Some(&path), &[]) {
        Ok(settings) => {
            warn(&settings);
            println!("configuration at {} is valid", path.display());
            ExitCode::SUCCESS
        }
        Err(Complaints(complaints)) => {
            for complaint in complaints {
                eprintln!("{} [error] {complaint}", Timestamp(now()));
            }
            ExitCode::FAILURE
        }
    }
}

/// Reads the settings a command runs with: `-c`, `-p`, file, environment.
fn settings(name: &Name, arguments: &Arguments) -> Result<Settings, Failure> {
    let mut overrides = Vec::new();
    if let Some(prefix) = arguments.value("prefix") {
        overrides.push(("prefix", absolute(prefix)));
    } else if name.0 && std::env::var_os("KONG_PREFIX").is_none() && std::env::var_os("PORTCULLIS_PREFIX").is_none() {
        // A file that names a prefix goes before this default; reading it twice is the price of one rule for both names.
        let named = conf::read(arguments.value("conf").map(PathBuf::from).as_deref(), &[])?;
        if named.prefix == PathBuf::from(conf::keys::find("prefix").map_or("", |key| key.default)) {
            overrides.push(("prefix", "/usr/local/kong".to_owned()));
        }
    }
    let settings = conf::read(arguments.value("conf").map(PathBuf::from).as_deref(), &overrides)?;
    warn(&settings);
    Ok(settings)
}

fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// The prefix of commands that only look for a running node.
fn prefix(name: &Name, arguments: &Arguments) -> Result<PathBuf, Failure> {
    match arguments.value("prefix") {
        Some(prefix) => Ok(PathBuf::from(absolute(prefix))),
        None => Ok(settings(name, arguments)?.prefix),
    }
}

fn warn(settings: &Settings) {
    for warning in &settings.loaded.warnings {
        eprintln!("{} [warn] {warning}", Timestamp(now()));
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
