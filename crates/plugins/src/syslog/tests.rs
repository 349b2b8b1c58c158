//! What a syslog daemon gets.
#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixDatagram;

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

#[test]
fn facilities_have_the_numbers_of_the_protocol() {
    let numbers = ["kern", "user", "syslog", "authpriv", "ftp", "local0", "local7"].map(facility);
    assert_eq!(numbers, [0, 1, 5, 10, 11, 16, 23]);
}
