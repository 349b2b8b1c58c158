//! What a user finds in the log files.

use portcullis_tests::{Gateway, Upstream, eventually};

/// The lines of a file in the gateway's folder, as far as they are written.
fn lines(gateway: &Gateway, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(gateway.prefix().join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_request_is_a_line_of_the_access_log() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("proxy_access_log", "logs/access.log").set("admin_access_log", "logs/admin.log").start();
    gateway.lead_to(&upstream);
    let answer = gateway.ask("GET /a?b=%22 HTTP/1.1\r\nHost: x\r\nUser-Agent: \"me\"\r\nAuthorization: Basic YW5uYTpzZWNyZXQ=\r\n\r\n");
    let id = answer.header("x-kong-request-id").unwrap().to_owned();
    gateway.ask("BAD\r\n\r\n");
    eventually("both lines are written", || lines(&gateway, "logs/access.log").len() == 2);
    let mut written = lines(&gateway, "logs/access.log");
    // Two workers wrote them: within a few milliseconds their lines have no order.
    written.sort_by_key(|line| line.contains("\" 400 "));
    assert!(written[0].starts_with("127.0.0.1 - anna ["), "{}", written[0]);
    let end = format!(" \"-\" \"\\x22me\\x22\" kong_request_id: \"{id}\"");
    assert!(written[0].contains("] \"GET /a?b=%22 HTTP/1.1\" 200 ") && written[0].ends_with(&end), "{}", written[0]);
    assert!(written[1].contains("\" 400 "), "{}", written[1]);
    eventually("calls of the Admin API are written", || lines(&gateway, "logs/admin.log").len() >= 2);
    assert!(lines(&gateway, "logs/admin.log")[0].contains("\"POST /services HTTP/1.1\" 201 "));
}

#[test]
fn lines_are_json_if_asked_for_and_files_are_opened_anew_on_a_signal() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("proxy_access_log", "access.log json").start();
    gateway.lead_to(&upstream);
    gateway.get("/one");
    eventually("the line is written", || lines(&gateway, "access.log").len() == 1);
    let path = gateway.prefix().join("access.log");
    std::fs::rename(&path, gateway.prefix().join("old.log")).unwrap();
    gateway.signal("USR1");
    eventually("the file is there again", || path.exists());
    gateway.get("/two");
    eventually("the line is written", || lines(&gateway, "access.log").len() == 1);
    let line: serde_json::Value = serde_json::from_str(&lines(&gateway, "access.log")[0]).unwrap();
    assert_eq!((&line["uri"], &line["status"], &line["route"]), (&"/two".into(), &200.into(), &"all".into()));
    assert_eq!(line["upstream_addr"], upstream.url().trim_start_matches("http://"));
}
