//! Log records of all kinds of exchanges, field by field: there is no field but those that are expected, and every value is compared.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use portcullis_tests::{Gateway, PATIENCE, Upstream, eventually, free_port};
use serde_json::{Map, Value, json};

use crate::tls_and_http2::connect;

/// Compares a record with what is expected of it. Text between angle brackets stands for what no test can know.
fn compare(got: &Value, expected: &Value, at: &str) {
    let number = |most: u64| got.as_u64().is_some_and(|number| number <= most);
    match expected {
        Value::Object(fields) => {
            let Some(found) = got.as_object() else { unreachable!("{at}: {got}") };
            let names = |fields: &Map<String, Value>| fields.keys().cloned().collect::<Vec<_>>().join(" ");
            assert_eq!(names(found), names(fields), "fields of {at}");
            fields.iter().for_each(|(name, expected)| compare(&found[name], expected, &format!("{at}.{name}")));
        }
        Value::Array(list) => {
            let Some(found) = got.as_array().filter(|found| found.len() == list.len()) else { unreachable!("{at}: {got}") };
            found.iter().zip(list).enumerate().for_each(|(place, (got, expected))| compare(got, expected, &format!("{at}[{place}]")));
        }
        Value::String(text) => match &**text {
            "<ms>" => assert!(number(60_000), "{at}: {got}"),
            "<size>" => assert!(number(100_000), "{at}: {got}"),
            "<time ms>" => assert!(got.as_u64().is_some_and(|time| time / 1_000_000_000_000 == 1), "{at}: {got}"),
            "<time ns>" => assert!(got.as_u64().is_some_and(|time| time / 1_000_000_000_000_000_000 == 1), "{at}: {got}"),
            "<ns>" => assert!(got.is_u64(), "{at}: {got}"),
            "<request id>" => {
                let hex = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                assert!(got.as_str().is_some_and(hex), "{at}: {got}");
            }
            "<uuid>" => assert!(got.as_str().is_some_and(|text| text.len() == 36), "{at}: {got}"),
            "<some>" => assert!(got.is_string() && got != "", "{at}: {got}"),
            "<anything>" => {}
            _ => assert_eq!(got, expected, "{at}"),
        },
        _ => assert_eq!(got, expected, "{at}"),
    }
}

/// A gateway that logs everything, and what it logs.
struct Logged {
    gate: Gateway,
    upstream: Upstream,
    sink: Upstream,
}

impl Logged {
    fn start() -> Self {
        Self::of(Gateway::build().start())
    }

    fn of(gate: Gateway) -> Self {
        let logged = Self { gate, upstream: Upstream::start(), sink: Upstream::start() };
        logged.gate.lead_to(&logged.upstream);
        let config = json!({ "http_endpoint": format!("{}/log", logged.sink.url()) });
        let protocols = ["http", "https", "tcp"];
        logged.gate.admin().post("/plugins", json!({ "name": "http-log", "config": config, "protocols": protocols }));
        logged
    }

    /// The record that one more exchange leaves.
    fn record(&self, exchange: impl FnOnce()) -> Value {
        let before = self.sink.seen().len();
        exchange();
        eventually("the record arrives", || self.sink.seen().len() > before);
        serde_json::from_slice(&self.sink.seen()[before].body).unwrap()
    }

    /// An entity as records tell of it: as the gateway holds it, without what is not set.
    fn entity(&self, path: &str, workspace: bool) -> Value {
        let mut entity = self.gate.admin().get(path);
        let fields = entity.as_object_mut().unwrap();
        fields.retain(|_, value| !value.is_null());
        if workspace {
            fields.insert("ws_id".to_owned(), "<uuid>".into());
        }
        entity
    }

    /// What every record of a routed request has; `more` says the rest.
    fn expected(&self, route: &str, service: &str, more: Value) -> Value {
        let mut expected = json!({
            "upstream_status": "200", "client_ip": "127.0.0.1", "started_at": "<time ms>", "source": "upstream", "workspace": "<uuid>",
            "workspace_name": "default", "tries": [attempt(self.upstream.address)],
            "latencies": { "kong": "<ms>", "proxy": "<ms>", "request": "<ms>", "receive": "<ms>" },
            "route": self.entity(&format!("/routes/{route}"), true), "service": self.entity(&format!("/services/{service}"), true),
        });
        let fields = expected.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        fields.retain(|_, value| !value.is_null());
        expected
    }

    fn url(&self, host: &str, target: &str) -> String {
        format!("http://{host}:{}{target}", self.gate.proxy().port())
    }
}

/// A try that was the last.
fn attempt(address: SocketAddr) -> Value {
    json!({
        "balancer_start": "<time ms>", "balancer_start_ns": "<time ns>", "balancer_latency": "<ms>", "balancer_latency_ns": "<ns>",
        "ip": "127.0.0.1", "port": address.port(),
    })
}

/// A try that failed and was followed by another.
fn failed(address: SocketAddr) -> Value {
    let mut attempt = attempt(address);
    attempt["state"] = "failed".into();
    attempt["code"] = 502.into();
    attempt
}

fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Asks on a connection of its own; answers the whole of what came back.
fn raw(gate: &Gateway, request: &str) -> Vec<u8> {
    let mut client = gate.client();
    client.send(request);
    client.to_end()
}

/// The header lines of an answer as records tell of them.
fn headers(answer: &[u8]) -> Value {
    let text = String::from_utf8_lossy(answer).into_owned();
    let head = text.split("\r\n\r\n").next().unwrap();
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.to_ascii_lowercase(), json!(value))).collect()
}

#[test]
fn a_plain_request() {
    let logged = Logged::start();
    let target = "/echo?x=1&y=a%20b&y=2&flag";
    let request = format!("GET {target} HTTP/1.1\r\nHost: A.test:80\r\nX-Many: a\r\nX-Many: b\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let record = logged.record(|| answer = raw(&logged.gate, &request));
    let expected = logged.expected(
        "all",
        "up",
        json!({
            "request": {
                "id": "<request id>", "method": "GET", "uri": target, "url": logged.url("a.test", target), "size": request.len(),
                "querystring": { "x": "1", "y": ["a b", "2"], "flag": true },
                "headers": { "host": "A.test:80", "x-many": ["a", "b"], "connection": "close" },
            },
            "upstream_uri": target,
            "response": { "status": 200, "size": answer.len(), "headers": headers(&answer) },
        }),
    );
    compare(&record, &expected, "record");
    assert_eq!(record["request"]["id"], headers(&answer)["x-kong-request-id"]);
}

#[test]
fn a_request_of_a_consumer_who_was_authenticated() {
    let logged = Logged::start();
    let admin = logged.gate.admin();
    admin.post("/consumers", json!({ "username": "anna", "custom_id": "c-17" }));
    let credential = admin.post("/consumers/anna/basic-auth", json!({ "username": "anna", "password": "secret" }));
    admin.post("/plugins", json!({ "name": "basic-auth" }));
    let request = "GET /a HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic YW5uYTpzZWNyZXQ=\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let record = logged.record(|| answer = raw(&logged.gate, request));
    let expected = logged.expected(
        "all",
        "up",
        json!({
            "request": {
                "id": "<request id>", "method": "GET", "uri": "/a", "url": logged.url("a.test", "/a"), "size": request.len(),
                "querystring": {},
                "headers": {
                    "host": "a.test", "authorization": "REDACTED", "connection": "close", "x-consumer-id": "<uuid>",
                    "x-consumer-username": "anna", "x-consumer-custom-id": "c-17", "x-credential-identifier": "anna",
                },
            },
            "upstream_uri": "/a",
            "response": { "status": 200, "size": answer.len(), "headers": headers(&answer) },
            "authenticated_entity": { "id": credential["id"] },
            "consumer": logged.entity("/consumers/anna", false),
        }),
    );
    compare(&record, &expected, "record");
}

#[test]
fn a_request_over_tls() {
    let logged = Logged::start();
    let record = logged.record(|| {
        let (mut client, _) = connect(logged.gate.proxy_tls(), "gate.test");
        assert_eq!(client.get("/a").status, 200);
    });
    let port = logged.gate.proxy_tls().port();
    let expected = logged.expected(
        "all",
        "up",
        json!({
            "request": {
                "id": "<request id>", "method": "GET", "uri": "/a", "url": format!("https://gate.test:{port}/a"), "size": "<size>",
                "querystring": {}, "headers": "<anything>",
                "tls": { "version": "TLSv1.3", "cipher": "<some>", "client_verify": "NONE" },
            },
            "upstream_uri": "/a",
            "response": { "status": 200, "size": "<size>", "headers": "<anything>" },
        }),
    );
    compare(&record, &expected, "record");
}

#[test]
fn a_request_that_was_tried_twice_and_one_that_nobody_answered() {
    let logged = Logged::start();
    let admin = logged.gate.admin();
    let (dead, gone) = (nobody(), nobody());
    admin.post("/upstreams", json!({ "name": "both" }));
    for target in [dead, logged.upstream.address] {
        admin.post("/upstreams/both/targets", json!({ "target": target.to_string() }));
    }
    admin.post("/services", json!({ "name": "both", "host": "both" }));
    admin.post("/services/both/routes", json!({ "name": "both", "paths": ["/both"] }));
    admin.post("/services", json!({ "name": "gone", "url": format!("http://{gone}/base"), "retries": 1 }));
    admin.post("/services/gone/routes", json!({ "name": "gone", "paths": ["/gone"] }));
    // Two targets in turn: of two requests one begins with the wrong one.
    let ask = || logged.record(|| assert_eq!(logged.gate.get("/both").status, 200));
    let record = [ask(), ask()].into_iter().find(|record| record["tries"].as_array().is_some_and(|tries| tries.len() == 2)).unwrap();
    let request = |path: &str| {
        json!({
            "id": "<request id>", "method": "GET", "uri": path, "url": "<some>", "size": "<size>", "querystring": {},
            "headers": "<anything>",
        })
    };
    let more = json!({
        "request": request("/both"), "upstream_uri": "/", "upstream_status": "502, 200",
        "response": { "status": 200, "size": "<size>", "headers": "<anything>" },
        "tries": [failed(dead), attempt(logged.upstream.address)],
    });
    compare(&record, &logged.expected("both", "both", more), "record");

    let record = logged.record(|| assert_eq!(logged.gate.get("/gone").status, 502));
    let more = json!({
        "request": request("/gone"), "upstream_uri": "/base", "upstream_status": "502, 502", "source": "kong",
        "response": { "status": 502, "size": "<size>", "headers": "<anything>" },
        "tries": [failed(gone), attempt(gone)],
        "latencies": { "kong": "<ms>", "proxy": "<anything>", "request": "<ms>", "receive": "<ms>" },
    });
    compare(&record, &logged.expected("gone", "gone", more), "record");
}

#[test]
fn answers_of_the_gateway_s_own() {
    let logged = Logged::start();
    let admin = logged.gate.admin();
    admin.post("/services/up/routes", json!({ "name": "locked", "paths": ["/locked"] }));
    admin.post("/routes/locked/plugins", json!({ "name": "key-auth" }));
    let request = "GET /locked/x?a=1 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let record = logged.record(|| answer = raw(&logged.gate, request));
    let asked = |target: &str, query: Value| {
        json!({
            "id": "<request id>", "method": "GET", "uri": target, "url": logged.url("a.test", target), "size": "<size>",
            "querystring": query, "headers": { "host": "a.test", "connection": "close" },
        })
    };
    let latencies = json!({ "kong": "<ms>", "proxy": -1, "request": "<ms>", "receive": 0 });
    let more = json!({
        "request": asked("/locked/x?a=1", json!({ "a": "1" })), "upstream_uri": "/x?a=1", "upstream_status": "", "source": "kong",
        "response": { "status": 401, "size": answer.len(), "headers": headers(&answer) }, "tries": [], "latencies": latencies,
    });
    compare(&record, &logged.expected("locked", "up", more), "record");

    admin.delete("/routes/all");
    let request = "GET /nowhere?b HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let record = logged.record(|| answer = raw(&logged.gate, request));
    let expected = json!({
        "request": asked("/nowhere?b", json!({ "b": true })), "upstream_uri": "", "upstream_status": "", "source": "kong",
        "response": { "status": 404, "size": answer.len(), "headers": headers(&answer) }, "latencies": latencies,
        "client_ip": "127.0.0.1", "started_at": "<time ms>", "workspace": "<uuid>", "workspace_name": "default",
    });
    compare(&record, &expected, "record");
}

#[test]
fn a_connection_without_http() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let behind = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 5];
            let _ = stream.read_exact(&mut asked);
            let _ = stream.write_all(b"twelve bytes");
        }
    });
    let address = nobody();
    let logged = Logged::of(Gateway::build().set("stream_listen", address.to_string()).start());
    let admin = logged.gate.admin();
    admin.post("/services", json!({ "name": "tcp", "protocol": "tcp", "host": "127.0.0.1", "port": behind.port() }));
    let route = json!({ "name": "tcp", "protocols": ["tcp"], "destinations": [{ "port": address.port() }] });
    admin.post("/services/tcp/routes", route);
    let record = logged.record(|| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"twelve bytes");
    });
    let expected = json!({
        "session": { "received": 5, "sent": 12, "status": 200, "server_port": address.port() },
        "upstream": { "received": 12, "sent": 5 },
        "latencies": { "kong": "<ms>", "session": "<ms>" },
        "tries": [attempt(behind)],
        "route": logged.entity("/routes/tcp", true), "service": logged.entity("/services/tcp", true),
        "client_ip": "127.0.0.1", "started_at": "<time ms>", "workspace": "<uuid>", "workspace_name": "default",
    });
    compare(&record, &expected, "record");
}

