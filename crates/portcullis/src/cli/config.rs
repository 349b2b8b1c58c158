//! `config`: making, checking and moving declarative files.

use std::io::Write;
use std::path::Path;

use super::terminal::Terminal;
use super::{Arguments, Failure, create_new, settings};
use crate::conf::settings::Database;
use crate::run::{catalog, declarative, lua};

const EXAMPLE: &str = include_str!("example.yml");

pub fn run(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let Some((command, rest)) = arguments.positional.split_first() else { return Ok(()) };
    let file = rest.first().map(String::as_str);
    match command.replace('-', "_").as_str() {
        "init" => init(file.unwrap_or("kong.yml")),
        "parse" => parse(terminal, arguments, file),
        command => {
            if settings(terminal, arguments)?.database == Database::Off {
                return Err(Failure(without_database(terminal, command)));
            }
            Err(Failure(format!("config {command} is not available in this version")))
        }
    }
}

fn without_database(terminal: Terminal, command: &str) -> String {
    let mut text = format!("'{} config {command}' only works with a database.", terminal.program());
    if command == "db_import" {
        text.push_str("\nWhen using database=off, reload your declarative configuration\nusing the /config endpoint.");
    }
    text
}

fn init(path: &str) -> Result<(), Failure> {
    create_new(path, 0o644)?.write_all(EXAMPLE.as_bytes()).map_err(|error| Failure(format!("{path}: {error}")))
}

fn parse(terminal: Terminal, arguments: &Arguments, path: Option<&str>) -> Result<(), Failure> {
    let path = path.ok_or_else(|| Failure("expected a declarative configuration file; see `config --help`".to_owned()))?;
    let settings = settings(terminal, arguments)?;
    let catalog = catalog::of(catalog::enabled(&settings.plugins)?, settings.flavor);
    lua::install(&settings, uuid::Uuid::nil());
    declarative::read_file(&catalog, Path::new(path)).map_err(|problem| Failure(format!("Failed parsing:\n{problem}")))?;
    terminal.say("parse successful");
    Ok(())
}
