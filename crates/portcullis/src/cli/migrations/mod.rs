//! `migrations`: the state of the database.
//!
//! [`postgres`] is migrated by hand, as Kong's is. The embedded database is made and brought up to date by the node that opens
//! it, so there is nothing to run; the commands succeed, for the scripts that call them before a start.

mod postgres;

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use portcullis_store::postgres::migrate::Steps;

use super::terminal::Terminal;
use super::{Arguments, Done, Failure, settings};
use crate::conf::Settings;
use crate::conf::settings::Database;
use crate::prefix;

pub use postgres::before_start;

pub fn run(terminal: Terminal, arguments: &Arguments) -> Done {
    let settings = settings(terminal, arguments)?;
    if settings.database == Database::Postgres {
        return postgres::run(terminal, arguments, &settings);
    }
    without_steps(terminal, arguments, &settings).map(|()| ExitCode::SUCCESS)
}

fn without_steps(terminal: Terminal, arguments: &Arguments, settings: &Settings) -> Result<(), Failure> {
    let say = |text: &str| {
        if !arguments.flag("quiet") {
            terminal.say(text);
        }
    };
    match arguments.positional.first().map_or("", String::as_str) {
        "bootstrap" => say("Database already bootstrapped"),
        "up" => say("Database is already up-to-date"),
        "finish" => say("No pending migrations to finish"),
        "list" if settings.database == Database::Off => say(postgres::listed("Executed migrations:", &Steps::all()).trim_end()),
        "list" => say("Executed migrations: none to run by hand, the node migrates its database when it starts"),
        "status" => println!("{}", serde_json::json!({"executed_migrations": [], "needs_bootstrap": false})),
        _ => {
            if settings.database == Database::Off {
                return Err(Failure("there is no database to reset when database=off".to_owned()));
            }
            confirm(arguments)?;
            if prefix::running(&settings.prefix).is_some() {
                return Err(Failure(format!("{} is running in {}: stop it first", terminal.product(), settings.prefix.display())));
            }
            say("Resetting database...");
            for file in ["portcullis.db", "portcullis.db-wal", "portcullis.db-shm"] {
                let path = settings.prefix.join(file);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Failure(format!("{}: {error}", path.display())));
                    }
                    _ => {}
                }
            }
            say("Database successfully reset");
        }
    }
    Ok(())
}

/// Asks, three times at most, unless told not to.
fn confirm(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.flag("yes") {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure("not a tty: invoke 'reset' non-interactively with the --yes flag".to_owned()));
    }
    for _ in 0..3 {
        print!("> Are you sure? This operation is irreversible. [y/n] ");
        let _ = std::io::stdout().flush();
        let mut answer = String::new();
        let _ = std::io::stdin().lock().read_line(&mut answer);
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(()),
            "n" | "no" => return Err(Failure("cancelled".to_owned())),
            _ => {}
        }
    }
    Err(Failure("cancelled".to_owned()))
}