#[test]
fn fields_of_plugins_stand_among_the_others() {
    let logged = Logged::start();
    let admin = logged.gate.admin();
    admin.post("/plugins", json!({ "name": "correlation-id", "config": { "header_name": "X-Id", "generator": "uuid" } }));
    let code = "kong.log.set_serialize_value('request.headers', nil)\nkong.log.set_serialize_value('request.mine', { 'a', 1 })\n\
                kong.log.set_serialize_value('tries', nil)\nkong.log.set_serialize_value('deep.\"er', true)\n\
                kong.log.set_serialize_value('source', 'x', { mode = 'add' })\n\
                kong.log.set_serialize_value('nothing.at', 'all', { mode = 'replace' })";
    admin.post("/plugins", json!({ "name": "pre-function", "config": { "access": [code] } }));
    let record = logged.record(|| assert_eq!(logged.gate.get("/a").status, 200));
    let expected = logged.expected(
        "all",
        "up",
        json!({
            "request": {
                "id": "<request id>", "method": "GET", "uri": "/a", "url": "<some>", "size": "<size>", "querystring": {},
                "mine": ["a", 1],
            },
            "upstream_uri": "/a", "tries": null, "correlation_id": "<uuid>", "deep": { "\"er": true },
            "response": { "status": 200, "size": "<size>", "headers": "<anything>" },
        }),
    );
    compare(&record, &expected, "record");
}
