//! What can go wrong between a node and its Postgres: each is told in one line, and nothing is half done.

use portcullis_tests::{Client, Gateway, Postgres, Upstream, eventually};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::postgres_start::{at, bootstrapped};

/// Writes a file as the server's own, into its data directory, and has it read its settings again.
fn put(server: &Postgres, name: &str, text: &str) {
    let directory = server.run("postgres", "SHOW data_directory");
    server.run("postgres", &format!("COPY (SELECT unnest(string_to_array($x${}$x$, E'\\n'))) TO '{directory}/{name}'", text.trim_end()));
    // A key that others may read is not used.
    std::fs::set_permissions(format!("{directory}/{name}"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    server.run("postgres", "SELECT pg_reload_conf()");
}

fn refused(node: portcullis_tests::Builder, reason: &str) {
    let outcome = node.run(&["start"]);
    let line = outcome.output.lines().next().unwrap_or_default();
    assert!(outcome.code == Some(1) && line.starts_with("Error: [PostgreSQL error] ") && line.contains(reason), "{}", outcome.output);
}

#[test]
fn a_password_is_asked_for_and_a_wrong_one_refused() {
    let server = Postgres::start();
    let database = bootstrapped(&server);
    server.run(&database, "CREATE ROLE gate SUPERUSER LOGIN PASSWORD 'right'");
    put(&server, "pg_hba.conf", "local all kong trust\nhost all gate 127.0.0.1/32 scram-sha-256\n");
    let with = |password: &str| at(&server, &database).set("pg_user", "gate").set("pg_password", password);
    let wrong = r#"password authentication failed for user "gate""#;
    eventually("the server asks", || with("wrong").run(&["start"]).output.contains(wrong));
    refused(with("wrong"), wrong);
    let node = with("right").start();
    node.admin().post("/services", json!({"name": "a", "host": "a.test"}));
    // A password is no reason to serve something old.
    assert!(!node.output().contains("right"), "{}", node.output());
}

#[test]
fn tls_is_spoken_and_verified_as_the_keys_say() {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();

    let server = Postgres::start();
    let database = bootstrapped(&server);
    refused(at(&server, &database).set("pg_ssl", "on"), "does not support TLS");
    put(&server, "server.crt", &certificate.pem());
    put(&server, "server.key", &key.serialize_pem());
    server.run("postgres", "ALTER SYSTEM SET ssl = on");
    put(&server, "pg_hba.conf", "local all kong trust\nhostssl all kong 127.0.0.1/32 trust\n");
    eventually("the server speaks TLS", || at(&server, &database).set("pg_ssl", "on").run(&["migrations", "list"]).code == Some(0));
    refused(at(&server, &database), "no encryption");
    let verifying = |trusted: &str| {
        let build = at(&server, &database).set("pg_ssl", "on").set("pg_ssl_verify", "on");
        let path = build.prefix().join("ca.pem");
        std::fs::write(&path, trusted).unwrap();
        build.set("lua_ssl_trusted_certificate", path.to_str().unwrap())
    };
    let stranger = CertificateParams::new(Vec::new()).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    refused(verifying(&stranger), "invalid peer certificate");
    let node = verifying(&authority_pem).start();
    node.admin().post("/services", json!({"name": "a", "host": "a.test"}));
    let encrypted = "SELECT count(*) > 1 AND bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE client_port > 0";
    assert_eq!(server.run(&database, encrypted), "t");
}

#[test]
fn tables_may_stand_in_a_schema_of_their_own() {
    let server = Postgres::shared();
    let database = server.database();
    let build = || at(server, &database).set("pg_schema", "gate");
    let made = build().run(&["migrations", "bootstrap"]);
    assert_eq!(made.code, Some(0), "{}", made.output);
    let node = build().start();
    node.admin().post("/services", json!({"name": "a", "host": "a.test"}));
    assert_eq!(server.run(&database, "SELECT name FROM gate.services"), "a");
    assert_eq!(server.run(&database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    // Another schema of the same database is another, empty one.
    assert_eq!(at(server, &database).run(&["migrations", "list"]).code, Some(3));
}

#[test]
fn a_connection_lost_within_a_transaction_changes_nothing() {
    let server = Postgres::start();
    let database = bootstrapped(&server);
    let node = at(&server, &database).start();
    node.admin().post("/services", json!({"name": "a", "host": "a.test"}));
    std::thread::scope(|scope| {
        let (server, database) = (&server, &database);
        scope.spawn(move || server.run(database, "BEGIN; LOCK TABLE routes; SELECT pg_sleep(4); COMMIT"));
        eventually("the table is locked", || {
            server.run(database, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
        });
        // Two rows in one transaction: the first is written, the second waits.
        let service = r#"{"method":"POST","path":"/services","body":{"name":"b","host":"b.test"}}"#;
        let body = format!(r#"{{"operations":[{service},{{"method":"POST","path":"/routes","body":{{"name":"r","paths":["/r"]}}}}]}}"#);
        let node = &node;
        let writer = scope.spawn(move || bulk(node, &body));
        eventually("the writer waits", || {
            server.run(database, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") != "0"
        });
        assert_eq!(writer.join().unwrap(), 503);
    });
    assert_eq!(server.run(&database, "SELECT string_agg(name, ',') FROM services"), "a");
    eventually("the node goes on", || bulk(&node, r#"{"operations":[]}"#) != 503);
    node.admin().post("/services", json!({"name": "c", "host": "c.test"}));
}

fn bulk(node: &Gateway, body: &str) -> u16 {
    let mut client = Client::connect(node.admin().address());
    client.send(format!(
        "POST /bulk HTTP/1.1\r\nHost: admin.test\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.answer().status
}

#[test]
fn a_full_disk_costs_the_copy_only_and_is_tried_again() {
    let server = Postgres::shared();
    let database = bootstrapped(server);
    let upstream = Upstream::start();
    let build = at(server, &database);
    let folder = build.prefix().join("last-good");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.join("next.tmp")).unwrap();
    let node = build.start();
    node.lead_to(&upstream);
    assert_eq!(node.get("/echo").status, 200);
    eventually("it is said", || {
        node.output().contains("the last good configuration is not kept") && node.output().contains("o space left")
    });
    eventually("it is kept after all", || node.copy_text().contains("\"all\""));
}
