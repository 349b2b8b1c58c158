//! Words and exit codes of commands that need no running node.

use crate::gate::{Gate, has_mode};

#[test]
fn the_version_is_ours_or_kongs_by_the_name_it_is_asked_under() {
    Gate::new().expect("version", 0, "0.1.0\n", "");
    let kong = Gate::as_kong();
    kong.expect("version", 0, "3.9.3\n", "");
    let all = kong.run("version -a").out;
    assert!(all.starts_with("Kong: 3.9.3\n") && all.contains("0.1.0"), "{all}");
}

#[test]
fn commands_that_are_not_there_fail_with_the_usage() {
    let gate = Gate::as_kong();
    let tail = "\nOptions:\n --v              verbose\n --vv             debug\n";
    let none = gate.run("");
    assert_eq!((none.code, none.out.as_str()), (1, ""));
    assert!(none.err.starts_with("Usage: kong COMMAND") && none.err.ends_with(tail), "{}", none.err);
    let nope = gate.run("nope");
    assert_eq!(nope.code, 1);
    assert!(nope.err.starts_with("No such command: nope\n\nUsage: kong COMMAND") && nope.err.ends_with(tail), "{}", nope.err);
    for line in ["config", "migrations", "vault", "hybrid"] {
        let said = gate.run(line);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{line}");
        assert!(said.err.starts_with("Usage: ") && said.err.ends_with(" --vv             debug\n"), "{}", said.err);
    }
    assert!(gate.run("config nope").err.starts_with("No such command for config: nope\n"));
    let help = gate.run("start --help");
    assert!(help.code == 0 && help.out.contains("-c,--conf"), "{help:?}");
}

#[test]
fn check_says_what_is_wrong_all_at_once() {
    let gate = Gate::as_kong();
    gate.expect("check gate.conf", 0, "configuration at gate.conf is valid\n", "");
    gate.write("bad.conf", "log_level = loud\ndatabase = mysql\n");
    gate.expect(
        "check bad.conf",
        1,
        "",
        "DATE [error] log_level has an invalid value: 'loud' (debug, info, notice, warn, error, crit, alert, emerg)\n\
         DATE [error] database has an invalid value: 'mysql' (postgres, cassandra, off, embedded)\n",
    );
    gate.expect("check absent.conf", 1, "", "DATE [error] no file at: absent.conf\n");
    gate.write("odd.conf", "prefx = /x\n");
    gate.expect(
        "check odd.conf",
        0,
        "configuration at odd.conf is valid\n",
        "DATE [warn] unknown configuration properties are ignored: prefx\n",
    );
}

#[test]
fn verbose_commands_date_their_lines_and_debug_ones_show_the_configuration() {
    let gate = Gate::as_kong();
    gate.write("gate.conf", &format!("{}pg_password = hush\n", gate.configuration()));
    gate.expect("check gate.conf --v", 0, "DATE [verbose] Kong: 3.9.3\nDATE [info] configuration at gate.conf is valid\n", "");
    let said = gate.run("check gate.conf --vv").out;
    assert!(said.contains(" [debug] pg_password = \"******\"\n") && !said.contains("hush"), "{said}");
    assert_eq!(gate.run("stop --v -p prefix").err.lines().count(), 1);
}

#[test]
fn a_node_that_was_never_started_is_not_found() {
    let gate = Gate::as_kong();
    gate.fails("health -p prefix", "Kong is not running at PREFIX");
    gate.fails("health -p nowhere", &format!("no such prefix: {}", gate.path("nowhere").display()));
    gate.fails("stop -p prefix", "no file at: PREFIX/.kong_env");
    gate.fails("quit -p prefix", "no file at: PREFIX/.kong_env");
    gate.fails("reload -c gate.conf", "nginx not running in prefix: PREFIX");
}

#[test]
fn our_own_name_stands_where_kongs_would() {
    Gate::new().fails("health -p prefix", "Portcullis is not running at PREFIX");
}

#[test]
fn what_cannot_start_says_why() {
    let mut gate = Gate::as_kong();
    gate.set("KONG_DATABASE", "postgres");
    // The lowest port: nobody listens there.
    gate.set("KONG_PG_PORT", "1");
    let said = gate.run("start -c gate.conf");
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("Error: [PostgreSQL error] failed to retrieve PostgreSQL server_version_num: "), "{}", said.err);
    gate.unset("KONG_DATABASE");
    gate.unset("KONG_PG_PORT");
    gate.set("KONG_PLUGINS", "bundled,absent");
    gate.fails("start -c gate.conf", "absent plugin is enabled but not installed");
    assert!(gate.pid().is_none());
}

