//! A real Redis in a directory of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;

use crate::{eventually, free_port};

/// A running Redis that keeps nothing on disk.
pub struct Redis {
    directory: TempDir,
    port: u16,
    tls_port: Option<u16>,
    settings: String,
    server: Mutex<Option<Child>>,
}

fn program(name: &str) -> PathBuf {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&places).map(|place| place.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: install redis-server (scripts/need redis-server=redis-server)"))
}

impl Redis {
    /// A server that anybody may use.
    pub fn start() -> Self {
        Self::with(None, "")
    }

    /// A server that also speaks TLS with this certificate and key (PEM).
    pub fn with_tls(certificate: &str, key: &str) -> Self {
        Self::with(Some((certificate, key)), "")
    }

    /// A server for this user only.
    pub fn for_user(name: &str, password: &str) -> Self {
        Self::with(None, &format!("user {name} on >{password} ~* +@all\nuser default off nopass ~* +@all\n"))
    }

    fn with(tls: Option<(&str, &str)>, settings: &str) -> Self {
        let directory = TempDir::with_prefix("portcullis-redis-").unwrap();
        let place = directory.path().display();
        let (port, tls_port) = (free_port(), tls.map(|_| free_port()));
        let mut all = format!("bind 127.0.0.1\nport {port}\ndir {place}\nsave \"\"\nappendonly no\n{settings}");
        if let (Some((certificate, key)), Some(tls_port)) = (tls, tls_port) {
            std::fs::write(directory.path().join("certificate.pem"), certificate).unwrap();
            std::fs::write(directory.path().join("key.pem"), key).unwrap();
            let files = format!("tls-cert-file {place}/certificate.pem\ntls-key-file {place}/key.pem\n");
            all.push_str(&format!("tls-port {tls_port}\ntls-auth-clients no\n{files}"));
        }
        let server = Self { directory, port, tls_port, settings: all, server: Mutex::new(None) };
        server.serve();
        server
    }

    /// Starts it, again after [`Redis::kill`]; it then has forgotten everything.
    pub fn serve(&self) {
        let file = self.directory.path().join("redis.conf");
        std::fs::write(&file, &self.settings).unwrap();
        let child = Command::new(program("redis-server"))
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *self.server.lock().unwrap() = Some(child);
        let reachable = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        eventually("Redis listens", || reachable(self.port) && self.tls_port.is_none_or(reachable));
    }

    /// Ends it, as a crash would.
    pub fn kill(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Where it speaks in the clear.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it speaks TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("started with TLS")
    }

    /// What it answers to a command, a line for each value.
    pub fn ask(&self, command: &[&str]) -> Vec<String> {
        let output = Command::new(program("redis-cli")).args(["-p", &self.port.to_string()]).args(command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
