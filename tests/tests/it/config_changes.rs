//! What the Admin API accepts holds from the next request on, and no request suffers from it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use portcullis_tests::{Client, Gateway, Upstream, full};
use serde_json::json;

#[test]
fn every_write_holds_for_the_next_request() {
    let (first, second) = (Upstream::start(), Upstream::start());
    let gateway = Gateway::start();
    let admin = gateway.admin();
    // One connection that stays and one for every request: both workers must know.
    let mut client = gateway.client();
    let mut ask = |target: &str, status: u16| {
        assert_eq!(client.get(target).status, status, "{target} on a connection that stays");
        let answer = gateway.get(target);
        assert_eq!(answer.status, status, "{target} on a new connection");
        answer
    };
    ask("/a", 404);
    admin.post("/services", json!({"name": "up", "url": first.url()}));
    let route = admin.post("/services/up/routes", json!({"paths": ["/a"], "strip_path": false}));
    ask("/a", 200);
    let route = format!("/routes/{}", route["id"].as_str().unwrap());
    admin.patch(&route, json!({"paths": ["/b"]}));
    ask("/a", 404);
    ask("/b", 200);
    let before = second.seen().len();
    admin.patch("/services/up", json!({"port": second.address.port()}));
    ask("/b", 200);
    assert_eq!(second.seen().len(), before + 2);

    let plugin = admin.post("/services/up/plugins", json!({"name": "request-termination", "config": {"status_code": 418}}));
    ask("/b", 418);
    let plugin = format!("/plugins/{}", plugin["id"].as_str().unwrap());
    admin.patch(&plugin, json!({"config": {"status_code": 420}}));
    ask("/b", 420);
    admin.patch(&plugin, json!({"enabled": false}));
    ask("/b", 200);
    admin.delete(&plugin);
    ask("/b", 200);

    admin.delete(&route);
    ask("/b", 404);
}

#[test]
fn consumers_and_keys_come_and_go_with_the_next_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let admin = gateway.admin();
    let mut client = gateway.client();
    let mut ask = |key: &str| {
        client.send(format!("GET /echo HTTP/1.1\r\nHost: gate.test\r\napikey: {key}\r\n\r\n"));
        client.answer()
    };
    admin.post("/services/up/plugins", json!({"name": "key-auth"}));
    assert_eq!(ask("one").status, 401);
    admin.post("/consumers", json!({"username": "ann"}));
    let key = admin.post("/consumers/ann/key-auth", json!({"key": "one"}));
    let answer = ask("one");
    assert_eq!((answer.status, &answer.json()["headers"]["x-consumer-username"]), (200, &json!("ann")));
    admin.patch("/consumers/ann", json!({"username": "eve"}));
    assert_eq!(ask("one").json()["headers"]["x-consumer-username"], "eve");
    admin.delete(&format!("/consumers/eve/key-auth/{}", key["id"].as_str().unwrap()));
    assert_eq!(ask("one").status, 401);
    admin.post("/consumers/eve/key-auth", json!({"key": "two"}));
    assert_eq!(ask("two").status, 200);
    admin.delete("/consumers/eve");
    assert_eq!(ask("two").status, 401);
}

#[test]
fn changes_under_load_cost_no_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let (proxy, admin) = (gateway.proxy(), gateway.admin());
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (over, answered) = (&over, &answered);
            scope.spawn(move || {
                let mut client = Client::connect(proxy);
                while !over.load(Ordering::Relaxed) {
                    if thread == 0 {
                        client = Client::connect(proxy);
                    }
                    let answer = client.get("/bytes/100");
                    assert_eq!((answer.status, answer.body.len()), (200, 100), "{}", answer.head);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The load ends when this does, even if a change fails.
        let _end = Ending(&over);
        for change in 0..if full() { 200 } else { 40 } {
            let path = format!("/there/{change}");
            match change % 4 {
                0 => drop(admin.post("/services/up/routes", json!({"name": format!("r{change}"), "paths": [path]}))),
                1 => drop(admin.post("/services/up/plugins", json!({"name": "correlation-id"}))),
                2 => drop(admin.patch("/services/up", json!({"retries": change}))),
                _ => {
                    let plugins = admin.get("/services/up/plugins");
                    admin.delete(&format!("/plugins/{}", plugins["data"][0]["id"].as_str().unwrap()));
                }
            }
        }
    });
    assert!(answered.load(Ordering::Relaxed) > 0);
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
