//! `config`: making and checking declarative files.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::{Arguments, Failure, Name, settings};
use crate::run::{catalog, declarative};

const EXAMPLE: &str = include_str!("example.yml");

/// Runs a sub-command; none when there is no such one.
pub fn run(name: &Name, arguments: &Arguments) -> Option<Result<(), Failure>> {
    let (command, rest) = arguments.positional.split_first()?;
    Some(match command.replace('-', "_").as_str() {
        "init" => init(rest.first().map_or("kong.yml", String::as_str)),
        "parse" => parse(name, arguments, rest.first().map(String::as_str)),
        "db_import" | "db_export" => Err(Failure(format!("config {command} is not available in this version"))),
        _ => return None,
    })
}

fn init(path: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure(format!("{path} already exists.\nWill not overwrite it.")),
        _ => Failure(format!("{path}: {error}")),
    })?;
    file.write_all(EXAMPLE.as_bytes()).map_err(|error| Failure(format!("{path}: {error}")))
}

fn parse(name: &Name, arguments: &Arguments, path: Option<&str>) -> Result<(), Failure> {
    let path = path.ok_or_else(|| Failure("expected a declarative configuration file; see `config --help`".to_owned()))?;
    let settings = settings(name, arguments)?;
    let catalog = catalog::of(catalog::enabled(&settings.plugins)?);
    declarative::read_file(&catalog, Path::new(path)).map_err(|problem| Failure(format!("Failed parsing:\n{problem}")))?;
    println!("parse successful");
    Ok(())
}
