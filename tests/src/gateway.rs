//! The real program, in a directory of its own, on free ports.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tempfile::TempDir;

use crate::{Admin, Answer, Client, Upstream, eventually};

/// A port nobody listens on, below the range the kernel takes for outgoing connections; given out once.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Test programs that run at the same time begin at different places.
        let port = FIRST + (std::process::id().wrapping_mul(997) + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port as u16)).is_ok() {
            return port as u16;
        }
    }
}

/// The program, which cargo builds beside the test's own directory (`target/<profile>/deps`).
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("portcullis");
    assert!(program.is_file(), "{} is missing: cargo build --workspace --bins", program.display());
    program
}

/// A gateway still to be started.
pub struct Builder {
    settings: Vec<(String, String)>,
    prefix: TempDir,
    ports: [u16; 4],
}

impl Default for Builder {
    fn default() -> Self {
        Self { settings: Vec::new(), prefix: TempDir::new().unwrap(), ports: std::array::from_fn(|_| free_port()) }
    }
}

/// How a command of the program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed, standard error after standard output.
    pub output: String,
}

impl Builder {
    /// Sets a configuration key, through the environment.
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// The directory it will run in.
    pub fn prefix(&self) -> &Path {
        self.prefix.path()
    }

    /// Where the proxy's plain listener will be.
    pub fn proxy(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[0]))
    }

    /// Where the proxy's TLS listener will be.
    pub fn proxy_tls(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[1]))
    }

    /// HTTP/3 beside TLS.
    pub fn with_quic(self) -> Self {
        let listens = format!("{}, {} http2 ssl quic", self.proxy(), self.proxy_tls());
        self.set("proxy_listen", listens)
    }

    /// The environment's settings: defaults first, the test's own after them.
    fn environment(&self) -> Vec<(String, String)> {
        let [proxy, tls, admin, status] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let defaults = [
            ("nginx_main_daemon", "off".to_owned()),
            ("nginx_main_worker_processes", "2".to_owned()),
            ("proxy_listen", format!("{proxy}, {tls} http2 ssl")),
            ("admin_listen", admin),
            ("status_listen", status),
            ("proxy_access_log", "off".to_owned()),
            ("admin_access_log", "off".to_owned()),
            ("log_level", "info".to_owned()),
        ];
        let all = defaults.map(|(key, value)| (key.to_owned(), value)).into_iter().chain(self.settings.iter().cloned());
        all.map(|(key, value)| (format!("PORTCULLIS_{}", key.to_uppercase()), value)).collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).arg("-p").arg(self.prefix());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KONG_") || name.starts_with("PORTCULLIS_")) {
            command.env_remove(name);
        }
        command.envs(self.environment()).stdin(Stdio::null());
        command
    }

    /// Runs a command of the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let output = self.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Outcome { code: output.status.code(), output: String::from_utf8_lossy(&text).into_owned() }
    }

    /// Starts it in the foreground and waits until it serves.
    pub fn start(self) -> Gateway {
        let child = Some(self.spawn());
        let mut gateway = Gateway { child, build: self };
        gateway.wait_until_it_serves();
        gateway
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.prefix().join("output")).unwrap();
        self.command(&["start"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }
}

/// A running gateway. On drop it is ended, and its output printed if the test failed.
pub struct Gateway {
    child: Option<Child>,
    build: Builder,
}

impl Gateway {
    /// A gateway with the usual settings.
    pub fn start() -> Self {
        Self::build().start()
    }

    /// A gateway with settings of its own.
    pub fn build() -> Builder {
        Builder::default()
    }

    /// A gateway whose only route leads everything to `upstream`, the path unchanged.
    pub fn before(upstream: &Upstream) -> Self {
        let gateway = Self::start();
        gateway.lead_to(upstream);
        gateway
    }

    /// Makes the service `up` and the route `all`, which leads everything to `upstream`.
    pub fn lead_to(&self, upstream: &Upstream) {
        self.admin().post("/services", json!({"name": "up", "url": upstream.url()}));
        self.admin().post("/services/up/routes", json!({"name": "all", "paths": ["/"], "strip_path": false}));
    }

    fn wait_until_it_serves(&mut self) {
        let (proxy, status) = (self.proxy(), self.status());
        eventually("the gateway serves", || {
            if let Some(ended) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("the gateway ended at once: {ended}");
            }
            TcpStream::connect(status).is_ok() && TcpStream::connect(proxy).is_ok()
        });
    }

    fn address(&self, which: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.build.ports[which]))
    }

    /// The directory it runs in.
    pub fn prefix(&self) -> &Path {
        self.build.prefix()
    }

    /// The proxy's plain listener.
    pub fn proxy(&self) -> SocketAddr {
        self.address(0)
    }

    /// The proxy's TLS listener.
    pub fn proxy_tls(&self) -> SocketAddr {
        self.address(1)
    }

    /// The Status API.
    pub fn status(&self) -> SocketAddr {
        self.address(3)
    }

    /// A client of the Admin API.
    pub fn admin(&self) -> Admin {
        Admin::at(self.address(2))
    }

    /// A connection to the proxy.
    pub fn client(&self) -> Client {
        Client::connect(self.proxy())
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str) -> Answer {
        self.client().get(target)
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.client();
        client.send(request);
        client.answer()
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the gateway runs").id()
    }

    /// Memory the process holds now, in KiB.
    pub fn resident_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sends it a signal by its short name, `TERM` for example.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("/bin/sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the gateway runs");
        let mut ended = None;
        eventually("the gateway ends", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        ended.expect("it ended")
    }

    /// Starts it once more in the same directory, on the same ports, after [`Gateway::wait`].
    pub fn start_again(&mut self) {
        self.child = Some(self.build.spawn());
        self.wait_until_it_serves();
    }

    /// Runs another command of the program in the gateway's directory.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.build.run(arguments)
    }

    /// The copies of its configuration that it keeps, newest first.
    pub fn copies(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.build.prefix().join("last-good")).into_iter().flatten().flatten();
        let mut found: Vec<_> =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "copy")).collect();
        found.sort();
        found.reverse();
        found
    }

    /// The newest of them, empty when there is none.
    pub fn copy_text(&self) -> String {
        self.copies().first().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// The hash of the configuration in the newest copy.
    pub fn copy_hash(&self) -> Option<String> {
        self.copy_text().lines().next_back()?.split(' ').nth(4).map(str::to_owned)
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.build.prefix().join("output")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- the gateway's output\n{}---", self.output());
        }
    }
}
