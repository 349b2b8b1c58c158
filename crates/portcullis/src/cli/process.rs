//! Starting, stopping and asking after the node of a prefix.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::terminal::Terminal;
use super::{Arguments, Failure, absolute, prefix, read, settings};
use crate::conf::{self, Complaints, Settings, stored};
use crate::prefix as home;

/// The hidden command that the background process runs.
pub const SERVE: &str = "serve-in-background";

/// How often a process is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(50);

pub fn prepare(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let settings = settings(terminal, arguments)?;
    make_prefix(terminal, &settings)
}

fn make_prefix(terminal: Terminal, settings: &Settings) -> Result<(), Failure> {
    if !settings.prefix.is_dir() {
        terminal.say(&format!("prefix directory {} not found, trying to create it", settings.prefix.display()));
    }
    Ok(home::prepare(settings)?)
}

pub fn start(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let settings = settings(terminal, arguments)?;
    if home::running(&settings.prefix).is_some() {
        return Err(Failure(format!("{} is already running in {}", terminal.product(), settings.prefix.display())));
    }
    for flag in ["nginx-conf", "nginx-conf-flags"] {
        if arguments.value(flag).is_some() {
            terminal.warn(&format!("--{flag} has no meaning here and is ignored"));
        }
    }
    warn_of_few_descriptors(terminal);
    super::migrations::before_start(terminal, arguments, &settings)?;
    make_prefix(terminal, &settings)?;
    for socket in home::remove_stale_sockets(&settings.prefix) {
        terminal.warn(&format!("removed stale socket {}", socket.display()));
    }
    if settings.foreground {
        return crate::run::run(settings, || {}).map_err(Failure);
    }
    in_background(&settings)?;
    terminal.say(&format!("{} started", terminal.product()));
    Ok(())
}

/// Starts the same program again, away from the terminal, and waits until it serves or tells why it does not.
fn in_background(settings: &Settings) -> Result<(), Failure> {
    let failed = |what: &str, error: std::io::Error| Failure(format!("{what}: {error}"));
    let program = std::env::current_exe().map_err(|error| failed("finding this program", error))?;
    // What does not go through the log, such as a panic, is kept beside it.
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&settings.error_log);
    let log = log.map_err(|error| failed(&settings.error_log.to_string_lossy(), error))?;
    let mut child = Command::new(program)
        .arg(SERVE)
        .arg(&settings.prefix)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| failed("starting in the background", error))?;
    let mut told = String::new();
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if line == READY {
                return Ok(());
            }
            told.push_str(&line);
            told.push('\n');
        }
    }
    // The pipe closed without the word: the process failed, and what it said is why.
    let _ = child.wait();
    let told = told.trim_end();
    Err(Failure(if told.is_empty() {
        format!("the background process ended without a word; see {}", settings.error_log.display())
    } else {
        told.to_owned()
    }))
}

const READY: &str = "ready";

