//! Lua: users' own plugins of different kinds, and code that would not end.

use portcullis_tests::{Gateway, Upstream, eventually};
use serde_json::json;

/// A gateway with the plugins that lie in `tests/plugins`.
fn gateway(plugins: &str) -> Gateway {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins");
    Gateway::build()
        .set("plugins", format!("bundled,{plugins}"))
        .set("lua_package_path", format!("{folder}/?.lua;{folder}/?/init.lua"))
        .start()
}

#[test]
fn a_plugin_brings_its_own_table_and_endpoints() {
    let upstream = Upstream::start();
    let gate = gateway("notes");
    gate.lead_to(&upstream);
    let admin = gate.admin();
    let listed = admin.get("/plugins/enabled");
    assert!(listed["enabled_plugins"].as_array().unwrap().contains(&json!("notes")), "{listed}");

    // Its schema joins the Admin API: what a user's Lua says is wrong is told as anything else.
    let refused = admin.send("POST", "/plugins", Some(r#"{"name":"notes","config":{"header":"a b","even":3,"shades":["grey"]}}"#));
    assert_eq!(refused.status, 400, "{}", refused.body);
    let fields = &refused.body["fields"]["config"];
    assert_eq!(fields["even"], "must be even");
    assert_eq!(fields["shades"], json!(["expected one of: light, dark"]));
    let plugin = admin.post("/plugins", json!({ "name": "notes" }));
    assert_eq!(plugin["config"], json!({ "header": "X-Note", "argument": "note", "shades": [], "even": null }));

    // Its entity has a table and the usual endpoints.
    let note = admin.post("/notes", json!({ "title": "apple", "text": "red" }));
    assert_eq!(note["reads"], 0);
    admin.post("/notes", json!({ "title": "apricot", "text": "orange" }));
    assert_eq!(admin.send("POST", "/notes", Some(r#"{"title":"apple","text":"green"}"#)).status, 409);
    assert_eq!(admin.send("POST", "/notes", Some(r#"{"title":"UPPER","text":"x"}"#)).status, 400);
    assert_eq!(admin.get("/notes/apple")["text"], "red");
    // And what it wrote itself is there too.
    assert_eq!(admin.get("/notes-summary/ap"), json!({ "count": 2, "titles": ["apple", "apricot"] }));

    for reads in ["1", "2"] {
        let answer = gate.get("/echo?note=apple");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["headers"]["x-note"], "red");
        assert_eq!(answer.header("x-reads"), Some(reads));
        assert_eq!((answer.header("x-ready"), answer.header("x-configured")), (Some("true"), Some("1")));
    }
    assert_eq!(admin.get("/notes/apple")["reads"], 2);
    let missing = gate.get("/echo?note=pear");
    assert_eq!((missing.status, missing.json()), (404, json!({ "message": "no such note" })));
}

#[test]
fn a_plugin_calls_out_over_http() {
    let (upstream, directory) = (Upstream::start(), Upstream::start());
    let gate = gateway("lookup");
    gate.lead_to(&upstream);
    let url = format!("{}/who", directory.url());
    let plugin = gate.admin().post("/plugins", json!({ "name": "lookup", "config": { "url": url } }));
    assert_eq!(plugin["config"]["timeout"], 2000);
    // More than one, so that kept connections are used.
    for _ in 0..3 {
        let answer = gate.get("/echo");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["headers"]["x-looked-up"], r#"200 POST {}"#);
    }
    eventually("the timer writes to the log", || gate.output().contains("lookups so far: 3"));
    let dead = format!("http://127.0.0.1:{}/", portcullis_tests::free_port());
    let id = plugin["id"].as_str().unwrap();
    gate.admin().patch(&format!("/plugins/{id}"), json!({ "config": { "url": dead } }));
    let answer = gate.get("/echo");
    assert_eq!((answer.status, answer.json()), (502, json!({ "message": "lookup failed: connection refused" })));
}

#[test]
fn a_plugin_filters_bodies() {
    let upstream = Upstream::start();
    let gate = gateway("stamp");
    gate.lead_to(&upstream);
    gate.admin().post("/plugins", json!({ "name": "stamp", "config": { "word": "secret", "with": "******" } }));
    let answer = gate.get("/echo?a=secret&b=secret");
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("secret") && answer.text().contains("a=******&b=******"), "{}", answer.text());
}

#[test]
fn a_plugin_answers_in_place_of_a_whole_response() {
    let upstream = Upstream::start();
    let gate = gateway("verdict");
    gate.lead_to(&upstream);
    gate.admin().post("/plugins", json!({ "name": "verdict" }));
    let kept = gate.get("/echo");
    assert_eq!((kept.status, kept.header("x-length")), (200, Some(kept.body.len().to_string().as_str())));
    let replaced = gate.get("/bytes/5000");
    assert_eq!((replaced.status, replaced.json()), (507, json!({ "message": "too long: 5000" })));
}

#[test]
fn fields_set_in_any_phase_are_logged() {
    let (upstream, sink) = (Upstream::start(), Upstream::start());
    let gate = Gateway::before(&upstream);
    let admin = gate.admin();
    let set = |name: &str| format!("kong.log.set_serialize_value('phases.{name}', kong.request.get_method())");
    let phases = json!({
        "access": [set("access")], "header_filter": [set("header")], "body_filter": [set("body")],
        "log": [set("log"), "kong.log.set_serialize_value('client_ip', 'hidden', { mode = 'add' })"],
    });
    admin.post("/plugins", json!({ "name": "pre-function", "config": phases }));
    let computed = json!({ "sum": "return 1 + 2", "request": "return nil", "who": "return kong.request.get_header('x-who')" });
    let config = json!({ "http_endpoint": sink.url(), "custom_fields_by_lua": computed });
    admin.post("/plugins", json!({ "name": "http-log", "config": config }));
    assert_eq!(gate.ask("GET /echo HTTP/1.1\r\nHost: a.test\r\nX-Who: anna\r\n\r\n").status, 200);
    eventually("the record arrives", || !sink.seen().is_empty());
    let record: serde_json::Value = serde_json::from_slice(&sink.seen()[0].body).unwrap();
    assert_eq!(record["phases"], json!({ "access": "GET", "header": "GET", "body": "GET", "log": "GET" }), "{record}");
    assert_eq!((&record["sum"], &record["who"], &record["client_ip"]), (&json!(3), &json!("anna"), &json!("127.0.0.1")));
    assert!(record.get("request").is_none());
}

#[test]
fn a_plugin_that_is_not_there_keeps_the_node_from_starting() {
    let outcome = Gateway::build().set("plugins", "bundled,nowhere").run(&["start"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.output.contains("nowhere plugin is enabled but not installed"), "{}", outcome.output);
}

#[test]
fn code_that_would_not_end_is_stopped_and_others_go_on() {
    let upstream = Upstream::start();
    let gate = Gateway::build().set("lua_memory_limit", "32").set("lua_time_limit", "2000").start();
    gate.lead_to(&upstream);
    let code = "local mode = kong.request.get_query_arg('mode')
        if mode == 'loop' then while true do end end
        if mode == 'hog' then local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end end";
    gate.admin().post("/plugins", json!({ "name": "pre-function", "config": { "access": [code] } }));
    std::thread::scope(|scope| {
        let looping = scope.spawn(|| gate.get("/echo?mode=loop").status);
        // The other worker answers meanwhile; a connection that meets the busy one waits its turn and is answered too.
        for _ in 0..8 {
            assert_eq!(gate.get("/echo").status, 200);
        }
        assert_eq!(looping.join().unwrap(), 500);
    });
    let hog = gate.get("/echo?mode=hog");
    assert_eq!((hog.status, hog.json()["message"].as_str()), (500, Some("An unexpected error occurred")));
    assert_eq!(gate.get("/echo").status, 200);
    eventually("both are in the log", || {
        let output = gate.output();
        output.contains("code ran for more than 2000 ms") && output.contains("not enough memory")
    });
}
