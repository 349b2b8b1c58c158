//! What `/metrics` tells beyond Kong, where it is asked for.

use portcullis_tests::{Client, Gateway, Upstream, eventually};
use serde_json::json;

/// What a scraper with this `Accept` reads: the content type, and the text.
fn scrape(gate: &Gateway, accept: &str) -> (String, String) {
    let mut client = Client::connect(gate.status());
    client.send(format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"));
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    (answer.header("content-type").unwrap().to_owned(), answer.text())
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn every_group_is_told_once_it_is_asked_for() {
    let upstream = Upstream::start();
    let gate = Gateway::build()
        .set("extra_metrics", "all")
        .set("tracing_instrumentations", "all")
        .set("tracing_sampling_rate", "1")
        .set("nginx_worker_processes", "1")
        .start();
    gate.lead_to(&upstream);
    let admin = gate.admin();
    let everywhere = |name: &str, config| admin.post("/plugins", json!({ "name": name, "config": config }));
    everywhere("prometheus", json!({ "latency_metrics": true }));
    let collector = Upstream::start();
    everywhere("opentelemetry", json!({ "traces_endpoint": collector.url() }));
    let at = |path: &str, plugins: &[(&str, serde_json::Value)]| {
        let route = admin.post("/services/up/routes", json!({ "paths": [path], "strip_path": false }));
        for (name, config) in plugins {
            admin.post("/plugins", json!({ "name": name, "config": config, "route": { "id": route["id"] } }));
        }
    };
    at("/locked", &[("key-auth", json!({}))]);
    at("/limited", &[("rate-limiting", json!({ "hour": 1, "policy": "local" }))]);
    at("/kept", &[("proxy-cache", json!({ "strategy": "memory", "content_type": ["application/json"] }))]);
    let gone = format!("http://127.0.0.1:{}", portcullis_tests::free_port());
    admin.post("/services", json!({ "name": "gone", "url": gone, "retries": 2 }));
    admin.post("/services/gone/routes", json!({ "paths": ["/gone"] }));

    assert_eq!(gate.get("/locked").status, 401);
    assert_eq!(gate.ask("GET /locked HTTP/1.1\r\nHost: a\r\napikey: wrong\r\n\r\n").status, 401);
    assert_eq!([gate.get("/limited").status, gate.get("/limited").status], [200, 429]);
    assert_eq!([gate.get("/kept").status, gate.get("/kept").status], [200, 200]);
    assert_eq!(gate.get("/gone").status, 502);
    gate.get("/a");
    let mut broken = Client::connect(gate.proxy_tls());
    broken.send(b"\x16\x03\x01\x00\x05hello");
    broken.to_end();
    let mut held = gate.client();
    // The newest request of whichever bucket it falls into.
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    held.send(format!("GET /hold HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n\r\n"));

    let told = || scrape(&gate, "text/plain").1;
    eventually("the request that is held is told", || value(&told(), "kong_http_requests_in_flight ") == Some(1.0));
    upstream.release();
    assert_eq!(held.answer().status, 200);
    eventually("it is over", || value(&told(), "kong_http_requests_in_flight ") == Some(0.0));
    let text = told();
    for (series, expected) in [
        ("kong_auth_failures_total{plugin=\"key-auth\",reason=\"missing\"}", 1.0),
        ("kong_auth_failures_total{plugin=\"key-auth\",reason=\"invalid\"}", 1.0),
        ("kong_rate_limit_decisions_total{plugin=\"rate-limiting\",decision=\"allowed\"}", 1.0),
        ("kong_rate_limit_decisions_total{plugin=\"rate-limiting\",decision=\"limited\"}", 1.0),
        ("kong_rate_limit_decisions_total{plugin=\"rate-limiting\",decision=\"not_counted\"}", 0.0),
        ("kong_proxy_cache_results_total{result=\"miss\"}", 1.0),
        ("kong_proxy_cache_results_total{result=\"hit\"}", 1.0),
        // Three tries without a connection; of two it was told that another followed.
        ("kong_upstream_connections_total{result=\"failed\"}", 3.0),
        ("kong_upstream_retries_total{reason=\"connect\"}", 2.0),
        ("kong_upstream_retries_total{reason=\"timeout\"}", 0.0),
        ("kong_tls_handshakes_total{result=\"failed\"}", 1.0),
        ("kong_plugin_calls_total{plugin=\"key-auth\",phase=\"access\"}", 2.0),
        ("kong_config_errors_total", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    let some = |series: &str| value(&text, series).unwrap_or_else(|| unreachable!("{series}\n{text}"));
    assert!(some("kong_upstream_connections_total{result=\"connected\"}") >= 1.0);
    assert!(some("kong_upstream_connections_total{result=\"reused\"}") >= 1.0);
    assert!(some("kong_plugin_seconds_total{plugin=\"prometheus\",phase=\"log\"}") > 0.0);
    assert!(some("kong_config_version ") >= 10.0 && some("kong_config_published_timestamp_seconds ") > 1.7e9);
    eventually("spans are sent", || value(&told(), "kong_queue_sent_total{plugin=\"opentelemetry\"}") > Some(0.0));
    // Exemplars are for those who ask for OpenMetrics.
    assert!(!text.contains(trace) && !text.contains("# EOF"));
    let (kind, open) = scrape(&gate, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let with = format!(" # {{trace_id=\"{trace}\"}} ");
    assert!(open.lines().any(|line| line.starts_with("kong_request_latency_ms_bucket{") && line.contains(&with)), "{open}");
    assert!(open.contains("# TYPE kong_auth_failures counter\n") && open.ends_with("# EOF\n"), "{open}");
    // Once more: what is told is bounded, however much comes.
    assert!(open.lines().count() < 400, "{open}");
}

#[test]
fn nothing_of_it_is_told_unless_asked_for_and_wrong_words_are_refused() {
    let upstream = Upstream::start();
    let gate = Gateway::before(&upstream);
    gate.admin().post("/plugins", json!({ "name": "http-log", "config": { "http_endpoint": upstream.url() } }));
    gate.admin().post("/plugins", json!({ "name": "prometheus", "config": { "latency_metrics": true } }));
    gate.get("/a");
    let (kind, text) = scrape(&gate, "application/openmetrics-text");
    assert_eq!(kind, "text/plain; charset=UTF-8");
    for name in ["in_flight", "kong_upstream_connections", "kong_plugin_", "kong_auth_", "kong_config_", "kong_queue_", "kong_tls_"] {
        assert!(!text.contains(name), "{name}\n{text}");
    }
    let outcome = Gateway::build().set("extra_metrics", "requests,colours").run(&["start"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.output.contains("extra_metrics: there is no group colours"), "{}", outcome.output);
}
