//! `config`: making, checking and moving declarative files.
//!
//! - [`database`]: files into the database and out of it
//! - [`difference`]: what separates a database from a wanted configuration, shown or taken away (`diff`, `sync`, `rollback`)
//! - [`node`]: the same of a running node, over its Admin API

mod database;
mod difference;
mod node;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use portcullis_entities::declarative::Document;
use portcullis_schema::Catalog;

use super::terminal::Terminal;
use super::{Arguments, Done, Failure, create_new, settings};
use crate::conf::Settings;
use crate::conf::settings::Database;
use crate::run::{catalog, declarative, lua};

const EXAMPLE: &str = include_str!("../example.yml");

pub fn run(terminal: Terminal, arguments: &Arguments) -> Done {
    let Some((command, rest)) = arguments.positional.split_first() else { return Ok(ExitCode::SUCCESS) };
    let file = rest.first().map(String::as_str);
    let command = command.replace('-', "_");
    match command.as_str() {
        "init" => init(file.unwrap_or("kong.yml"))?,
        "parse" => {
            let settings = settings(terminal, arguments)?;
            read(&settings, file)?;
            terminal.say("parse successful");
        }
        command => {
            let settings = settings(terminal, arguments)?;
            let node = arguments.value("node").filter(|_| matches!(command, "diff" | "sync"));
            if settings.database == Database::Off && node.is_none() {
                return Err(Failure(without_database(terminal, command)));
            }
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.map_err(|error| Failure(format!("starting a runtime: {error}")))?;
            return runtime.block_on(async {
                match command {
                    "db_import" => database::import(terminal, &settings, file).await,
                    "db_export" => database::export(&settings, file.unwrap_or("kong.yml")).await,
                    "diff" => difference::show(terminal, &settings, file, node).await,
                    "sync" => difference::sync(terminal, &settings, file, node).await,
                    _ => difference::rollback(terminal, &settings, file).await,
                }
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a declarative file, and answers what it may hold with it.
fn read(settings: &Settings, path: Option<&str>) -> Result<(Arc<Catalog>, Document), Failure> {
    let path = path.ok_or_else(|| Failure("expected a declarative configuration file; see `config --help`".to_owned()))?;
    let entries = catalog::enabled(&settings.plugins, &lua::install(settings, uuid::Uuid::nil()))?;
    let catalog = Arc::new(catalog::for_node(entries, settings));
    let document = declarative::read_file(&catalog, Path::new(path)).map_err(|problem| Failure(format!("Failed parsing:\n{problem}")))?;
    Ok((catalog, document))
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
