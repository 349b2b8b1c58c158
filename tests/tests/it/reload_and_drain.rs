//! Stopping and reloading: SIGTERM at once, SIGQUIT when all is answered, SIGHUP without anyone noticing.

use portcullis_tests::{Connection, Gateway, Upstream, get, wait_until};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

#[test]
fn a_drain_answers_what_was_asked() {
    let (mut gateway, upstream) = (Gateway::start(), Upstream::start());
    gateway.route("a", upstream.address);
    upstream.forget();
    let mut waiting: Vec<Connection> = (0..20).map(|_| gateway.connect()).collect();
    for connection in &mut waiting {
        connection.send(b"GET /a/delay/500 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    wait_until("all requests are at the upstream", || upstream.seen().requests.len() == 20);
    gateway.signal(libc::SIGQUIT);
    for connection in &mut waiting {
        let answer = connection.response();
        assert_eq!(answer.status, 200);
        assert!(connection.is_closed(), "a drained connection closes after its answer");
    }
    assert!(gateway.wait().success());
}

#[test]
fn a_stop_ends_at_once() {
    let (mut gateway, upstream) = (Gateway::start(), Upstream::start());
    gateway.route("a", upstream.address);
    let mut waiting = gateway.connect();
    waiting.send(b"GET /a/delay/60000 HTTP/1.1\r\nHost: test\r\n\r\n");
    wait_until("the request is at the upstream", || upstream.seen().requests.len() == 1);
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait().success());
    assert!(!gateway.prefix().join("pids/nginx.pid").exists());
}

#[test]
fn reloads_under_load_lose_no_request() {
    let (gateway, upstream) = (Gateway::start(), Upstream::start());
    gateway.route("a", upstream.address);
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| call_until(&gateway, &stop, &served))).collect();
        for reload in 1..=5 {
            let before = served.load(Ordering::Relaxed);
            wait_until("the load goes on", || served.load(Ordering::Relaxed) > before + 100);
            gateway.signal(libc::SIGHUP);
            wait_until("the reload is done", || gateway.output().matches("reloaded").count() >= reload);
        }
        let before = served.load(Ordering::Relaxed);
        wait_until("the load goes on", || served.load(Ordering::Relaxed) > before + 100);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    assert_eq!(get(gateway.proxy, "/a").status, 200);
}

/// Calls on a kept-alive connection. A kept-alive connection may be closed while it idles, just as the next request is sent: like
/// every client, this one then tries once more on a fresh connection, where nothing may go wrong.
fn call_until(gateway: &Gateway, stop: &AtomicBool, served: &AtomicUsize) {
    const REQUEST: &[u8] = b"GET /a/x HTTP/1.1\r\nHost: test\r\n\r\n";
    let mut kept: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        let again = kept.take().and_then(|mut connection| {
            connection.try_send(REQUEST).ok()?;
            Some((connection.try_response().ok()?, connection))
        });
        let (answer, connection) = again.unwrap_or_else(|| {
            let mut connection = gateway.connect();
            connection.send(REQUEST);
            (connection.response(), connection)
        });
        assert_eq!(answer.status, 200);
        served.fetch_add(1, Ordering::Relaxed);
        kept = (answer.header("connection") != Some("close")).then_some(connection);
    }
}
