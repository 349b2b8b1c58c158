//! The steps a Postgres database has taken, in Kong's words and with its exit codes (behaviour checklist 1.2 and 10.1).

use std::process::ExitCode;
use std::time::Duration;

use portcullis_store::postgres::Trouble;
use portcullis_store::postgres::migrate::{Migrator, State, Steps};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::super::terminal::Terminal;
use super::super::{Arguments, Done, Failure};
use super::confirm;
use crate::conf::settings::Database;
use crate::conf::{self, Settings};
use crate::run::stores;

/// Exit codes of `migrations list`.
const NEEDS_BOOTSTRAP: u8 = 3;
const HAS_PENDING: u8 = 4;
const HAS_NEW: u8 = 5;

/// A command on one database.
struct Command<'a> {
    terminal: Terminal,
    quiet: bool,
    force: bool,
    database: String,
    lock_timeout: Duration,
    runtime: &'a Runtime,
    migrator: Migrator,
}

pub fn run(terminal: Terminal, arguments: &Arguments, settings: &Settings) -> Done {
    let runtime = runtime()?;
    let mut command = Command::new(terminal, arguments, settings, &runtime)?;
    match arguments.positional.first().map_or("", String::as_str) {
        "bootstrap" => command.bootstrap(),
        "up" => command.up(),
        "finish" => command.finish(),
        "list" => command.list(),
        "status" => command.status(),
        _ => {
            confirm(arguments)?;
            command.reset()
        }
    }
}

/// Looks whether a node can start on the database of its settings, and with `--run-migrations` makes it so.
///
/// A server that is away is none of the command's concern if the node has a copy to start from.
pub fn before_start(terminal: Terminal, arguments: &Arguments, settings: &Settings) -> Result<(), Failure> {
    if settings.database != Database::Postgres {
        return Ok(());
    }
    let runtime = runtime()?;
    let connected = Command::reach(terminal, arguments, settings, &runtime)?;
    let mut command = match connected {
        Ok(command) => command,
        Err(Trouble::Away(cause)) if stores::copies(settings).is_some_and(|copies| !copies.is_empty()) => {
            terminal.warn(&format!("the database is away ({cause}): starting from the last good configuration"));
            return Ok(());
        }
        Err(trouble) => return Err(Failure(stores::unreachable(&trouble))),
    };
    let mut state = command.state()?;
    if !state.is_up_to_date() && arguments.flag("run-migrations") {
        command.up()?;
        state = command.state()?;
    }
    if state.needs_bootstrap {
        return Err(Failure(command.needs_bootstrap()));
    }
    if !state.new.is_empty() {
        return Err(Failure(format!("New migrations available; run '{} migrations up' to proceed", terminal.program())));
    }
    if let Some(steps) = state.missing.first() {
        return Err(Failure(format!(
            "the database belongs to a newer version: it has taken migrations this one does not know ({}: {})",
            steps.subsystem,
            steps.names.join(", ")
        )));
    }
    Ok(())
}

fn runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure(format!("starting a runtime: {error}")))
}

fn seconds(arguments: &Arguments, flag: &str) -> Result<Option<Duration>, Failure> {
    let Some(text) = arguments.value(flag) else { return Ok(None) };
    let number = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    number.map(Some).ok_or_else(|| Failure(format!("{flag} must be a number of seconds: '{text}'")))
}

impl<'a> Command<'a> {
    fn new(terminal: Terminal, arguments: &Arguments, settings: &Settings, runtime: &'a Runtime) -> Result<Self, Failure> {
        Self::reach(terminal, arguments, settings, runtime)?.map_err(|trouble| Failure(stores::unreachable(&trouble)))
    }

