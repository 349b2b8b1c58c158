//! Whole configurations on their way: into a database, out of it, from one to another, and back to what was.

use portcullis_tests::{Builder, Gateway, Postgres, Upstream, eventually};
use serde_json::json;

use crate::postgres_start::{at, bootstrapped};

const DOCUMENT: &str = "
_format_version: \"3.0\"
services:
- name: up
  url: http://127.0.0.1:1
  tags: [a, b]
  routes:
  - name: all
    paths: [/a]
    headers: {x-tenant: [one, two]}
  plugins:
  - name: request-termination
    config: {status_code: 418}
consumers:
- username: ann
  keyauth_credentials:
  - key: \"12:34\"
  basicauth_credentials:
  - username: ann
    password: secret
  acls:
  - group: staff
upstreams:
- name: pool
  targets:
  - target: 127.0.0.1:9
    weight: 7
";

fn done(build: &Builder, arguments: &[&str]) -> String {
    let outcome = build.run(arguments);
    assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.output);
    outcome.output
}

fn write(build: &Builder, name: &str, text: &str) -> String {
    let path = build.prefix().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What a database holds, without the times of the last change.
fn exported(build: &Builder, name: &str) -> (String, String) {
    let path = build.prefix().join(name).to_str().unwrap().to_owned();
    assert_eq!(done(build, &["config", "db_export", &path]), "");
    let text = std::fs::read_to_string(&path).unwrap();
    let lasting: Vec<&str> = text.lines().filter(|line| !line.contains("updated_at:")).collect();
    (path, lasting.join("\n"))
}

#[test]
fn an_export_imported_anywhere_exports_the_same() {
    let server = Postgres::shared();
    let first = Gateway::build();
    let second = at(server, &bootstrapped(server));
    let third = at(server, &bootstrapped(server));
    let fourth = Gateway::build();
    let document = write(&first, "in.yml", DOCUMENT);
    assert_eq!(done(&first, &["config", "parse", &document]), "parse successful\n");
    let said = "parse successful, beginning import\nimport successful\n";
    assert_eq!(done(&first, &["config", "db_import", &document]), said);
    let (mut path, expected) = exported(&first, "out.yml");
    assert!(expected.starts_with("_format_version: '3.0'\n_transform: false\nconsumers:\n"), "{expected}");
    assert!(expected.contains("\nparameters:\n- created_at: ~\n  key: cluster_id\n"), "{expected}");
    assert!(expected.contains("  service: ") && expected.contains("  client_certificate: ~\n"), "{expected}");
    for next in [&second, &third, &fourth] {
        assert_eq!(done(next, &["config", "db_import", &path]), said);
        let (out, text) = exported(next, "out.yml");
        assert_eq!(text, expected);
        path = out;
    }
    let again = second.run(&["config", "db_export", second.prefix().join("out.yml").to_str().unwrap()]);
    assert_eq!(again.code, Some(1));
    assert!(again.output.contains("out.yml already exists. Will not overwrite it.\n"), "{}", again.output);
    let wrong = write(&second, "bad.yml", "_format_version: \"3.0\"\nservices:\n- name: x\n");
    let refused = second.run(&["config", "db_import", &wrong]);
    assert!(refused.code == Some(1) && refused.output.starts_with("Error: Failed parsing:\nin 'services':\n"), "{}", refused.output);
}

#[test]
fn what_differs_is_shown_and_then_taken_away() {
    let server = Postgres::start();
    let database = bootstrapped(&server);
    let upstream = Upstream::start();
    let node = at(&server, &database).start();
    node.lead_to(&upstream);
    node.admin().post("/consumers", json!({"username": "bob"}));
    let document = format!(
        "_format_version: \"3.0\"\nservices:\n- name: up\n  url: {}\n  routes:\n  - name: all\n    paths: [/]\n    strip_path: false\n\
         consumers:\n- username: ann\n",
        upstream.url()
    );
    let path = std::env::temp_dir().join(format!("portcullis-sync-{}.yml", std::process::id()));
    std::fs::write(&path, document).unwrap();
    let file = path.to_str().unwrap();
    let shown = node.run(&["config", "diff", file]);
    assert_eq!(shown.code, Some(2), "{}", shown.output);
    assert!(shown.output.ends_with("1 to create, 0 to change, 1 to delete\n"), "{}", shown.output);
    assert!(node.run(&["config", "sync", file]).output.ends_with("1 created, 0 changed, 1 deleted\n"));
    assert_eq!(node.run(&["config", "diff", file]).code, Some(0));
    assert_eq!(node.admin().get("/consumers")["data"][0]["username"], "ann");
    assert_eq!(node.get("/echo").status, 200);

    eventually("a copy has the consumer", || node.copy_text().contains("\"ann\""));
    node.admin().delete("/routes/all");
    eventually("the copy is without the route", || !node.copy_text().contains("\"all\""));
    assert_eq!(node.get("/echo").status, 404);
    let back = node.run(&["config", "rollback"]);
    assert!(back.code == Some(0) && back.output.ends_with("1 created, 0 changed, 0 deleted\n"), "{}", back.output);
    eventually("the route is back", || node.get("/echo").status == 200);
    assert!(node.run(&["config", "rollback", "99"]).output.starts_with("Error: there is no copy 99 steps back: "));
    let _ = std::fs::remove_file(path);
}

/// A document of one service, one consumer with a password, and an upstream with one target.
fn wanted(consumer: &str, target: &str) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: up\n  host: a.test\n  plugins:\n  - name: key-auth\nconsumers:\n- username: {consumer}\n  \
         basicauth_credentials:\n  - username: {consumer}\n    password: secret\nupstreams:\n- name: pool\n  targets:\n  - target: {target}\n"
    )
}

