//! A working directory, and the program called in it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub struct Gate {
    directory: TempDir,
    program: PathBuf,
    environment: Vec<(String, String)>,
    pub proxy: u16,
    pub admin: u16,
    pub status: u16,
}

impl Gate {
    /// Called by our own name.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [proxy, admin, status] = free_ports();
        let gate = Self { directory, program: env!("CARGO_BIN_EXE_portcullis").into(), environment: Vec::new(), proxy, admin, status };
        std::fs::create_dir(gate.prefix()).unwrap();
        gate.write("gate.conf", &gate.configuration());
        gate
    }

    /// Called as `kong`.
    pub fn as_kong() -> Self {
        let mut gate = Self::new();
        let link = gate.path("kong");
        std::os::unix::fs::symlink(&gate.program, &link).unwrap();
        gate.program = link;
        gate
    }

    /// A configuration whose listeners are on free ports.
    pub fn configuration(&self) -> String {
        let (proxy, admin, status) = (self.proxy, self.admin, self.status);
        format!(
            "prefix = {}\nproxy_listen = 127.0.0.1:{proxy}\nadmin_listen = 127.0.0.1:{admin}\nadmin_gui_listen = off\n\
             status_listen = 127.0.0.1:{status}\nnginx_main_worker_processes = 1\n",
            self.prefix().display()
        )
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn prefix(&self) -> PathBuf {
        self.path("prefix")
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(line.split_whitespace()).current_dir(self.directory.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars() {
            if name.starts_with("KONG_") || name.starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, line: &str) -> Said {
        let output = self.command(line).output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A command that stays.
    pub fn spawn(&self, line: &str) -> std::process::Child {
        self.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Expects these words and code of a command; `PREFIX` stands for the prefix and `DATE` for the time.
    #[track_caller]
    pub fn expect(&self, line: &str, code: i32, out: &str, err: &str) {
        let said = self.run(line);
        let prefix = self.prefix().display().to_string();
        let clean = |text: &str| text.replace(&prefix, "PREFIX").lines().map(undated).collect::<String>();
        assert_eq!((said.code, clean(&said.out).as_str(), clean(&said.err).as_str()), (code, out, err), "{line}");
    }

    #[track_caller]
    pub fn fails(&self, line: &str, problem: &str) {
        self.expect(line, 1, "", &format!("Error: {problem}\n\n  Run with --v (verbose) or --vv (debug) for more details\n"));
    }

    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.prefix().join("pids/nginx.pid")).ok()?.trim().parse().ok()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if self.pid().is_some() {
            let _ = self.run(&format!("stop -p {}", self.prefix().display()));
        }
    }
}

/// The lines of the log that name a level begin with the time.
fn undated(line: &str) -> String {
    let dated = line.as_bytes().get(4) == Some(&b'/') && line.as_bytes().get(7) == Some(&b'/');
    if dated { format!("DATE{}\n", &line[19..]) } else { format!("{line}\n") }
}

/// Ports that nobody listens on now.
fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    std::array::from_fn(|index| held[index].local_addr().unwrap().port())
}

/// Asks on a connection of its own; the answer's status and body.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the file's permission bits are these.
pub fn has_mode(path: &Path, mode: u32) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777 == mode
}
