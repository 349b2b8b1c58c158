//! The command line: Kong's commands, flags, words and exit codes (behaviour checklist 1).
//!
//! Called as `kong`, the program speaks of Kong where Kong does, so that scripts that match on its output keep working.
//!
//! - [`arguments`], [`usage`], [`terminal`]: what is asked, what can be asked, what is said
//! - [`process`]: start, stop and everything about the running node; [`drain`]
//! - [`config`], [`migrations`], [`hybrid`], [`vault`]: the commands with sub-commands

mod arguments;
mod config;
mod drain;
mod hybrid;
mod migrations;
mod process;
mod terminal;
mod usage;
mod vault;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use arguments::Arguments;
use terminal::{Terminal, Verbosity};

use crate::conf::settings::KONG_VERSION;
use crate::conf::{self, Complaints, Given, Settings, Sources};

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

/// What a command ends with: an exit code of its own, or a failure to report.
type Done = Result<ExitCode, Failure>;

/// Runs the command the arguments name.
pub fn main(program: &str, arguments: Vec<String>) -> ExitCode {
    let unread = Terminal::new(program, &Arguments::default());
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{}", usage::program(unread));
        return ExitCode::FAILURE;
    };
    if matches!(name.as_str(), "--help" | "-h") {
        print!("{}", usage::program(unread));
        return ExitCode::SUCCESS;
    }
    if name == process::SERVE {
        return process::serve(rest.first().map(Path::new));
    }
    let Some(command) = usage::find(name) else {
        eprint!("No such command: {name}\n\n{}", usage::program(unread));
        return ExitCode::FAILURE;
    };
    let arguments = match Arguments::parse(rest) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprint!("{problem}\n\n{}", command.usage(unread));
            return ExitCode::FAILURE;
        }
    };
    let terminal = Terminal::new(program, &arguments);
    if arguments.flag("help") {
        print!("{}", command.usage(terminal));
        return ExitCode::SUCCESS;
    }
    let sub_command = arguments.positional.first().map_or("", String::as_str);
    if !command.sub_commands.is_empty() && !command.sub_commands.contains(&sub_command.replace('-', "_").as_str()) {
        if !sub_command.is_empty() {
            eprint!("No such command for {name}: {sub_command}\n\n");
        }
        eprint!("{}", command.usage(terminal));
        return ExitCode::FAILURE;
    }
    terminal.greet();
    report(terminal, run(command.name, terminal, &arguments))
}

fn run(command: &str, terminal: Terminal, arguments: &Arguments) -> Done {
    let done = match command {
        "version" => version(terminal, arguments),
        "check" => return check(terminal, arguments),
        "prepare" => process::prepare(terminal, arguments),
        "start" => process::start(terminal, arguments),
        "stop" => process::stop(terminal, arguments),
        "quit" => process::quit(terminal, arguments),
        "reload" => process::reload(terminal, arguments),
        "restart" => process::restart(terminal, arguments),
        "health" => process::health(terminal, arguments),
        "drain" => drain::run(terminal, arguments),
        "config" => return config::run(terminal, arguments),
        "hybrid" => hybrid::run(terminal, arguments),
        "migrations" => return migrations::run(terminal, arguments),
        "vault" => vault::run(terminal, arguments),
        _ => roar(terminal),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn report(terminal: Terminal, done: Done) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(Failure(text)) => {
            eprintln!("Error: {text}");
            if terminal.verbosity() == Verbosity::Normal {
                eprint!("\n  Run with --v (verbose) or --vv (debug) for more details\n");
            }
            ExitCode::FAILURE
        }
    }
}

fn version(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.flag("all") {
        println!("{}", terminal.version());
        return Ok(());
    }
    let own = env!("CARGO_PKG_VERSION");
    if terminal.as_kong() {
        println!("Kong: {KONG_VERSION}\nPortcullis: {own}");
    } else {
        println!("Portcullis: {own}\nKong (compatible with): {KONG_VERSION}");
    }
    Ok(())
}

fn roar(terminal: Terminal) -> Result<(), Failure> {
    println!("  _|__|__|__|__|_\n   |  |  |  |  |\n  _|__|__|__|__|_\n   |  |  |  |  |\n  _|__|__|__|__|_\n   V  V  V  V  V\n");
    println!("{} stands guard.", terminal.product());
    Ok(())
}

fn check(terminal: Terminal, arguments: &Arguments) -> Done {
    let usual = if terminal.as_kong() { "/etc/kong/kong.conf" } else { "/etc/portcullis/portcullis.conf" };
    let path = Path::new(arguments.positional.first().map_or(usual, String::as_str));
    match conf::read(Sources { file: Some(path), ..Sources::default() }) {
        Ok(settings) => {
            terminal.read(&settings);
            terminal.say(&format!("configuration at {} is valid", path.display()));
            Ok(ExitCode::SUCCESS)
        }
        Err(Complaints(complaints)) => {
            for complaint in complaints {
                terminal.error(&complaint);
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Reads the settings a command runs with: `-c`, `-p`, file, environment; and passes on their warnings.
fn settings(terminal: Terminal, arguments: &Arguments) -> Result<Settings, Failure> {
    let settings = read(terminal, arguments, Given::new())?;
    terminal.read(&settings);
    Ok(settings)
}

/// As [`settings`], quietly, over what a node was started with.
fn read(terminal: Terminal, arguments: &Arguments, mut stored: Given) -> Result<Settings, Failure> {
    if terminal.as_kong() {
        stored.entry("prefix".to_owned()).or_insert_with(|| "/usr/local/kong".to_owned());
    }
    let overrides: Vec<_> = arguments.value("prefix").map(|prefix| ("prefix", absolute(prefix))).into_iter().collect();
    let file = arguments.value("conf").map(Path::new);
    Ok(conf::read(Sources { file, stored, overrides: &overrides })?)
}

fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// The prefix of commands that only look for a running node. What else the configuration says is not their concern.
fn prefix(terminal: Terminal, arguments: &Arguments) -> Result<PathBuf, Failure> {
    match arguments.value("prefix") {
        Some(prefix) => Ok(Path::new(&absolute(prefix)).components().collect()),
        None => Ok(read(terminal, arguments, Given::new())?.prefix),
    }
}

/// Makes a file that must not be there yet. Errors with Kong's text.
fn create_new(path: &str, mode: u32) -> Result<std::fs::File, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure(format!("{path} already exists.\nWill not overwrite it.")),
        _ => Failure(format!("{path}: {error}")),
    })
}