    fn reach(
        terminal: Terminal,
        arguments: &Arguments,
        settings: &Settings,
        runtime: &'a Runtime,
    ) -> Result<Result<Self, Trouble>, Failure> {
        let server = conf::postgres::server(settings);
        let (timeout, lock_timeout) = (seconds(arguments, "db-timeout")?, seconds(arguments, "lock-timeout")?);
        let connected = runtime.block_on(Migrator::connect(&server, timeout));
        Ok(connected.map(|migrator| Self {
            terminal,
            quiet: arguments.flag("quiet"),
            force: arguments.flag("force"),
            database: server.database,
            lock_timeout: lock_timeout.unwrap_or(Duration::from_secs(60)),
            runtime,
            migrator,
        }))
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            self.terminal.say(text);
        }
    }

    fn state(&self) -> Result<State, Failure> {
        Ok(self.runtime.block_on(self.migrator.state())?)
    }

    fn needs_bootstrap(&self) -> String {
        let program = self.terminal.program();
        format!(
            "Database needs bootstrapping or is older than Kong 1.0.\n\nRun '{program} migrations bootstrap' to set up an empty database.\n\n"
        )
    }

    /// Waits for others who migrate, and answers the state they left.
    fn lock(&self) -> Result<State, Failure> {
        if !self.runtime.block_on(self.migrator.lock(self.lock_timeout))? {
            return Err(Failure("aborted: another node is performing database changes".to_owned()));
        }
        self.state()
    }

    fn bootstrap(&mut self) -> Done {
        let mut state = self.state()?;
        if state.needs_bootstrap || self.force {
            state = self.lock()?;
        }
        if !state.needs_bootstrap {
            if !self.force {
                self.say("Database already bootstrapped");
                return Ok(ExitCode::SUCCESS);
            }
            self.drop_everything()?;
            state = self.state()?;
        }
        self.say("Bootstrapping database...");
        self.migrate(&state)
    }

    fn migrate(&mut self, state: &State) -> Done {
        let made = self.runtime.block_on(self.migrator.make(state));
        self.runtime.block_on(self.migrator.unlock());
        made?;
        for steps in &state.new {
            self.say(&format!("migrating {} on database '{}'...", steps.subsystem, self.database));
            for name in &steps.names {
                self.say(&format!("{} migrated up to: {name} (executed)", steps.subsystem));
            }
        }
        let count: usize = state.new.iter().map(|steps| steps.names.len()).sum();
        let word = if count == 1 { "migration" } else { "migrations" };
        self.say(&format!("{count} {word} processed\n{count} executed"));
        self.say("Database is up-to-date");
        Ok(ExitCode::SUCCESS)
    }

    fn up(&mut self) -> Done {
        let state = self.state()?;
        if state.needs_bootstrap {
            return Err(Failure(format!("Cannot run migrations: {}", self.needs_bootstrap())));
        }
        self.warn_of_missing(&state);
        let program = self.terminal.program();
        if !state.pending.is_empty() && !self.force {
            return Err(Failure(format!(
                "Database has pending migrations from a previous upgrade: run '{program} migrations finish' first, or '{program} migrations up -f'"
            )));
        }
        if state.new.is_empty() {
            self.say("Database is already up-to-date");
            return Ok(ExitCode::SUCCESS);
        }
        let state = self.lock()?;
        self.migrate(&state)
    }

    fn finish(&mut self) -> Done {
        let state = self.state()?;
        if state.needs_bootstrap {
            return Err(Failure(format!("Cannot run migrations: {}", self.needs_bootstrap())));
        }
        self.warn_of_missing(&state);
        if state.pending.is_empty() {
            self.say("No pending migrations to finish");
            return Ok(ExitCode::SUCCESS);
        }
        let state = self.lock()?;
        let finished = self.runtime.block_on(self.migrator.finish());
        self.runtime.block_on(self.migrator.unlock());
        finished?;
        let count: usize = state.pending.iter().map(|steps| steps.names.len()).sum();
        self.say(&format!("{count} pending migrations finished"));
        if !state.new.is_empty() {
            self.say(&format!("New migrations available; run '{} migrations up' to proceed", self.terminal.program()));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn warn_of_missing(&self, state: &State) {
        if !state.missing.is_empty() && !self.quiet {
            self.terminal.warn(listed("Database is missing some migrations:", &state.missing).trim_end());
        }
    }

    fn list(&self) -> Done {
        let state = self.state()?;
        let program = self.terminal.program();
        if state.needs_bootstrap {
            self.say(&self.needs_bootstrap());
            return Ok(NEEDS_BOOTSTRAP.into());
        }
        self.warn_of_missing(&state);
        self.say(listed("Executed migrations:", &state.executed).trim_end());
        if !state.pending.is_empty() {
            self.say(listed("\nPending migrations:", &state.pending).trim_end());
        }
        if !state.new.is_empty() {
            self.say(listed("\nNew migrations available:", &state.new).trim_end());
        }
        if !state.pending.is_empty() {
            self.say(&format!("\nDatabase has pending migrations; run '{program} migrations finish' when ready"));
            return Ok(HAS_PENDING.into());
        }
        if !state.new.is_empty() {
            self.say(&format!("\nNew migrations available; run '{program} migrations up' to proceed"));
            return Ok(HAS_NEW.into());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn status(&self) -> Done {
        let state = self.state()?;
        let mut told = json!({ "needs_bootstrap": state.needs_bootstrap });
        let lists = [
            ("executed_migrations", &state.executed),
            ("pending_migrations", &state.pending),
            ("new_migrations", &state.new),
            ("missing_migrations", &state.missing),
        ];
        for (name, steps) in lists.into_iter().filter(|(_, steps)| !steps.is_empty()) {
            let shown = |of: &Steps| json!({ "namespace": of.namespace(), "subsystem": of.subsystem, "migrations": of.names });
            told[name] = steps.iter().map(shown).collect::<Value>();
        }
        if !self.quiet {
            println!("{told}");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn reset(&mut self) -> Done {
        if self.state()?.needs_bootstrap {
            self.say("Database not bootstrapped, nothing to reset");
            return Ok(ExitCode::FAILURE);
        }
        self.lock()?;
        self.drop_everything()?;
        Ok(ExitCode::SUCCESS)
    }

    fn drop_everything(&mut self) -> Result<(), Failure> {
        self.say("Resetting database...");
        self.runtime.block_on(self.migrator.reset())?;
        self.say("Database successfully reset");
        Ok(())
    }
}

/// Steps by subsystem, the names of the subsystems flush right.
pub fn listed(title: &str, of: &[Steps]) -> String {
    let width = of.iter().map(|steps| steps.subsystem.len()).max().unwrap_or_default();
    let mut text = format!("{title}\n");
    for steps in of {
        text.push_str(&format!("{:>width$}: {}\n", steps.subsystem, steps.names.join(", ")));
    }
    text
}
