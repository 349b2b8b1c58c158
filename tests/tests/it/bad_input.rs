//! Bad input anywhere gives a clear error and changes nothing.

use portcullis_tests::{Gateway, Upstream, get, run};
use serde_json::json;

#[test]
fn a_bad_configuration_file_is_refused_with_every_complaint() {
    let folder = std::env::temp_dir().join(format!("portcullis-conf-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("bad.conf");
    std::fs::write(&file, "log_level = loud\ndatabase = mysql\nproxy_listen = nowhere\nmystery = 1\n").unwrap();
    let file = file.to_str().unwrap();
    for command in [&["check", file][..], &["start", "-c", file, "-p", folder.to_str().unwrap()]] {
        let output = run(command, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(
            said.contains("log_level has an invalid value: 'loud'") && said.contains("database has an invalid value: 'mysql'"),
            "{said}"
        );
    }
    assert!(!folder.join("pids/nginx.pid").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_bad_reload_leaves_everything_as_it_was() {
    let upstream = Upstream::start();
    let gateway = Gateway::start();
    gateway.route("a", upstream.address);
    let prefix = gateway.prefix().to_str().unwrap();
    let bad = gateway.prefix().join("bad.conf");
    std::fs::write(&bad, "log_level = loud\n").unwrap();
    let output = run(&["reload", "-c", bad.to_str().unwrap(), "-p", prefix], &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(get(gateway.proxy, "/a").status, 200);
}

#[test]
fn a_bad_call_of_the_admin_api_says_why_and_changes_nothing() {
    let gateway = Gateway::start();
    let admin = gateway.admin();
    let service = admin.post("/services", &json!({"name": "kept", "url": "http://127.0.0.1:1"})).expect(201);
    let calls: [(&str, &str, &str, &[u8], u16); 9] = [
        ("POST", "/services", "application/json", br#"{"name": "x""#, 400),
        ("POST", "/services", "application/json", br#"{"name": "x"}"#, 400),
        ("POST", "/services", "application/json", br#"{"name": "x y", "host": "h", "port": 70000}"#, 400),
        ("POST", "/services", "application/json", br#"{"name": "kept", "host": "h"}"#, 409),
        ("POST", "/services", "text/plain", b"name=x", 415),
        ("PATCH", "/services/kept", "application/json", br#"{"retries": -1, "mystery": true}"#, 400),
        ("POST", "/routes", "application/json", br#"{"paths": ["~/("]}"#, 400),
        ("POST", "/plugins", "application/json", br#"{"name": "no-such-plugin"}"#, 400),
        ("POST", "/plugins", "application/json", br#"{"name": "rate-limiting", "config": {"minute": "many"}}"#, 400),
    ];
    for (method, path, content_type, body, status) in calls {
        let answer = admin.raw(method, path, content_type, body);
        let call = format!("{method} {path} {}", String::from_utf8_lossy(body));
        assert_eq!(answer.status, status, "{call}: {}", answer.text());
        // A body that can't be read is answered with a page, as in Kong, everything else with a message.
        assert!(status == 415 || answer.json()["message"].is_string(), "{call}: {}", answer.text());
    }
    assert_eq!(admin.get("/services").expect(200)["data"], json!([service]));
    assert_eq!(admin.get("/routes").expect(200)["data"], json!([]));
    assert_eq!(admin.get("/plugins").expect(200)["data"], json!([]));
}

#[test]
fn a_bad_declarative_configuration_keeps_the_old_one() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(&[("database", "off")]);
    let good = format!("_format_version: \"3.0\"\nservices:\n- name: a\n  url: http://{}\n  routes:\n  - paths: [/a]\n", upstream.address);
    let load = |text: &str| gateway.admin().post("/config", &json!({"config": text}));
    load(&good).expect(201);
    assert_eq!(get(gateway.proxy, "/a").status, 200);
    for bad in [
        "- not\n- a table\n",
        "_format_version: \"3.0\"\nservices:\n- name: b\n  port: 70000\n",
        "_format_version: \"3.0\"\nmystery: []\n",
        ": : :",
    ] {
        let answer = load(bad);
        assert_eq!(answer.status, 400, "{bad}: {}", answer.body);
        assert!(answer.body["message"].is_string(), "{}", answer.body);
    }
    assert_eq!(get(gateway.proxy, "/a").status, 200);
    assert_eq!(gateway.admin().get("/services").expect(200)["data"].as_array().unwrap().len(), 1);
}
