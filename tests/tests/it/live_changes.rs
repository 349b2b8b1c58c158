//! Configuration changes while requests flow: not one of them may notice.

use portcullis_tests::{Gateway, Upstream, get, scale};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// PORTCULLIS_TEST_CHANGES=200 for the long form.
#[test]
fn changes_under_load_fail_no_request_and_are_seen_by_the_next() {
    let (gateway, upstream) = (Gateway::start(), Upstream::start());
    gateway.route("a", upstream.address);
    let stop = AtomicBool::new(false);
    let served: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| call_until(&gateway, &stop))).collect();
        for number in 0..scale("PORTCULLIS_TEST_CHANGES", 40) / 4 {
            one_round_of_changes(&gateway, number);
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(served > 100, "only {served} requests were served meanwhile");
}

fn one_round_of_changes(gateway: &Gateway, number: u64) {
    let (admin, name) = (gateway.admin(), format!("n{number}"));
    admin.post("/services/a/routes", &json!({"name": name, "paths": [format!("/{name}")]})).expect(201);
    assert_eq!(get(gateway.proxy, &format!("/{name}")).status, 200);
    let termination = json!({"name": "request-termination", "config": {"status_code": 403}});
    admin.post(&format!("/routes/{name}/plugins"), &termination).expect(201);
    assert_eq!(get(gateway.proxy, &format!("/{name}")).status, 403);
    admin.patch(&format!("/routes/{name}"), &json!({"paths": [format!("/{name}-moved")]})).expect(200);
    assert_eq!(get(gateway.proxy, &format!("/{name}")).status, 404);
    assert_eq!(get(gateway.proxy, &format!("/{name}-moved")).status, 403);
    admin.delete(&format!("/routes/{name}")).expect(204);
    assert_eq!(get(gateway.proxy, &format!("/{name}-moved")).status, 404);
}

fn call_until(gateway: &Gateway, stop: &AtomicBool) -> usize {
    let (mut connection, mut served) = (gateway.connect(), 0);
    while !stop.load(Ordering::Relaxed) {
        connection.send(b"GET /a/x HTTP/1.1\r\nHost: test\r\n\r\n");
        let answer = connection.response();
        assert_eq!(answer.status, 200, "{}", answer.text());
        served += 1;
        if answer.header("connection") == Some("close") {
            connection = gateway.connect();
        }
    }
    served
}
