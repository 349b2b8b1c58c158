//! The working directory and the process that runs in it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use uuid::Uuid;

use crate::conf::{Settings, stored};
use crate::log::NOTICE;

/// Makes the directories a node works in and writes down what it runs with (`.kong_env`, for `reload` and `stop`).
///
/// Errors with one line naming the path.
pub fn prepare(settings: &Settings) -> Result<(), String> {
    let prefix = &settings.prefix;
    for directory in ["", "logs", "pids", "sockets", "ssl"] {
        let path = prefix.join(directory);
        fs::create_dir_all(&path).map_err(|error| format!("prefix directory {}: {error}", path.display()))?;
    }
    write(&env_file(prefix), stored::write(&settings.loaded.given).as_bytes(), 0o640)
}

/// The file a node's settings are kept in.
pub fn env_file(prefix: &Path) -> PathBuf {
    prefix.join(".kong_env")
}

/// Replaces a file so that a reader sees the old or the whole new one.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

/// The node's id: the configured one, or the one kept in the prefix, made when there is none.
pub fn node_id(settings: &Settings) -> Uuid {
    if let Some(id) = settings.node_id {
        return id;
    }
    let path = settings.prefix.join("kong.id");
    if let Some(id) = fs::read_to_string(&path).ok().and_then(|text| Uuid::try_parse(text.trim()).ok()) {
        return id;
    }
    let id = Uuid::new_v4();
    if let Err(problem) = write(&path, id.to_string().as_bytes(), 0o640) {
        tracing::warn!(problem, "node id not kept: the next start makes another");
    }
    id
}

/// Keeps the token of request debugging where the operator finds it.
pub fn keep_request_debug_token(settings: &Settings) {
    let Some(token) = &settings.proxy.request_debug else { return };
    tracing::info!(target: NOTICE, "[request-debug] token for request debugging: {token}");
    if let Err(problem) = write(&settings.prefix.join(".request_debug_token"), token.as_bytes(), 0o640) {
        tracing::warn!(problem, "the token of request debugging is only in the log");
    }
}

/// The pid file of a prefix.
pub fn pid_file(prefix: &Path) -> PathBuf {
    prefix.join("pids/nginx.pid")
}

pub fn write_pid(prefix: &Path) -> Result<(), String> {
    write(&pid_file(prefix), format!("{}\n", std::process::id()).as_bytes(), 0o644)
}

pub fn remove_pid(prefix: &Path) {
    let _ = fs::remove_file(pid_file(prefix));
}

/// The process that runs in a prefix, if one does.
pub fn running(prefix: &Path) -> Option<Pid> {
    let pid = fs::read_to_string(pid_file(prefix)).ok()?.trim().parse().ok().and_then(Pid::from_raw)?;
    // A zombie still takes signals; it serves nobody.
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok();
    let zombie = state.is_some_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')));
    (!zombie && test_kill_process(pid).is_ok()).then_some(pid)
}

pub fn signal(pid: Pid, signal: Signal) -> io::Result<()> {
    kill_process(pid, signal).map_err(io::Error::from)
}

/// Removes sockets an earlier process left; answers their paths.
pub fn remove_stale_sockets(prefix: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(prefix.join("sockets")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| fs::remove_file(path).is_ok()).collect()
}
