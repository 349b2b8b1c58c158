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
