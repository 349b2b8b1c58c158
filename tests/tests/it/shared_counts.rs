//! Policy `cluster`: counts live in the database, so nodes count together and restarts forget nothing.

use portcullis_tests::{Gateway, Postgres, Upstream, eventually};
use serde_json::{Value, json};

use crate::postgres_start::{at, bootstrapped};

fn limited(gateway: &Gateway, upstream: &Upstream, plugin: &str, config: Value) {
    gateway.lead_to(upstream);
    gateway.admin().post("/services/up/plugins", json!({"name": plugin, "config": config}));
}

/// What the database counted: client, period and sum.
fn counted(server: &Postgres, database: &str, table: &str) -> Vec<String> {
    let sql = format!("SELECT identifier || ' ' || period || ' ' || sum(value) FROM {table} GROUP BY identifier, period ORDER BY 1");
    server.run(database, &sql).lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn nodes_on_one_database_admit_a_limit_together_and_exactly() {
    let (server, upstream) = (Postgres::shared(), Upstream::start());
    let database = bootstrapped(server);
    let nodes: Vec<Gateway> = (0..2).map(|_| at(server, &database).start()).collect();
    limited(&nodes[0], &upstream, "rate-limiting", json!({"year": 20, "policy": "cluster"}));
    eventually("the other node limits too", || nodes[1].get("/bytes/1").header("x-ratelimit-limit-year") == Some("20"));
    let sum = || -> usize {
        let rows = counted(server, &database, "ratelimiting_metrics");
        let (who, sum) = rows[0].rsplit_once(' ').unwrap();
        assert_eq!((rows.len(), who), (1, "127.0.0.1 year"));
        sum.parse().unwrap()
    };
    let before = sum();
    let admitted: usize = std::thread::scope(|scope| {
        let of_one = |node| scope.spawn(move || (0..10).filter(|_| Gateway::get(node, "/bytes/1").status == 200).count());
        let threads: Vec<_> = nodes.iter().flat_map(|node| [of_one(node), of_one(node)]).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((sum(), before + admitted), (20, 20));
    let refused = nodes[0].get("/bytes/1");
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining-year")), (429, Some("0")));
    assert_eq!(sum(), before + admitted);
}

#[test]
fn the_embedded_database_keeps_counts_across_restarts() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start();
    limited(&gateway, &upstream, "rate-limiting", json!({"year": 3, "month": 3, "policy": "cluster"}));
    let remaining = |gateway: &Gateway| gateway.get("/bytes/1").header("x-ratelimit-remaining-year").map(str::to_owned);
    assert_eq!(remaining(&gateway).as_deref(), Some("2"));
    assert_eq!(remaining(&gateway).as_deref(), Some("1"));
    gateway.signal("TERM");
    gateway.wait();
    gateway.start_again();
    assert_eq!(remaining(&gateway).as_deref(), Some("0"));
    assert_eq!(gateway.get("/bytes/1").status, 429);
}

#[test]
fn without_its_database_a_limit_lets_pass_or_fails_as_told() {
    let upstream = Upstream::start();
    let server = Postgres::start();
    let database = bootstrapped(&server);
    let gateway = at(&server, &database).start();
    limited(&gateway, &upstream, "rate-limiting", json!({"year": 1, "policy": "cluster"}));
    let strict = gateway.admin().post("/services/up/routes", json!({"name": "strict", "paths": ["/strict"], "strip_path": true}));
    let config = json!({"year": 1, "policy": "cluster", "fault_tolerant": false});
    gateway.admin().post("/plugins", json!({"name": "rate-limiting", "route": {"id": strict["id"]}, "config": config}));
    server.kill();
    assert_eq!([gateway.get("/bytes/1").status, gateway.get("/bytes/1").status], [200, 200]);
    let refused = gateway.get("/strict/bytes/1");
    assert_eq!((refused.status, &refused.json()["message"]), (500, &json!("An unexpected error occurred")));
}

#[test]
fn responses_are_counted_together_too() {
    let (server, upstream) = (Postgres::shared(), Upstream::start());
    let database = bootstrapped(server);
    let nodes: Vec<Gateway> = (0..2).map(|_| at(server, &database).start()).collect();
    limited(&nodes[0], &upstream, "response-ratelimiting", json!({"limits": {"video": {"year": 5}}, "policy": "cluster"}));
    let costs = json!({"header_filter": ["kong.response.set_header('x-kong-limit', 'video=2')"]});
    nodes[0].admin().post("/services/up/plugins", json!({"name": "pre-function", "config": costs}));
    let left = |node: &Gateway| node.get("/bytes/1").header("x-ratelimit-remaining-video-year").map(str::to_owned);
    assert_eq!(left(&nodes[0]).as_deref(), Some("3"));
    // A response is counted after it was sent.
    let is_counted = |sum: u32| {
        let wanted = [format!("127.0.0.1 video_year {sum}")];
        eventually("the response is counted", || counted(server, &database, "response_ratelimiting_metrics") == wanted);
    };
    is_counted(2);
    // Once the other node has heard of it all, its responses cost as much.
    eventually("the other node tells what is left", || left(&nodes[1]).is_some_and(|left| left != "5"));
    eventually("everything is used up", || nodes[1].get("/bytes/1").status == 429);
    assert_eq!(nodes[0].get("/bytes/1").status, 429);
}

#[test]
fn without_a_database_there_is_no_such_policy() {
    let gateway = Gateway::build().set("database", "off").start();
    let file = json!({"_format_version": "3.0", "plugins": [{"name": "rate-limiting", "config": {"minute": 5, "policy": "cluster"}}]});
    let refused = gateway.admin().send("POST", "/config", Some(&file.to_string()));
    assert_eq!(refused.status, 400);
    assert!(refused.body.to_string().contains("expected one of: local, redis"), "{:?}", refused.body);
    let schema = gateway.admin().get("/schemas/plugins/rate-limiting").to_string();
    assert!(schema.contains(r#"["local","redis"]"#), "{schema}");
}