#[test]
fn prepare_makes_the_prefix_quietly() {
    let gate = Gate::as_kong();
    gate.expect("prepare -c gate.conf", 0, "", "");
    for directory in ["logs", "pids", "sockets", "ssl"] {
        assert!(gate.prefix().join(directory).is_dir(), "{directory}");
    }
    assert!(has_mode(&gate.prefix().join(".kong_env"), 0o640));
    let said = gate.run("prepare -c gate.conf -p elsewhere").out;
    assert_eq!(said, format!("prefix directory {} not found, trying to create it\n", gate.path("elsewhere").display()));
}

#[test]
fn an_example_of_declarative_configuration_is_written_once() {
    let gate = Gate::as_kong();
    gate.expect("config init new.yml", 0, "", "");
    assert!(gate.read("new.yml").contains("_format_version"));
    gate.fails("config init new.yml", "new.yml already exists.\nWill not overwrite it.");
}

#[test]
fn importing_and_exporting_need_a_database() {
    let mut gate = Gate::as_kong();
    gate.set("KONG_DATABASE", "off");
    gate.fails(
        "config db_import good.yml -c gate.conf",
        "'kong config db_import' only works with a database.\nWhen using database=off, reload your declarative configuration\n\
         using the /config endpoint.",
    );
    gate.fails("config db_export x.yml -c gate.conf", "'kong config db_export' only works with a database.");
}

#[test]
fn the_certificate_of_a_cluster_is_made_once() {
    let gate = Gate::as_kong();
    let done = "Successfully generated certificate/key pairs, they have been written to: 'c.crt' and 'c.key'.\n";
    gate.expect("hybrid gen_cert c.crt c.key", 0, done, "");
    assert!(gate.read("c.crt").starts_with("-----BEGIN CERTIFICATE-----") && gate.read("c.key").contains("PRIVATE KEY"));
    assert!(has_mode(&gate.path("c.key"), 0o600));
    gate.fails("hybrid gen_cert c.crt c.key", "c.crt already exists.\nWill not overwrite it.");
    gate.fails("hybrid gen_cert only", "both cert and key path needs to be provided");
}

#[test]
fn secrets_are_looked_up_in_the_environment() {
    let mut gate = Gate::as_kong();
    gate.set("MY_SECRET", "s3cret");
    gate.expect("vault get env/my-secret -c gate.conf", 0, "s3cret\n", "");
    gate.expect("vault get {vault://env/my-secret} -c gate.conf", 0, "s3cret\n", "");
    gate.fails("vault get env/absent -c gate.conf", "could not get value from external vault (no value found)");
}

#[test]
fn migrations_have_nothing_to_do_and_a_reset_asks_first() {
    let gate = Gate::as_kong();
    gate.expect("migrations bootstrap -c gate.conf", 0, "Database already bootstrapped\n", "");
    gate.expect("migrations up -c gate.conf -q", 0, "", "");
    gate.expect("migrations finish -c gate.conf", 0, "No pending migrations to finish\n", "");
    let status = gate.run("migrations status -c gate.conf").out;
    assert!(status.contains("\"needs_bootstrap\":false"), "{status}");
    gate.fails("migrations reset -c gate.conf", "not a tty: invoke 'reset' non-interactively with the --yes flag");
    gate.write("prefix/portcullis.db", "x");
    gate.expect("migrations reset --yes -c gate.conf", 0, "Resetting database...\nDatabase successfully reset\n", "");
    assert!(!gate.path("prefix/portcullis.db").exists());
}

#[test]
fn draining_without_a_node_is_told_and_no_failure() {
    let gate = Gate::as_kong();
    let said = gate.run("drain -c gate.conf");
    assert_eq!(said.code, 0);
    assert!(said.out.starts_with(&format!("Failed to send request to http://127.0.0.1:{}/status/ready: ", gate.status)), "{}", said.out);
}

#[test]
fn declarative_files_are_checked_and_every_complaint_told() {
    let gate = Gate::as_kong();
    gate.write("good.yml", "_format_version: '3.0'\nservices:\n- name: a\n  host: x.test\n");
    gate.write("bad.yml", "_format_version: '3.0'\nservices:\n- name: a\n  nope: 1\n");
    gate.expect("config parse good.yml -c gate.conf", 0, "parse successful\n", "");
    gate.fails(
        "config parse bad.yml -c gate.conf",
        "Failed parsing:\nin 'services':\n  - in entry 1 of 'services':\n    in 'host': required field missing\n    in 'nope': unknown field",
    );
    let absent = format!("Failed parsing:\n{}: No such file or directory", gate.path("absent.yml").display());
    gate.fails("config parse absent.yml -c gate.conf", &absent);
    gate.write("broken.yml", "services: [");
    let said = gate.run("config parse broken.yml -c gate.conf");
    assert!(said.err.starts_with("Error: Failed parsing:\nfailed parsing declarative configuration: "), "{}", said.err);
}
