#![allow(clippy::unwrap_used)]
//! Behaviour of the plugin.

use std::sync::Arc;

use portcullis_entities::routes::Route;
use portcullis_plugin::testing::{TestRequest, env, plugin_in};
use portcullis_plugin::{Exchange, Handler, Instance, Latencies, ResponseHead, Source};
use serde_json::json;

use super::{Prometheus, exposition};

fn route(name: &str) -> Arc<Route> {
    let record = json!({
        "id": uuid::Uuid::new_v4(), "name": name, "protocols": ["http"], "https_redirect_status_code": 426, "strip_path": true,
        "preserve_host": false, "request_buffering": true, "response_buffering": true,
    });
    Arc::new(serde_json::from_value(record).unwrap())
}

fn log(plugin: &Prometheus, route: Option<Arc<Route>>, status: u16, kong: i64) {
    let mut request = TestRequest::get("/").build();
    request.route = route;
    let response = ResponseHead { status, ..ResponseHead::default() };
    plugin.log(&Exchange {
        request: &request,
        response: &response,
        source: Source::Service,
        tries: &[],
        upstream_uri: None,
        upstream_status: "",
        latencies: Latencies { kong, proxy: 30, request: kong + 30, receive: 0 },
        request_bytes: 10,
        response_bytes: 20,
    });
}

#[test]
fn what_is_switched_on_is_counted_and_told() {
    let env = env();
    let config = json!({ "status_code_metrics": true, "latency_metrics": true, "bandwidth_metrics": true });
    let plugin: Prometheus = plugin_in(config, &Instance::default(), &env);
    let route = route("r\"1");
    log(&plugin, Some(route.clone()), 200, 2);
    log(&plugin, Some(route.clone()), 200, 7000);
    log(&plugin, Some(route), 404, 0);
    log(&plugin, None, 404, 0);
    let text = exposition::write(&env);
    for line in [
        "kong_http_requests_total{service=\"\",route=\"r\\\"1\",code=\"200\",source=\"service\",workspace=\"default\",consumer=\"\"} 2",
        "kong_http_requests_total{service=\"\",route=\"r\\\"1\",code=\"404\",source=\"service\",workspace=\"default\",consumer=\"\"} 1",
        "kong_kong_latency_ms_bucket{service=\"\",route=\"r\\\"1\",workspace=\"default\",le=\"1\"} 1",
        "kong_kong_latency_ms_bucket{service=\"\",route=\"r\\\"1\",workspace=\"default\",le=\"2\"} 2",
        "kong_kong_latency_ms_bucket{service=\"\",route=\"r\\\"1\",workspace=\"default\",le=\"6000\"} 2",
        "kong_kong_latency_ms_bucket{service=\"\",route=\"r\\\"1\",workspace=\"default\",le=\"+Inf\"} 3",
        "kong_kong_latency_ms_sum{service=\"\",route=\"r\\\"1\",workspace=\"default\"} 7002",
        "kong_bandwidth_bytes{service=\"\",route=\"r\\\"1\",direction=\"egress\",workspace=\"default\",consumer=\"\"} 60",
        "kong_datastore_reachable 1",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
}

#[test]
fn what_queues_hold_and_lose_is_told_by_plugin() {
    let env = env();
    let count = env.state.get::<crate::queue::Counts>().of("http-log");
    (0..3).for_each(|_| count.came());
    count.left(2);
    count.lost(2);
    let text = exposition::write(&env);
    for line in ["kong_queue_entries{plugin=\"http-log\"} 1", "kong_queue_lost_total{plugin=\"http-log\"} 2"] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
}

#[test]
fn threads_add_up() {
    let env = env();
    let plugin: Prometheus = plugin_in(json!({ "status_code_metrics": true }), &Instance::default(), &env);
    let route = route("r");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| log(&plugin, Some(route.clone()), 200, 1)));
        }
    });
    assert!(exposition::write(&env).contains("consumer=\"\"} 4000"));
}

#[test]
fn nothing_is_counted_unless_asked_for() {
    let env = env();
    let plugin: Prometheus = plugin_in(json!({}), &Instance::default(), &env);
    log(&plugin, Some(route("r")), 200, 1);
    let text = exposition::write(&env);
    assert!(!text.contains("kong_http_requests_total") && !text.contains("latency_ms"));
}
