#![allow(clippy::unwrap_used)]
//! Behaviour of the plugin.

use std::sync::Arc;

use portcullis_entities::routes::Route;
use portcullis_plugin::extra_metrics::{ExtraGroups, ExtraMetrics};
use portcullis_plugin::testing::{TestRequest, env, plugin_in};
use portcullis_plugin::{Exchange, Exposition, Handler, Instance, Latencies, Request, ResponseHead, Session, Source};
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
    let latencies = Latencies { kong, proxy: 30, request: kong + 30, receive: 0 };
    plugin.log(&Exchange { latencies, ..exchange(&request, &response) });
}

fn exchange<'a>(request: &'a Request, response: &'a ResponseHead) -> Exchange<'a> {
    Exchange {
        request,
        response,
        source: Source::Service,
        tries: &[],
        upstream_uri: None,
        upstream_status: "",
        latencies: Latencies { kong: 3, proxy: 30, request: 33, receive: 0 },
        request_bytes: 10,
        response_bytes: 20,
    }
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
    let text = exposition::write(&env, Exposition::Text);
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
    env.state.get::<ExtraMetrics>().switch(ExtraGroups::QUEUES);
    let count = env.state.get::<crate::queue::Counts>().of("http-log");
    (0..3).for_each(|_| count.came());
    count.left(2);
    count.lost(2);
    let text = exposition::write(&env, Exposition::Text);
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
    assert!(exposition::write(&env, Exposition::Text).contains("consumer=\"\"} 4000"));
}

#[test]
fn nothing_is_counted_unless_asked_for() {
    let env = env();
    let plugin: Prometheus = plugin_in(json!({}), &Instance::default(), &env);
    log(&plugin, Some(route("r")), 200, 1);
    let text = exposition::write(&env, Exposition::Text);
    assert!(!text.contains("kong_http_requests_total") && !text.contains("latency_ms"));
}

#[test]
fn use_of_ai_is_counted_by_provider_and_model() {
    let env = env();
    let plugin: Prometheus = plugin_in(json!({ "ai_metrics": true }), &Instance::default(), &env);
    let silent: Prometheus = plugin_in(json!({}), &Instance::default(), &env);
    let mut request = TestRequest::get("/").build();
    request.route = Some(route("r"));
    let meta = json!({ "provider_name": "openai", "request_model": "large", "llm_latency": 600 });
    request.log_fields.insert("ai.proxy.meta".to_owned(), meta);
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.25 });
    request.log_fields.insert("ai.proxy.usage".to_owned(), usage);
    let response = ResponseHead::new(200);
    let exchange = exchange(&request, &response);
    plugin.log(&exchange);
    plugin.log(&exchange);
    silent.log(&exchange);
    let text = exposition::write(&env, Exposition::Text);
    let with = |name: &str, more: &str, value: &str| {
        format!(
            "{name}{{ai_provider=\"openai\",ai_model=\"large\",cache_status=\"\",vector_db=\"\",embeddings_provider=\"\",\
             embeddings_model=\"\",{more}workspace=\"default\"{value}"
        )
    };
    for line in [
        with("kong_ai_llm_requests_total", "", "} 2"),
        with("kong_ai_llm_cost_total", "", "} 0.5"),
        with("kong_ai_llm_tokens_total", "token_type=\"prompt_tokens\",", "} 20"),
        with("kong_ai_llm_tokens_total", "token_type=\"total_tokens\",", "} 30"),
        with("kong_ai_llm_provider_latency_ms_bucket", "", ",le=\"500\"} 0"),
        with("kong_ai_llm_provider_latency_ms_bucket", "", ",le=\"1000\"} 2"),
        with("kong_ai_llm_provider_latency_ms_sum", "", "} 1200"),
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
}

#[test]
fn connections_without_http_are_sessions() {
    let env = env();
    let config = json!({ "status_code_metrics": true, "latency_metrics": true, "bandwidth_metrics": true });
    let plugin: Prometheus = plugin_in(config, &Instance::default(), &env);
    let mut request = TestRequest::get("/").build();
    request.route = Some(route("tcp"));
    request.context.set(Session { received: 1, sent: 2, status: 502 });
    plugin.log(&exchange(&request, &ResponseHead::new(200)));
    let text = exposition::write(&env, Exposition::Text);
    for line in [
        "kong_stream_sessions_total{service=\"\",route=\"tcp\",code=\"502\",source=\"service\",workspace=\"default\"} 1",
        "kong_session_duration_ms_sum{service=\"\",route=\"tcp\",workspace=\"default\"} 33",
        "kong_kong_latency_ms_sum{service=\"\",route=\"tcp\",workspace=\"default\"} 3",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    for name in ["kong_http_requests_total", "kong_request_latency_ms", "kong_upstream_latency_ms", "kong_bandwidth_bytes"] {
        assert!(!text.contains(name), "{name}\n{text}");
    }
}
