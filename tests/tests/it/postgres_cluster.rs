//! Several nodes on one Postgres: they agree, they outlive it, they find together again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis_tests::{Answer, Client, Gateway, Postgres, Upstream, eventually, full};
use serde_json::json;

use crate::postgres_start::{at, bootstrapped};

fn nodes(server: &Postgres, database: &str, count: usize) -> Vec<Gateway> {
    (0..count).map(|_| at(server, database).set("db_update_frequency", "1").start()).collect()
}

fn with_key(node: &Gateway, path: &str, key: &str) -> Answer {
    node.ask(format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\napikey: {key}\r\n\r\n"))
}

/// What `path` of a JSON API answers: status, head and body.
fn admin(node: &Gateway, method: &str, path: &str, body: &str) -> Answer {
    let mut client = Client::connect(node.admin().address());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: admin.test\r\nConnection: close\r\nContent-Type: application/json\r\n");
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
    client.answer_to(method)
}

fn status(node: &Gateway) -> serde_json::Value {
    Client::connect(node.status()).get("/status").json()
}

#[test]
fn a_thousand_writes_through_three_nodes_end_in_one_configuration() {
    const WRITERS: usize = 6;
    let rounds = if full() { 400 } else { 56 };
    let server = Postgres::shared();
    let database = bootstrapped(server);
    let upstream = Upstream::start();
    let nodes = nodes(server, &database, 3);
    nodes[0].lead_to(&upstream);
    let written = AtomicUsize::new(0);
    // Everybody also changes one and the same route, and every chain of writes goes from node to node.
    let shared = nodes[0].admin().post("/services/up/routes", json!({"name": "shared", "paths": ["/shared"]}));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (nodes, written) = (&nodes, &written);
            scope.spawn(move || {
                for round in 0..rounds {
                    let name = format!("w{writer}r{round}x");
                    let via = |step: usize| nodes[(writer + round + step) % nodes.len()].admin();
                    via(0).post("/services/up/routes", json!({"name": name, "paths": [format!("/old-{name}")]}));
                    via(1).patch(&format!("/routes/{name}"), json!({"paths": [format!("/{name}")]}));
                    if round % 3 == 0 {
                        via(2).delete(&format!("/routes/{name}"));
                    } else {
                        via(2).patch("/routes/shared", json!({"paths": [format!("/shared-{name}")]}));
                    }
                    written.fetch_add(3, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(written.load(Ordering::Relaxed) >= 1000);
    let last = nodes[1].admin().get(&format!("/routes/{}", shared["id"].as_str().unwrap()))["paths"][0].as_str().unwrap().to_owned();
    for node in &nodes {
        // The route that leads everything here says where a request went: the service's own path is stripped by others.
        eventually("the last writer's path is served", || node.get(&format!("{last}/echo")).json()["target"] == "/echo");
    }
    for node in &nodes {
        let mut client = node.client();
        let mut target = |path: String| client.get(&path).json()["target"].as_str().unwrap().to_owned();
        for writer in 0..WRITERS {
            for round in 0..rounds {
                let name = format!("w{writer}r{round}x");
                let served = if round % 3 == 0 { format!("/{name}/echo") } else { "/echo".to_owned() };
                assert_eq!(target(format!("/{name}/echo")), served, "{name} on {}", node.proxy());
                assert_eq!(target(format!("/old-{name}/echo")), format!("/old-{name}/echo"));
                if format!("/shared-{name}") != last {
                    assert_eq!(target(format!("/shared-{name}/echo")), format!("/shared-{name}/echo"));
                }
            }
        }
    }
    // What each of them serves, and would start from were the database away now, is the same.
    let at_rest = eventually_one_hash(&nodes);
    assert!(nodes.iter().all(|node| node.copy_hash().as_ref() == Some(&at_rest)));
    // And another once something is.
    nodes[2].admin().delete("/routes/shared");
    eventually("all say another hash", || nodes.iter().all(|node| hash(node).is_some_and(|hash| hash != at_rest)));
    assert_ne!(eventually_one_hash(&nodes), at_rest);
}

/// What a node that is asked says its configuration's hash is; unasked, its answer is Kong's.
fn hash(node: &Gateway) -> Option<String> {
    let status = |target| Client::connect(node.status()).get(target).json();
    assert_eq!(status("/status").get("configuration_hash"), None);
    status("/status?configuration_hash")["configuration_hash"].as_str().map(str::to_owned)
}

fn eventually_one_hash(nodes: &[Gateway]) -> String {
    let mut hashes = Vec::new();
    eventually("all say the same hash", || {
        hashes = nodes.iter().map(hash).collect();
        hashes[0].is_some() && hashes.iter().all(|hash| *hash == hashes[0])
    });
    hashes.remove(0).expect("it was said")
}

#[test]
fn traffic_outlives_the_database_and_all_nodes_find_together_again() {
    let server = Postgres::start();
    let database = bootstrapped(&server);
    let upstream = Upstream::start();
    let mut nodes = nodes(&server, &database, 3);
    nodes[0].lead_to(&upstream);
    let api = nodes[0].admin();
    api.post("/services/up/routes", json!({"name": "keyed", "paths": ["/keyed"], "strip_path": false}));
    api.post("/routes/keyed/plugins", json!({"name": "key-auth"}));
    api.post("/consumers", json!({"username": "ann"}));
    api.post("/consumers/ann/key-auth", json!({"key": "never-used"}));
    for node in &nodes {
        eventually("the plugin is everywhere", || with_key(node, "/keyed", "none").status == 401);
    }
    let mut restarted = nodes.pop().unwrap();
    eventually("the copy has the key", || restarted.copy_text().contains("never-used"));

    let (running, failed, served) = (AtomicBool::new(true), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for node in &nodes {
            let (running, failed, served) = (&running, &failed, &served);
            scope.spawn(move || {
                let mut client = node.client();
                while running.load(Ordering::Relaxed) {
                    let answer = client.get("/echo");
                    let done = if answer.status == 200 { served } else { failed };
                    done.fetch_add(1, Ordering::Relaxed);
                    // After so many requests on one connection (`keepalive_requests`) the node says that it ends.
                    if answer.header("connection") == Some("close") {
                        client = node.client();
                    }
                }
            });
        }
        server.kill();
        let down = Instant::now();
        for node in &nodes {
            eventually("the node sees it", || status(node)["database"]["reachable"] == json!(false));
            let begun = Instant::now();
            status(node);
            assert!(begun.elapsed() < Duration::from_millis(250), "{:?}", begun.elapsed());
            let begun = Instant::now();
            let answer = admin(node, "POST", "/services", r#"{"name":"x","host":"x.test"}"#);
            assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{}", answer.text());
            assert_eq!(admin(node, "DELETE", "/routes/all", "").status, 503);
            assert_eq!(admin(node, "GET", "/services", "").status, 503);
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            assert_eq!(with_key(node, "/keyed", "never-used").status, 200);
        }
        // A node that starts now serves what it served last.
        restarted.signal("TERM");
        restarted.wait();
        restarted.start_again();
        assert_eq!(with_key(&restarted, "/keyed", "never-used").status, 200);
        assert_eq!(with_key(&restarted, "/keyed", "wrong").status, 401);
        let told = status(&restarted);
        assert_eq!((&told["database"]["reachable"], &told["configuration"]["source"]), (&json!(false), &json!("last good copy")));
        assert_eq!(admin(&restarted, "POST", "/services", r#"{"name":"x","host":"x.test"}"#).status, 503);
        while full() && down.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(100));
        }

        server.serve();
        for node in nodes.iter().chain([&restarted]) {
            eventually("the node is back", || status(node)["database"]["reachable"] == json!(true));
        }
        running.store(false, Ordering::Relaxed);
    });
    nodes.push(restarted);
    assert_eq!((failed.load(Ordering::Relaxed), served.load(Ordering::Relaxed) > 0), (0, true));
    // Nothing of what was refused was done; what is written now reaches everybody.
    for (number, node) in nodes.iter().enumerate() {
        assert_eq!(node.admin().get("/services")["data"].as_array().unwrap().len(), 1);
        node.admin().post("/services/up/routes", json!({"name": format!("after-{number}"), "paths": [format!("/after-{number}")]}));
    }
    for node in &nodes {
        for number in 0..nodes.len() {
            let path = format!("/after-{number}/echo");
            eventually("all know the new routes", || node.get(&path).json()["target"] == "/echo");
        }
        assert_eq!(status(node).get("configuration"), None);
    }
}

#[test]
fn a_damaged_copy_costs_a_step_back_and_none_an_error() {
    let server = Postgres::start();
    let database = bootstrapped(&server);
    let upstream = Upstream::start();
    let mut node = at(&server, &database).start();
    node.lead_to(&upstream);
    eventually("a copy has the route", || node.copy_text().contains("\"all\""));
    let first = node.copies();
    node.admin().post("/consumers", json!({"username": "late"}));
    eventually("a copy has the consumer", || node.copy_text().contains("\"late\""));
    node.signal("TERM");
    node.wait();
    server.kill();
    let newest = node.copies().remove(0);
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    node.start_again();
    assert_eq!(node.get("/echo").status, 200);
    assert!(node.output().contains("(its checksum differs)"), "{}", node.output());
    node.signal("TERM");
    node.wait();
    for copy in node.copies().into_iter().chain(first) {
        let _ = std::fs::remove_file(copy);
    }
    let outcome = node.run(&["start"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.output.contains("failed to retrieve PostgreSQL server_version_num"), "{}", outcome.output);
}

#[test]
fn a_prefix_that_cannot_be_written_to_costs_the_copy_only() {
    let server = Postgres::shared();
    let database = bootstrapped(server);
    let upstream = Upstream::start();
    let build = at(server, &database);
    // A file where the folder should be: that stops root, too.
    std::fs::write(build.prefix().join("last-good"), "").unwrap();
    let node = build.start();
    node.lead_to(&upstream);
    assert_eq!(node.get("/echo").status, 200);
    eventually("it is said", || node.output().contains("the last good configuration is not kept"));
    assert_eq!(node.output().matches("the last good configuration is not kept").count(), 1);
}
