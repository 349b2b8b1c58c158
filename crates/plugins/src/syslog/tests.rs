//! What a syslog daemon gets.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_plugin::testing::{TestRequest, configured, env, exchange};
use portcullis_plugin::{Entry, Handler, ResponseHead};
use serde_json::{Value, json};

use super::{Syslog, facility};

fn log(plugin: &Syslog, target: &str, status: u16) {
    plugin.log(&exchange(&TestRequest::get(target).build(), &ResponseHead::new(status)));
}

fn received(daemon: &UnixDatagram) -> (String, Value) {
    let mut bytes = [0; 65_536];
    let length = daemon.recv(&mut bytes).unwrap();
    let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
    let (head, record) = text.split_once(": ").unwrap();
    (head.to_owned(), serde_json::from_str(record).unwrap())
}

#[test]
fn messages_name_their_severity_and_mild_ones_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let settings =
        json!({ "facility": "local3", "log_level": "notice", "client_errors_severity": "warning", "server_errors_severity": "crit" });
    let config = serde_json::from_value(configured(&Entry::of::<Syslog>(), settings).unwrap()).unwrap();
    let env = env();
    let plugin = Syslog::at(&path, &config, &env).unwrap();
    log(&plugin, "/mild", 200);
    log(&plugin, "/absent", 404);
    log(&plugin, "/broken", 500);
    let process = std::process::id();
    // 19 * 8 + 4 and + 2
    for (priority, target) in [(156, "/absent"), (154, "/broken")] {
        let (head, record) = received(&daemon);
        assert_eq!((head, &record["request"]["uri"]), (format!("<{priority}>kong[{process}]"), &json!(target)));
    }
    drop(daemon);
    std::fs::remove_file(&path).unwrap();
    let daemon = UnixDatagram::bind(&path).unwrap();
    log(&plugin, "/again", 500);
    assert_eq!(received(&daemon).1["request"]["uri"], "/again");
}

/// A real rsyslogd, which writes down what it took each message for.
struct Rsyslogd {
    directory: tempfile::TempDir,
    server: Child,
}

/// `DIR` is the server's directory.
const SETTINGS: &str = r#"
global(workDirectory="DIR" maxMessageSize="64k")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="DIR/log" CreatePath="off" RateLimit.Interval="0")
template(name="parts" type="list") {
  property(name="syslogfacility-text") constant(value=" ") property(name="syslogseverity-text") constant(value=" ")
  property(name="programname") constant(value=" ") property(name="procid") constant(value=" ") property(name="msg") constant(value="\n")
}
action(type="omfile" file="DIR/messages" template="parts")
"#;

impl Rsyslogd {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let settings = path.join("rsyslog.conf");
        std::fs::write(&settings, SETTINGS.replace("DIR", path.to_str().unwrap())).unwrap();
        let places = [PathBuf::from("/usr/sbin/rsyslogd"), PathBuf::from("/usr/bin/rsyslogd")];
        let program = places.into_iter().find(|path| path.is_file());
        let program = program.unwrap_or_else(|| panic!("rsyslogd is missing: install rsyslog (scripts/need rsyslogd=rsyslog)"));
        let mut command = Command::new(program);
        command.args(["-n", "-f"]).arg(settings).arg("-i").arg(path.join("pid")).stdin(Stdio::null());
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Self { directory, server };
        eventually("rsyslogd listens", || started.socket().exists());
        started
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.path().join("messages")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn rsyslog_takes_messages_for_what_they_are() {
    let server = Rsyslogd::start();
    let settings = json!({ "facility": "local3", "successful_severity": "notice", "client_errors_severity": "warning", "server_errors_severity": "crit" });
    let config = serde_json::from_value(configured(&Entry::of::<Syslog>(), settings).unwrap()).unwrap();
    let plugin = Syslog::at(&server.socket(), &config, &env()).unwrap();
    for (target, status) in [("/fine", 200), ("/absent?a=%22%C3%A9", 404), ("/broken", 503)] {
        log(&plugin, target, status);
    }
    eventually("all three are written", || server.lines().len() == 3);
    let process = std::process::id();
    for (line, (severity, target)) in
        server.lines().iter().zip([("notice", "/fine"), ("warning", "/absent?a=%22%C3%A9"), ("crit", "/broken")])
    {
        let record = line.strip_prefix(&format!("local3 {severity} kong {process} ")).unwrap_or_else(|| panic!("{line}"));
        let record: Value = serde_json::from_str(record).unwrap();
        assert_eq!((&record["request"]["uri"], &record["client_ip"]), (&json!(target), &json!("127.0.0.1")));
    }
}

#[test]
fn facilities_have_the_numbers_of_the_protocol() {
    let numbers = ["kern", "user", "syslog", "authpriv", "ftp", "local0", "local7"].map(facility);
    assert_eq!(numbers, [0, 1, 5, 10, 11, 16, 23]);
}
