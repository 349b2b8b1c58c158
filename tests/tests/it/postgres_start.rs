//! Setting up a Postgres database and starting on it: what works, and what is said when it doesn't.

use portcullis_tests::{Builder, Gateway, Postgres, Upstream, eventually, free_port};
use serde_json::{Value, json};

/// A node on a database of the shared server.
pub fn on(database: &str) -> Builder {
    at(Postgres::shared(), database)
}

/// A node on a database of that server.
pub fn at(server: &Postgres, database: &str) -> Builder {
    Gateway::build().set("database", "postgres").set("pg_port", server.port().to_string()).set("pg_database", database)
}

/// A database with tables and nothing in them.
pub fn bootstrapped(server: &Postgres) -> String {
    let database = server.database();
    let made = at(server, &database).run(&["migrations", "bootstrap"]);
    assert_eq!(made.code, Some(0), "{}", made.output);
    database
}

#[test]
fn migrations_say_what_kongs_say() {
    let server = Postgres::shared();
    let database = server.database();
    let node = on(&database);
    let run = |arguments: &str| {
        let outcome = node.run(&arguments.split(' ').collect::<Vec<_>>());
        (outcome.code.unwrap(), outcome.output)
    };
    let needs = "Database needs bootstrapping or is older than Kong 1.0.\n\n";
    let (code, said) = run("migrations list");
    assert!(code == 3 && said.starts_with(needs) && said.ends_with("\n\n\n"), "{said}");
    let (code, said) = run("migrations status");
    let status: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &status["needs_bootstrap"], &status["new_migrations"][0]["subsystem"]), (0, &json!(true), &json!("core")));
    for command in ["migrations up", "migrations finish"] {
        let (code, said) = run(command);
        assert!(code == 1 && said.starts_with(&format!("Error: Cannot run migrations: {needs}")), "{said}");
    }
    let (code, said) = run("start");
    assert!(code == 1 && said.starts_with(&format!("Error: {needs}")), "{said}");
    let (code, said) = run("start --run-migrations");
    assert!(code == 1 && said.starts_with("Error: Cannot run migrations: "), "{said}");
    let (code, said) = run("migrations reset --yes");
    assert_eq!(code, 1, "{said}");

    let (code, said) = run("migrations bootstrap");
    assert_eq!(code, 0, "{said}");
    let begin =
        format!("Bootstrapping database...\nmigrating core on database '{database}'...\ncore migrated up to: 000_base (executed)\n");
    assert!(said.starts_with(&begin), "{said}");
    assert!(said.ends_with("67 migrations processed\n67 executed\nDatabase is up-to-date\n"), "{said}");
    assert_eq!(run("migrations bootstrap"), (0, "Database already bootstrapped\n".to_owned()));
    assert_eq!(run("migrations bootstrap -q"), (0, String::new()));
    assert_eq!(run("migrations up"), (0, "Database is already up-to-date\n".to_owned()));
    assert_eq!(run("migrations finish"), (0, "No pending migrations to finish\n".to_owned()));
    let (code, said) = run("migrations list");
    assert_eq!(code, 0);
    assert!(said.starts_with("Executed migrations:\n                 core: 000_base, 003_100_to_110, "), "{said}");
    assert!(said.ends_with("              session: 000_base_session, 001_add_ttl_index, 002_320_to_330\n"), "{said}");

    server.run(&database, "UPDATE schema_meta SET executed = array_remove(executed, '024_380_to_390') WHERE subsystem = 'core'");
    assert_eq!(run("migrations list").0, 5);
    let (code, said) = run("start");
    assert!(code == 1 && said.contains("New migrations available; run 'portcullis migrations up' to proceed"), "{said}");
    let (code, said) = run("migrations up");
    assert!(code == 1 && said.contains("the tables of core are those of an older version"), "{said}");
    let restore = "executed = array_append(executed, '024_380_to_390')";
    server.run(&database, &format!("UPDATE schema_meta SET {restore}, pending = '{{}}' WHERE subsystem = 'core'"));
    server.run(&database, "UPDATE schema_meta SET executed = array_append(executed, '099_later') WHERE subsystem = 'core'");
    let (code, said) = run("start");
    let newer = "Error: the database belongs to a newer version: it has taken migrations this one does not know (core: 099_later)\n";
    assert!(code == 1 && said.starts_with(newer), "{said}");

    let (code, said) = run("migrations reset");
    assert!(code == 1 && said.contains("not a tty: invoke 'reset' non-interactively with the --yes flag"), "{said}");
    assert_eq!(run("migrations reset --yes"), (0, "Resetting database...\nDatabase successfully reset\n".to_owned()));
    assert_eq!(run("migrations list").0, 3);
}

