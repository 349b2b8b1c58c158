//! The router's flavours, and secrets that plugins refer to.

use portcullis_tests::{Gateway, Upstream, eventually};
use serde_json::json;

#[test]
fn expressions_route_by_what_they_say_and_a_broken_one_is_told() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("router_flavor", "expressions").start();
    gateway.admin().post("/services", json!({ "name": "s", "url": upstream.url() }));
    let both = json!({ "name": "both", "priority": 2, "expression": "http.path ^= \"/x\" && any(http.queries.v) == \"2\"" });
    gateway.admin().post("/services/s/routes", both);
    let deep = json!({ "name": "deep", "priority": 1, "expression": "http.path ^= \"/x\" && http.path.segments.len > 1" });
    gateway.admin().post("/services/s/routes", deep);
    assert_eq!(gateway.get("/x?v=1&v=2").status, 200);
    assert_eq!(gateway.get("/x/y").status, 200);
    assert_eq!(gateway.get("/x").status, 404);
    let broken = json!({ "expression": "http.path == " }).to_string();
    let reply = gateway.admin().send("POST", "/services/s/routes", Some(&broken));
    assert_eq!(reply.status, 400);
    assert!(reply.body.to_string().contains("Router Expression failed validation"), "{:?}", reply.body);
}

#[test]
fn traditional_routes_may_look_ahead_in_their_paths() {
    let upstream = Upstream::start();
    let gateway = Gateway::build().set("router_flavor", "traditional").start();
    gateway.admin().post("/services", json!({ "name": "s", "url": upstream.url() }));
    gateway.admin().post("/services/s/routes", json!({ "name": "r", "paths": ["~/open/(?!secret)[a-z]+$"] }));
    assert_eq!((gateway.get("/open/door").status, gateway.get("/open/secret").status), (200, 404));
}

#[test]
fn a_plugin_gets_the_secret_and_the_admin_api_shows_the_reference() {
    let upstream = Upstream::start();
    // The variable that the reference leads to: PORTCULLIS_APP_ENDPOINT.
    let gateway = Gateway::build().set("app_endpoint", upstream.url() + "/logs").start();
    let vault = json!({ "prefix": "app", "name": "env", "config": { "prefix": "portcullis_wrong_" } });
    gateway.admin().post("/vaults", vault);
    gateway.lead_to(&upstream);
    let reference = "{vault://app/endpoint}";
    let plugin = gateway
        .admin()
        .post("/plugins", json!({ "name": "http-log", "config": { "http_endpoint": reference, "queue": { "max_coalescing_delay": 0 } } }));
    assert_eq!(plugin["config"]["http_endpoint"], reference);
    // An edited vault counts for the plugins that are there already.
    gateway.admin().patch("/vaults/app", json!({ "config": { "prefix": "portcullis_app_" } }));
    gateway.get("/");
    eventually("the log arrives where the secret says", || upstream.seen().iter().any(|seen| seen.target().starts_with("/logs")));
    let outcome = gateway.run(&["vault", "get", "app/endpoint"]);
    assert_eq!((outcome.code, outcome.output.trim()), (Some(0), (upstream.url() + "/logs").as_str()));
}
