//! Starting, stopping, reloading: what is under way is finished, what is stored stays.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis_tests::{Client, Gateway, Upstream, eventually, get};
use serde_json::json;

#[test]
fn term_ends_it_at_once_even_with_requests_under_way() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send(get("/hold"));
    upstream.wait_for_requests(1);
    let asked = Instant::now();
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn quit_finishes_what_is_under_way_and_takes_nothing_new() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::before(&upstream);
    let mut clients: Vec<_> = (0..6).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(get("/hold"));
    }
    upstream.wait_for_requests(6);
    let mut idle = gateway.client();
    assert_eq!(idle.get("/bytes/1").status, 200);
    gateway.signal("QUIT");
    assert!(idle.is_closed());
    eventually("new connections are refused", || TcpStream::connect(gateway.proxy()).is_err());
    upstream.release();
    for mut client in clients {
        assert_eq!(client.answer().json()["target"], "/hold");
        assert!(client.is_closed());
    }
    assert!(gateway.wait().success());
}

#[test]
fn reloads_cost_no_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let proxy = gateway.proxy();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut client = Client::connect(proxy);
                    for number in 0..5 {
                        client.send(get("/bytes/100"));
                        // A worker that leaves closes idle connections; a request that crosses with that is sent again, as
                        // RFC 9112 section 9.3.1 has it. The first one on a connection must be answered.
                        let Some((status, head)) = client.head() else {
                            assert!(number > 0, "a connection was closed before its first answer");
                            break;
                        };
                        assert_eq!((status, client.take(100).len()), (200, 100), "{head}");
                        answered.fetch_add(1, Ordering::Relaxed);
                        if head.contains("\r\nConnection: close\r\n") {
                            break;
                        }
                    }
                }
            });
        }
        for reload in 1..=3 {
            let before = answered.load(Ordering::Relaxed);
            gateway.signal("HUP");
            let done = || gateway.output().matches("reloaded").count() >= reload && answered.load(Ordering::Relaxed) > before + 50;
            eventually("the reload is done and requests went on", || done() || over.load(Ordering::Relaxed));
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_reload_lets_running_requests_finish() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    client.send(get("/hold"));
    upstream.wait_for_requests(1);
    gateway.signal("HUP");
    eventually("the reload is done", || gateway.output().contains("reloaded"));
    assert_eq!(gateway.get("/bytes/1").status, 200);
    upstream.release();
    assert_eq!(client.answer().json()["target"], "/hold");
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    for signal in ["TERM", "KILL"] {
        let upstream = Upstream::start();
        let mut gateway = Gateway::before(&upstream);
        gateway.admin().post("/consumers", json!({"username": "ann"}));
        gateway.signal(signal);
        gateway.wait();
        gateway.start_again();
        assert_eq!(gateway.admin().get("/consumers/ann")["username"], "ann", "after {signal}");
        assert_eq!(gateway.get("/bytes/3").body, b"xxx", "after {signal}");
    }
}

#[test]
fn it_can_be_run_in_the_background() {
    let build = Gateway::build().set("nginx_main_daemon", "on");
    let health = build.run(&["health"]);
    assert_eq!(health.code, Some(1), "{}", health.output);
    let start = build.run(&["start"]);
    assert_eq!((start.code, start.output.contains("Portcullis started")), (Some(0), true), "{}", start.output);
    let again = build.run(&["start"]);
    assert_eq!((again.code, again.output.contains("already running")), (Some(1), true), "{}", again.output);
    let health = build.run(&["health"]);
    assert_eq!((health.code, health.output.contains("is healthy")), (Some(0), true), "{}", health.output);
    let stop = build.run(&["stop"]);
    assert_eq!((stop.code, stop.output.contains("stopped")), (Some(0), true), "{}", stop.output);
    assert_eq!(build.run(&["health"]).code, Some(1));
    assert_eq!(build.run(&["stop"]).code, Some(1));
}

#[test]
fn quit_and_restart_are_commands_too() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::before(&upstream);
    let quit = gateway.run(&["quit"]);
    assert_eq!((quit.code, quit.output.contains("stopped (gracefully)")), (Some(0), true), "{}", quit.output);
    assert!(gateway.wait().success());
    gateway.start_again();
    let reload = gateway.run(&["reload"]);
    assert_eq!((reload.code, reload.output.contains("reloaded")), (Some(0), true), "{}", reload.output);
    eventually("the reload is done", || gateway.output().contains("reloaded"));
    assert_eq!(gateway.get("/bytes/1").status, 200);
}

#[test]
fn a_pid_file_of_a_process_that_is_gone_is_no_hindrance() {
    let mut gateway = Gateway::start();
    gateway.signal("KILL");
    gateway.wait();
    assert_eq!(gateway.run(&["health"]).code, Some(1));
    gateway.start_again();
    assert_eq!(gateway.run(&["health"]).code, Some(0));
}

#[test]
fn an_idle_client_has_one_more_request_after_a_reload() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut clients: Vec<_> = (0..6).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/bytes/1").status, 200);
    }
    gateway.signal("HUP");
    eventually("the reload is done", || gateway.output().contains("reloaded"));
    for mut client in clients {
        // None is closed on before it has been told to go, with an answer.
        loop {
            let answer = client.get("/bytes/1");
            assert_eq!(answer.status, 200, "{}", answer.head);
            if answer.header("connection") == Some("close") {
                break;
            }
        }
        assert!(client.is_closed());
    }
}