#[test]
fn a_running_node_is_shown_and_brought_to_what_a_file_wants() {
    let node = Gateway::start();
    let api = node.admin();
    api.post("/services", json!({"name": "up", "host": "a.test"}));
    api.post("/consumers", json!({"username": "bob"}));
    api.post("/consumers/bob/basic-auth", json!({"username": "bob", "password": "x"}));
    api.post("/upstreams", json!({"name": "pool"}));
    api.post("/upstreams/pool/targets", json!({"target": "10.0.0.1:80"}));
    let home = Gateway::build();
    let file = write(&home, "in.yml", &wanted("ann", "10.0.0.2:80"));
    let url = format!("http://{}/", api.address());
    let run = |command: &str, file: &str, url: &str| {
        let outcome = home.run(&["config", command, file, "--node", url]);
        (outcome.code.unwrap(), outcome.output)
    };
    let (code, said) = run("diff", &file, &url);
    assert!(code == 2 && said.ends_with("4 to create, 0 to change, 3 to delete\n"), "{said}");
    assert_eq!(api.get("/consumers")["data"][0]["username"], "bob");
    let (code, said) = run("sync", &file, &url);
    assert!(code == 0 && said.contains("delete targets 10.0.0.1:80 (") && said.ends_with("4 created, 0 changed, 3 deleted\n"), "{said}");
    assert_eq!(run("diff", &file, &url), (0, "0 to create, 0 to change, 0 to delete\n".to_owned()));
    assert_eq!(api.get("/upstreams/pool/targets")["data"][0]["target"], "10.0.0.2:80");
    // What the file said is hashed once.
    let hashed = api.get("/basic-auths")["data"][0]["password"].as_str().unwrap().to_owned();
    assert!(hashed.len() == 40 && hashed != "secret", "{hashed}");
    // One row that the node refuses: none is changed.
    let other = Gateway::build().set("plugins", "basic-auth").start();
    let (code, said) = run("sync", &file, &format!("http://{}", other.admin().address()));
    assert!(code == 1 && said.contains("Error: nothing was changed: PUT /plugins/") && said.contains("not enabled"), "{said}");
    assert_eq!(other.admin().get("/consumers")["data"], json!([]));
    // A file that was exported holds hashes: they are not sent to be hashed again.
    let exported = format!("_transform: false\n{}", wanted("dan", "10.0.0.2:80"));
    let (code, said) = run("sync", &write(&home, "hashed.yml", &exported), &url);
    assert!(code == 1 && said.contains("the file has it hashed already"), "{said}");
    assert_eq!(api.get("/consumers")["data"][0]["username"], "ann");
}

#[test]
fn what_is_not_a_node_that_can_be_changed_is_said_in_a_line() {
    let home = Gateway::build();
    let file = write(&home, "in.yml", &wanted("ann", "10.0.0.2:80"));
    let sync = |url: &str| home.run(&["config", "sync", &file, "--node", url]).output;
    assert!(sync("127.0.0.1:8001").starts_with("Error: --node: the address of an Admin API is expected"));
    let nobody = format!("http://127.0.0.1:{}", portcullis_tests::free_port());
    assert!(sync(&nobody).starts_with(&format!("Error: {nobody}/: ")), "{}", sync(&nobody));
    let upstream = Upstream::start();
    let said = sync(&upstream.url());
    assert!(said.contains(" is not the Admin API of a node (GET / answers "), "{said}");
    let without_database = Gateway::build().set("database", "off").start();
    let said = sync(&format!("http://{}", without_database.admin().address()));
    assert!(said.contains("Error: nothing was changed: cannot apply bulk operations when not using a database"), "{said}");

    // An Admin API without /bulk, as a Kong's is.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let kong = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{BufRead, BufReader, Write};
            let Ok(mut stream) = stream else { return };
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut line).unwrap();
            let mut head = line.clone();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            let (status, body) = match line.as_str() {
                "GET / HTTP/1.1\r\n" => ("200 OK", r#"{"version":"3.9.3","plugins":{}}"#),
                line if line.starts_with("GET /services?") => {
                    ("200 OK", r#"{"data":[{"id":"00000000-0000-4000-8000-000000000001","name":"up","host":"a.test"}],"next":null}"#)
                }
                _ => ("404 Not Found", r#"{"message":"Not found"}"#),
            };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    let shown = home.run(&["config", "diff", &file, "--node", &kong]);
    assert!(
        shown.code == Some(2) && shown.output.contains("change services up (00000000-0000-4000-8000-000000000001): "),
        "{}",
        shown.output
    );
    let said = sync(&kong);
    assert!(said.contains(&format!("Error: {kong} is not Portcullis and cannot be changed all or nothing: nothing was changed")), "{said}");
}
