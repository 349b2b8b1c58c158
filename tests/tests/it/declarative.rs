//! A node without a database: everything comes from a file.

use portcullis_tests::{Gateway, Upstream, eventually};

fn file(upstream: &Upstream, path: &str) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: up\n  url: {}\n  routes:\n  - name: all\n    strip_path: false\n    paths: [{path}]\n\
         consumers:\n- username: ann\n  keyauth_credentials:\n  - key: one\n",
        upstream.url()
    )
}

#[test]
fn a_file_is_served_and_reloaded_and_the_admin_api_only_reads() {
    let upstream = Upstream::start();
    let build = Gateway::build();
    let path = build.prefix().join("kong.yml");
    std::fs::write(&path, file(&upstream, "/a")).unwrap();
    let gateway = build.set("database", "off").set("declarative_config", path.display().to_string()).start();
    assert_eq!((gateway.get("/a").status, gateway.get("/b").status), (200, 404));
    let admin = gateway.admin();
    assert_eq!(admin.get("/services/up")["name"], "up");
    assert_eq!(admin.get("/consumers/ann/key-auth")["data"][0]["key"], "one");
    let body = Some(r#"{"name": "other", "host": "a.test"}"#);
    for (method, path) in [("POST", "/services"), ("PATCH", "/services/up"), ("DELETE", "/services/up")] {
        let reply = admin.send(method, path, body.filter(|_| method != "DELETE"));
        assert_eq!(reply.status, 405, "{method} {path}: {}", reply.body);
    }

    std::fs::write(&path, file(&upstream, "/b")).unwrap();
    gateway.signal("HUP");
    eventually("the file is read again", || gateway.get("/b").status == 200);
    assert_eq!(gateway.get("/a").status, 404);

    // What is wrong is not taken, and what was there serves on.
    std::fs::write(&path, "_format_version: \"3.0\"\nservices:\n- name: up\n  url: nonsense\n").unwrap();
    gateway.signal("HUP");
    eventually("the reload is refused", || gateway.output().contains("not reloaded"));
    assert_eq!(gateway.get("/b").status, 200);
}

#[test]
fn a_wrong_file_keeps_the_node_from_starting() {
    let build = Gateway::build();
    let path = build.prefix().join("kong.yml");
    std::fs::write(&path, "_format_version: \"3.0\"\nroutes:\n- name: r\n  paths: [no-slash]\n").unwrap();
    let outcome = build.set("database", "off").set("declarative_config", path.display().to_string()).run(&["start"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.output);
    assert!(outcome.output.contains("paths"), "{}", outcome.output);
}
