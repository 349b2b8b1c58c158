//! Starting, reloading and stopping nodes.

use std::io::Read;

use crate::gate::{Gate, get, wait_until};

#[test]
fn a_node_starts_answers_and_stops() {
    let gate = Gate::as_kong();
    gate.expect("start -c gate.conf", 0, "Kong started\n", "");
    assert_eq!(get(gate.proxy, "/").unwrap().0, 404);
    assert_eq!(get(gate.admin, "/services").unwrap().0, 200);
    gate.expect("health -p prefix", 0, "nginx.......running\n\nKong is healthy at PREFIX\n", "");
    gate.fails("start -c gate.conf", "Kong is already running in PREFIX");
    gate.fails("migrations reset --yes -c gate.conf", "Kong is running in PREFIX: stop it first");
    gate.expect("stop -p prefix", 0, "Kong stopped\n", "");
    assert!(get(gate.proxy, "/").is_none() && gate.pid().is_none());
    gate.expect(
        "health -p prefix",
        1,
        "nginx.......not running\n\n",
        "Error: Kong is not running at PREFIX\n\n  Run with --v (verbose) or --vv (debug) for more details\n",
    );
    gate.fails("stop -p prefix", "nginx not running in prefix: PREFIX");
    let log = gate.read("prefix/logs/error.log");
    assert!(log.contains(" [notice] ") && log.contains(": serving, "), "{log}");
}

#[test]
fn a_restart_tells_both_halves_and_quitting_is_graceful() {
    let gate = Gate::as_kong();
    gate.expect("restart -c gate.conf", 0, "Kong started\n", "");
    let first = gate.pid();
    gate.expect("restart -c gate.conf", 0, "Kong stopped\nKong started\n", "");
    assert_ne!(gate.pid(), first);
    gate.write("bad.conf", &format!("{}log_level = loud\n", gate.configuration()));
    assert_eq!(gate.run("restart -c bad.conf").code, 1);
    assert_eq!(get(gate.proxy, "/").unwrap().0, 404);
    gate.expect("quit -p prefix", 0, "Kong stopped (gracefully)\n", "");
    assert!(get(gate.proxy, "/").is_none());
}

#[test]
fn a_reload_reads_the_file_again_over_what_the_node_was_started_with() {
    let mut gate = Gate::as_kong();
    // Given at the start only: a later reload from another shell must not lose it.
    gate.set("KONG_DNS_STALE_TTL", "17");
    gate.expect("start -c gate.conf", 0, "Kong started\n", "");
    gate.unset("KONG_DNS_STALE_TTL");
    gate.write("gate.conf", &format!("{}headers = off\nupstream_keepalive_pool_size = 7\n", gate.configuration()));
    let pid = gate.pid();
    gate.expect("reload -c gate.conf", 0, "Kong reloaded\n", "");
    wait_until("the new configuration", || {
        get(gate.admin, "/").is_some_and(|(_, body)| body.contains("\"upstream_keepalive_pool_size\":7"))
    });
    let (_, body) = get(gate.admin, "/").unwrap();
    assert!(body.contains("\"dns_stale_ttl\":17"), "{body}");
    assert_eq!((get(gate.proxy, "/").unwrap().0, gate.pid()), (404, pid));
    gate.write("bad.conf", &format!("{}log_level = loud\n", gate.configuration()));
    assert_eq!(gate.run("reload -c bad.conf").code, 1);
    assert_eq!(get(gate.proxy, "/").unwrap().0, 404);
}

#[test]
fn a_draining_node_is_not_ready_but_serves() {
    let gate = Gate::as_kong();
    gate.expect("start -c gate.conf", 0, "Kong started\n", "");
    assert_eq!(get(gate.status, "/status/ready").unwrap().0, 200);
    gate.expect("drain -c gate.conf", 0, "Kong's status successfully changed to 'draining'\n", "");
    assert_eq!(get(gate.status, "/status/ready").unwrap().0, 503);
    assert_eq!(get(gate.proxy, "/").unwrap().0, 404);
}

#[test]
fn a_port_that_is_taken_is_told_to_the_terminal() {
    let gate = Gate::as_kong();
    let taken = std::net::TcpListener::bind(("127.0.0.1", gate.admin)).unwrap();
    let said = gate.run("start -c gate.conf");
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.starts_with("Error: ") && said.err.contains(&gate.admin.to_string()), "{}", said.err);
    assert!(gate.read("prefix/logs/error.log").contains(" [emerg] "));
    drop(taken);
    gate.expect("start -c gate.conf", 0, "Kong started\n", "");
}

#[test]
fn a_node_in_the_foreground_logs_to_the_terminal_and_ends_with_a_signal() {
    let mut gate = Gate::as_kong();
    gate.set("KONG_NGINX_DAEMON", "off");
    let mut child = gate.spawn("start -c gate.conf");
    wait_until("a node in the foreground", || get(gate.proxy, "/").is_some());
    wait_until("its pid file", || gate.pid() == Some(child.id()));
    gate.expect("stop -p prefix", 0, "Kong stopped\n", "");
    assert!(child.wait().unwrap().success());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains(": serving, ") && log.contains(": stopped"), "{log}");
}

#[test]
fn a_pid_file_left_by_a_crash_does_not_hinder_a_start_and_stale_sockets_go() {
    let gate = Gate::as_kong();
    gate.run("prepare -c gate.conf");
    // No process has this number: it is above the kernel's greatest.
    gate.write("prefix/pids/nginx.pid", "4194999\n");
    gate.write("prefix/sockets/we", "");
    gate.expect("start -c gate.conf", 0, "Kong started\n", "DATE [warn] removed stale socket PREFIX/sockets/we\n");
}

#[test]
fn the_log_is_opened_anew_when_asked() {
    let gate = Gate::as_kong();
    gate.expect("start -c gate.conf", 0, "Kong started\n", "");
    let log = gate.prefix().join("logs/error.log");
    std::fs::rename(&log, gate.path("old.log")).unwrap();
    let pid = rustix::process::Pid::from_raw(gate.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    wait_until("a new log", || log.exists());
}