/// The background process, in a prepared prefix: tells the one that started it how it went over its standard output.
pub fn serve(prefix: Option<&Path>) -> ExitCode {
    let settings = prefix
        .ok_or_else(|| "a prefix is missing".to_owned())
        .and_then(|prefix| std::fs::read_to_string(home::env_file(prefix)).map_err(|error| error.to_string()))
        .and_then(|text| conf::read_stored(&text).map_err(|Complaints(complaints)| complaints.join("\n")));
    let settings = match settings {
        Ok(settings) => settings,
        Err(problem) => {
            println!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    // A session of its own: the terminal's hang-up and Ctrl-C are not for this process.
    let _ = rustix::process::setsid();
    let ready = || {
        println!("{READY}");
        let _ = std::io::stdout().flush();
        if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(null.as_fd());
        }
    };
    match crate::run::run(settings, ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("{problem}");
            // Standard error is the error log: who looks there later finds the reason, too.
            eprintln!("{} [emerg] {}#0: {}", crate::log::Timestamp::now(), std::process::id(), problem.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

pub fn stop(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let prefix = prefix(terminal, arguments)?;
    let pid = running(&prefix)?;
    home::signal(pid, Signal::TERM).map_err(|error| Failure(format!("stopping: {error}")))?;
    kill_unless_gone(&prefix, pid, Duration::from_secs(10));
    terminal.say(&format!("{} stopped", terminal.product()));
    Ok(())
}

pub fn quit(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let prefix = prefix(terminal, arguments)?;
    let (wait, timeout) = (seconds(arguments, "wait", 0)?, seconds(arguments, "timeout", 10)?);
    let pid = running(&prefix)?;
    std::thread::sleep(wait);
    home::signal(pid, Signal::QUIT).map_err(|error| Failure(format!("stopping: {error}")))?;
    if gone(&prefix, timeout) {
        terminal.say(&format!("{} stopped (gracefully)", terminal.product()));
        return Ok(());
    }
    let _ = home::signal(pid, Signal::TERM);
    kill_unless_gone(&prefix, pid, Duration::from_secs(10));
    terminal.say(&format!("Timeout, {} stopped forcefully", terminal.product()));
    Ok(())
}

pub fn reload(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let prefix = prefix(terminal, arguments)?;
    let not_running = || Failure(format!("nginx not running in prefix: {}", prefix.display()));
    let pid = home::running(&prefix).ok_or_else(not_running)?;
    // What the node was started with stands where nothing else is said: its environment may not be this command's.
    let mut stored = stored::read(&std::fs::read_to_string(home::env_file(&prefix)).map_err(|_| not_running())?);
    stored.insert("prefix".to_owned(), absolute(&prefix.to_string_lossy()));
    let settings = read(terminal, arguments, stored)?;
    terminal.read(&settings);
    home::prepare(&settings)?;
    home::signal(pid, Signal::HUP).map_err(|error| Failure(format!("reloading: {error}")))?;
    terminal.say(&format!("{} reloaded", terminal.product()));
    Ok(())
}

pub fn restart(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    // Before anything is stopped: a configuration that cannot start must not end what runs.
    let prefix = read(terminal, arguments, conf::Given::new())?.prefix;
    if let Some(pid) = home::running(&prefix) {
        let _ = home::signal(pid, Signal::TERM);
        kill_unless_gone(&prefix, pid, Duration::from_secs(5));
        terminal.say(&format!("{} stopped", terminal.product()));
    }
    start(terminal, arguments)
}

pub fn health(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let prefix = prefix(terminal, arguments)?;
    if !prefix.is_dir() {
        return Err(Failure(format!("no such prefix: {}", prefix.display())));
    }
    let running = home::running(&prefix).is_some();
    // A prefix where nothing was ever started has no services to list.
    if home::env_file(&prefix).is_file() {
        println!("nginx.......{}\n", if running { "running" } else { "not running" });
    }
    if !running {
        return Err(Failure(format!("{} is not running at {}", terminal.product(), prefix.display())));
    }
    terminal.say(&format!("{} is healthy at {}", terminal.product(), prefix.display()));
    Ok(())
}

fn kill_unless_gone(prefix: &Path, pid: Pid, limit: Duration) {
    if !gone(prefix, limit) {
        let _ = home::signal(pid, Signal::KILL);
        gone(prefix, Duration::from_secs(5));
    }
}

fn running(prefix: &Path) -> Result<Pid, Failure> {
    let env = home::env_file(prefix);
    if !env.is_file() {
        return Err(Failure(format!("no file at: {}", env.display())));
    }
    home::running(prefix).ok_or_else(|| Failure(format!("nginx not running in prefix: {}", prefix.display())))
}

fn gone(prefix: &Path, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    while home::running(prefix).is_some() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

fn seconds(arguments: &Arguments, flag: &str, default: u64) -> Result<Duration, Failure> {
    match arguments.value(flag) {
        None => Ok(Duration::from_secs(default)),
        Some(text) => text.parse().map(Duration::from_secs).map_err(|_| Failure(format!("{flag} must be a number of seconds: '{text}'"))),
    }
}

fn warn_of_few_descriptors(terminal: Terminal) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit < 4096 {
        terminal.warn(&format!(
            "ulimit is currently set to \"{limit}\". For better performance set it to at least \"4096\" using \"ulimit -n\""
        ));
    }
}