#[test]
fn a_database_that_cannot_be_used_is_one_line() {
    let server = Postgres::shared();
    let database = bootstrapped(server);
    let refused = |node: Builder, reason: &str| {
        let outcome = node.run(&["start"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.output);
        let line = outcome.output.lines().next().unwrap();
        assert!(line.starts_with("Error: [PostgreSQL error] failed to retrieve PostgreSQL server_version_num: "), "{line}");
        assert!(line.contains(reason), "{line}");
    };
    refused(on(&database).set("pg_port", free_port().to_string()), "onnection refused");
    refused(on("nowhere"), "database \"nowhere\" does not exist");
    refused(on(&database).set("pg_user", "nobody"), "role \"nobody\" does not exist");
    refused(on(&database).set("pg_ssl", "on"), "does not support TLS");
    // A listener that never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    refused(on(&database).set("pg_port", port).set("pg_timeout", "300"), "within pg_timeout");
}

#[test]
fn rows_that_kong_wrote_are_served_unchanged() {
    let server = Postgres::shared();
    let database = bootstrapped(server);
    let upstream = Upstream::start();
    let ws = server.run(&database, "SELECT id FROM workspaces WHERE name = 'default'");
    let service = "11111111-1111-4111-8111-111111111111";
    let route = "22222222-2222-4222-8222-222222222222";
    server.run(
        &database,
        &format!(
            "INSERT INTO services (id, created_at, updated_at, name, retries, protocol, host, port, connect_timeout, write_timeout, \
             read_timeout, ws_id, enabled) VALUES ('{service}', now(), now(), 'up', 5, 'http', '127.0.0.1', {}, 60000, 60000, 60000, \
             '{ws}', true); \
             INSERT INTO routes (id, created_at, updated_at, service_id, protocols, paths, regex_priority, strip_path, preserve_host, \
             https_redirect_status_code, path_handling, ws_id, request_buffering, response_buffering) VALUES ('{route}', now(), now(), \
             '{service}', '{{http,https}}', '{{/kong}}', 0, true, false, 426, 'v0', '{ws}', true, true)",
            upstream.address.port()
        ),
    );
    let node = on(&database).set("db_update_frequency", "0.2").start();
    assert_eq!(node.get("/kong/echo").status, 200);
    assert_eq!(node.admin().get("/services/up")["id"], service);
    // And what is written here stands where Kong looks for it.
    node.admin().post("/consumers", json!({"username": "ann", "tags": ["a"]}));
    assert_eq!(server.run(&database, "SELECT ws_id FROM consumers WHERE username = 'ann'"), ws);
    assert_eq!(server.run(&database, "SELECT entity_name FROM tags WHERE tags = '{a}'"), "consumers");
    // A change that a Kong node tells of: only the row that it names is read again.
    let tell = |key: &str| {
        let sql = "INSERT INTO cluster_events (id, node_id, at, expire_at, channel, data) VALUES \
                   (gen_random_uuid(), gen_random_uuid(), now(), now() + interval '1 hour', 'invalidations', ";
        server.run(&database, &format!("{sql}'{key}')"));
    };
    server.run(&database, &format!("UPDATE routes SET paths = '{{/moved}}' WHERE id = '{route}'"));
    tell(&format!("routes:{route}:::::{ws}"));
    tell("router:version");
    eventually("the route moves", || node.get("/moved/echo").status == 200 && node.get("/kong/echo").status == 404);
    server.run(&database, "DELETE FROM routes");
    tell(&format!("routes:{route}:::::{ws}"));
    tell("router:version");
    eventually("the route goes", || node.get("/moved/echo").status == 404);
}

#[test]
fn who_migrates_waits_for_others_kongs_among_them() {
    let server = Postgres::shared();
    let database = server.database();
    // As Kong's command leaves it while it works.
    server.run(&database, "CREATE TABLE locks (key text PRIMARY KEY, owner text, ttl timestamptz)");
    server.run(&database, "INSERT INTO locks VALUES ('migrations', 'kong', now() + interval '1 hour')");
    let node = on(&database);
    let outcome = node.run(&["migrations", "bootstrap", "--lock-timeout", "0.5"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.output);
    assert!(outcome.output.contains("aborted: another node is performing database changes"), "{}", outcome.output);
    assert_eq!(server.run(&database, "SELECT to_regclass('services') IS NULL"), "t");
    // A lock whose time is up is none.
    server.run(&database, "UPDATE locks SET ttl = now() - interval '1 second'");
    assert_eq!(node.run(&["migrations", "bootstrap"]).code, Some(0));
    assert_eq!(server.run(&database, "SELECT count(*) FROM locks"), "0");
}
