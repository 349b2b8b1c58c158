//! The gateway: the real program with a folder and ports of its own.

use crate::{Admin, Connection, PATIENCE, get, program};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Settings by their names in `kong.conf`, on top of what the fixture sets.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// A running gateway; dropping it stops it.
pub struct Gateway {
    process: Child,
    prefix: tempfile::TempDir,
    /// Where clients connect.
    pub proxy: SocketAddr,
    /// Where clients connect with TLS, HTTP/2 offered.
    pub proxy_tls: SocketAddr,
    pub admin_address: SocketAddr,
    pub status_address: SocketAddr,
}

impl Gateway {
    /// Starts a gateway with an empty embedded database and waits until it serves.
    pub fn start() -> Gateway {
        Self::with(&[])
    }

    /// Starts a gateway with further settings.
    pub fn with(settings: Settings<'_>) -> Gateway {
        // Free ports may be taken by somebody else between our finding them and the program's listening: then try others.
        for _ in 0..3 {
            match Self::try_start(settings) {
                Ok(gateway) => return gateway,
                Err(output) if output.contains("in use") => {}
                Err(output) => panic!("the gateway did not start:\n{output}"),
            }
        }
        panic!("the gateway found no free ports");
    }

    fn try_start(settings: Settings<'_>) -> Result<Gateway, String> {
        let prefix = tempfile::tempdir().unwrap();
        let [proxy, proxy_tls, admin, status] = free_addresses();
        let output = prefix.path().join("output");
        let log = File::create(&output).unwrap();
        let mut command = program::command();
        command
            .arg("start")
            .env("KONG_PREFIX", prefix.path())
            .env("KONG_NGINX_MAIN_DAEMON", "off")
            .env("KONG_NGINX_MAIN_WORKER_PROCESSES", "2")
            .env("KONG_PROXY_LISTEN", format!("{proxy} reuseport, {proxy_tls} ssl http2 reuseport"))
            .env("KONG_ADMIN_LISTEN", admin.to_string())
            .env("KONG_STATUS_LISTEN", status.to_string())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        for (name, value) in settings {
            command.env(format!("KONG_{}", name.to_uppercase()), value);
        }
        let process = command.spawn().unwrap();
        let mut gateway = Gateway { process, prefix, proxy, proxy_tls, admin_address: admin, status_address: status };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if gateway.process.try_wait().unwrap().is_some() {
                return Err(std::fs::read_to_string(&output).unwrap());
            }
            if TcpStream::connect(proxy).is_ok() && TcpStream::connect(status).is_ok() && get(status, "/status").status == 200 {
                return Ok(gateway);
            }
            if Instant::now() > deadline {
                return Err(format!("not ready in {PATIENCE:?}: {}", std::fs::read_to_string(&output).unwrap()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn admin(&self) -> Admin {
        Admin::new(self.admin_address)
    }

    /// A new connection of a client.
    pub fn connect(&self) -> Connection {
        Connection::open(self.proxy)
    }

    /// A service and a route for it: everything under `/NAME` goes to the upstream, with the name cut off.
    pub fn route(&self, name: &str, upstream: SocketAddr) {
        let admin = self.admin();
        admin.post("/services", &serde_json::json!({"name": name, "url": format!("http://{upstream}")})).expect(201);
        admin.post(&format!("/services/{name}/routes"), &serde_json::json!({"name": name, "paths": [format!("/{name}")]})).expect(201);
    }

    pub fn prefix(&self) -> &Path {
        self.prefix.path()
    }

    /// Everything the program printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.prefix.path().join("output")).unwrap()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal: `libc::SIGHUP` and the like.
    pub fn signal(&self, signal: i32) {
        send_signal(self.process.id(), signal);
    }

    /// Waits until the program has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not end: {}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the gateway printed:\n{}", self.output());
        }
    }
}

/// Signals by way of the `kill` program: the call itself is `unsafe`, which this workspace forbids.
fn send_signal(process: u32, signal: i32) {
    let status = std::process::Command::new("bash").args(["-c", &format!("kill -{signal} {process}")]).status().unwrap();
    assert!(status.success(), "kill -{signal} {process}");
}

/// Addresses that were free a moment ago, all different.
pub(crate) fn free_addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let held = [(); COUNT].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}
