//! A real Postgres in a directory of its own, for the suites that need one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::{eventually, free_port};

/// A running server: trusts everybody on 127.0.0.1 and on its Unix socket, and knows the user `kong`.
///
/// A small shell keeps watch: when this process is gone, however it went, it ends the server and removes its files.
pub struct Postgres {
    directory: PathBuf,
    port: u16,
    server: std::sync::Mutex<Option<Child>>,
    keeper: Child,
}

/// Where Debian puts the programs, newest first, or where they are found.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, path)| path.join("initdb").is_file())
        .collect();
    found.sort();
    if let Some((_, path)) = found.pop() {
        return path;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|path| path.join("initdb").is_file());
    found.unwrap_or_else(|| panic!("Postgres is missing: install postgresql (scripts/need initdb=postgresql)"))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// The program as a user who is not root: Postgres refuses to be.
fn as_somebody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user(), "--regid", group(), "--clear-groups"]).arg(program);
    command
}

fn user() -> &'static str {
    static USER: OnceLock<bool> = OnceLock::new();
    let known = USER.get_or_init(|| Command::new("id").arg("postgres").output().is_ok_and(|output| output.status.success()));
    if *known { "postgres" } else { "nobody" }
}

fn group() -> &'static str {
    if user() == "postgres" { "postgres" } else { "nogroup" }
}

impl Postgres {
    /// Starts a server of its own.
    pub fn start() -> Self {
        let directory = TempDir::with_prefix("portcullis-postgres-").unwrap().keep();
        if is_root() {
            let owned = Command::new("chown").arg(user()).arg(&directory).status().unwrap();
            assert!(owned.success());
        }
        let keeper = Command::new("/bin/sh")
            .arg("-c")
            .arg(
                "read forever; pid=$(head -n 1 \"$0/data/postmaster.pid\" 2>/dev/null) && kill -QUIT \"$pid\" 2>/dev/null; \
                 while [ -n \"$pid\" ] && kill -0 \"$pid\" 2>/dev/null; do sleep 0.02; done; rm -rf \"$0\"",
            )
            .arg(&directory)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let output = as_somebody(&programs().join("initdb"))
            .args(["--username=kong", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
            .arg(directory.join("data"))
            .current_dir("/")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let server = Self { directory, port: free_port(), server: std::sync::Mutex::new(None), keeper };
        server.serve();
        server
    }

    /// One server for all tests of this process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts the server on its files, after [`Postgres::kill`].
    pub fn serve(&self) {
        let child = as_somebody(&programs().join("postgres"))
            .arg("-D")
            .arg(self.directory.join("data"))
            .arg("-k")
            .arg(&self.directory)
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300"])
            // Nothing here outlives a power cut, but what was committed does outlive the server.
            .args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=64MB"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::options().create(true).append(true).open(self.directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        *self.server.lock().unwrap() = Some(child);
        eventually("Postgres answers", || self.try_run("postgres", "SELECT 1").is_some());
    }

    /// Ends the server as a crash would, all its processes at once. Its files stay.
    pub fn kill(&self) {
        let mut child = self.server.lock().unwrap().take().expect("the server runs");
        let pid = child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        child.kill().unwrap();
        for process in children.split_whitespace() {
            // One that has ended on its own is fine.
            let _ = Command::new("/bin/kill").args(["-KILL", process]).stderr(Stdio::null()).status();
        }
        child.wait().unwrap();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its Unix socket.
    pub fn socket(&self) -> &Path {
        &self.directory
    }

    /// Makes an empty database, and answers its name.
    pub fn database(&self) -> String {
        self.database_like("template1")
    }

    /// Makes a copy of a database once nobody uses it any more, and answers its name.
    pub fn database_like(&self, template: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // The sessions of whoever made it end a moment after their clients.
        let copy = format!("CREATE DATABASE {name} TEMPLATE {template}");
        eventually("the database is copied", || self.try_run("postgres", &copy).is_some());
        name
    }

    /// Runs statements and answers what they print: rows a line, values between bars.
    pub fn run(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn try_run(&self, database: &str, sql: &str) -> Option<String> {
        let output = self.psql(database, sql);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn psql(&self, database: &str, sql: &str) -> std::process::Output {
        Command::new(programs().join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "kong", "-d", database, "-p", &self.port.to_string(), "-h"])
            .arg(&self.directory)
            .arg("-c")
            .arg(sql)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.lock().is_ok_and(|server| server.is_some()) {
            self.kill();
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
