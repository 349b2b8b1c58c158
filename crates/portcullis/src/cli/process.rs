//! Starting, stopping and asking after the node of a prefix.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Arguments, Failure, Name, prefix, settings};
use crate::conf::{self, Complaints, Settings};
use crate::prefix as home;

/// The hidden command that the background process runs.
pub const SERVE: &str = "serve-in-background";

/// How often a process is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(50);

pub fn prepare(arguments: &Arguments) -> Result<(), Failure> {
    let settings = settings(&Name(false), arguments)?;
    home::prepare(&settings)?;
    Ok(())
}

pub fn start(name: &Name, arguments: &Arguments) -> Result<(), Failure> {
    let settings = settings(name, arguments)?;
    let shown = settings.prefix.display().to_string();
    if home::running(&settings.prefix).is_some() {
        return Err(Failure(format!("{} is already running in {shown}", name.product())));
    }
    home::prepare(&settings)?;
    for socket in home::remove_stale_sockets(&settings.prefix) {
        eprintln!("{} [warn] removed stale socket {}", crate::log::Timestamp(super::now()), socket.display());
    }
    warn_of_few_descriptors();
    if settings.foreground {
        return crate::run::run(settings, || {}).map_err(Failure);
    }
    in_background(&settings, arguments)?;
    println!("{} started", name.product());
    Ok(())
}

/// Starts the same program again, away from the terminal, and waits until it serves or tells why it does not.
fn in_background(settings: &Settings, arguments: &Arguments) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(|error| Failure(format!("finding this program: {error}")))?;
    let mut command = Command::new(program);
    command.arg(SERVE).arg("--prefix").arg(&settings.prefix);
    if let Some(conf) = arguments.value("conf") {
        command.arg("--conf").arg(std::path::absolute(conf).unwrap_or_else(|_| conf.into()));
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Failure(format!("starting in the background: {error}")))?;
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
        "the background process ended without a word; see the error log".to_owned()
    } else {
        told.to_owned()
    }))
}

const READY: &str = "ready";

/// The background process: tells the one that started it how it went over its standard output.
pub fn serve(arguments: &Arguments) -> ExitCode {
    let overrides = arguments.value("prefix").map(|prefix| ("prefix", prefix.to_owned()));
    let settings = match conf::read(arguments.value("conf").map(Path::new), overrides.as_slice()) {
        Ok(settings) => settings,
        Err(Complaints(complaints)) => {
            println!("{}", complaints.join("\n"));
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
            ExitCode::FAILURE
        }
    }
}

pub fn stop(name: &Name, arguments: &Arguments) -> Result<(), Failure> {
    let prefix = prefix(name, arguments)?;
    let pid = running(&prefix)?;
    home::signal(pid, Signal::TERM).map_err(|error| Failure(format!("stopping: {error}")))?;
    if !gone(&prefix, Duration::from_secs(10)) {
        let _ = home::signal(pid, Signal::KILL);
    }
    println!("{} stopped", name.product());
    Ok(())
}

pub fn quit(name: &Name, arguments: &Arguments) -> Result<(), Failure> {
    let prefix = prefix(name, arguments)?;
    let pid = running(&prefix)?;
    std::thread::sleep(seconds(arguments, "wait", 0)?);
    home::signal(pid, Signal::QUIT).map_err(|error| Failure(format!("stopping: {error}")))?;
    if gone(&prefix, seconds(arguments, "timeout", 10)?) {
        println!("{} stopped (gracefully)", name.product());
        return Ok(());
    }
    let _ = home::signal(pid, Signal::TERM);
    if !gone(&prefix, Duration::from_secs(10)) {
        let _ = home::signal(pid, Signal::KILL);
    }
    println!("Timeout, {} stopped forcefully", name.product());
    Ok(())
}

pub fn reload(name: &Name, arguments: &Arguments) -> Result<(), Failure> {
    let settings = settings(name, arguments)?;
    let Some(pid) = home::running(&settings.prefix) else {
        return Err(Failure(format!("nginx not running in prefix: {}", settings.prefix.display())));
    };
    home::prepare(&settings)?;
    home::signal(pid, Signal::HUP).map_err(|error| Failure(format!("reloading: {error}")))?;
    println!("{} reloaded", name.product());
    Ok(())
}

pub fn restart(name: &Name, arguments: &Arguments) -> Result<(), Failure> {
    let settings = settings(name, arguments)?;
    if let Some(pid) = home::running(&settings.prefix) {
        let _ = home::signal(pid, Signal::TERM);
        if !gone(&settings.prefix, Duration::from_secs(5)) {
            let _ = home::signal(pid, Signal::KILL);
            gone(&settings.prefix, Duration::from_secs(5));
        }
    }
    start(name, arguments)
}

pub fn health(name: &Name, arguments: &Arguments) -> Result<(), Failure> {
    let prefix = prefix(name, arguments)?;
    if !prefix.is_dir() {
        return Err(Failure(format!("no such prefix: {}", prefix.display())));
    }
    if home::running(&prefix).is_none() {
        return Err(Failure(format!("{} is not running at {}", name.product(), prefix.display())));
    }
    println!("nginx.......running\n\n{} is healthy at {}", name.product(), prefix.display());
    Ok(())
}

fn running(prefix: &Path) -> Result<rustix::process::Pid, Failure> {
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

fn warn_of_few_descriptors() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit < 4096 {
        eprintln!(
            "{} [warn] ulimit is currently set to \"{limit}\". For better performance set it to at least \"4096\" using \"ulimit -n\"",
            crate::log::Timestamp(super::now())
        );
    }
}
