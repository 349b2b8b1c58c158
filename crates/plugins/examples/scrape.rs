//! How long a scrape of prometheus' metrics takes, and counting a request: `cargo run --release --example scrape [ROUTES]`.
//!
//! Every route has been asked on two threads, as by two workers, and every metric is on.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::sync::Arc;
use std::time::Instant;

use portcullis_entities::routes::Route;
use portcullis_plugin::extra_metrics::{ExtraGroups, ExtraMetrics, Phase, Tally};
use portcullis_plugin::testing::{TestRequest, env, exchange};
use portcullis_plugin::{Exposition, Handler, Instance, ResponseHead};
use serde_json::json;

fn route(number: usize) -> Arc<Route> {
    let record = json!({
        "id": uuid::Uuid::new_v4(), "name": format!("route-{number}"), "protocols": ["http"], "https_redirect_status_code": 426,
        "strip_path": true, "preserve_host": false, "request_buffering": true, "response_buffering": true,
    });
    Arc::new(serde_json::from_value(record).unwrap())
}

fn log(plugin: &dyn Handler, routes: &[Arc<Route>]) {
    let mut request = TestRequest::get("/").build();
    request.log_fields.insert("trace_id.w3c".to_owned(), "4bf92f3577b34da6a3ce929d0e0e4736".into());
    let response = ResponseHead::new(200);
    for route in routes {
        request.route = Some(route.clone());
        plugin.log(&exchange(&request, &response));
    }
}

fn main() {
    let count = std::env::args().nth(1).map_or(10_000, |count| count.parse().unwrap());
    let env = env();
    let extra = env.state.get::<ExtraMetrics>();
    extra.switch(ExtraGroups::ALL);
    let entry = portcullis_plugins::ALL.iter().find(|entry| entry.name == "prometheus").unwrap();
    let config = json!({
        "status_code_metrics": true, "latency_metrics": true, "bandwidth_metrics": true, "per_consumer": true, "ai_metrics": false,
        "upstream_health_metrics": false,
    });
    let plugin = (entry.make)(config, &Instance::default(), &env).unwrap();
    let routes: Vec<_> = (0..count).map(route).collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| log(&*plugin, &routes));
        }
    });
    const TURNS: u32 = 1_000_000;
    let one = vec![routes[0].clone(); TURNS as usize];
    let begun = Instant::now();
    log(&*plugin, &one);
    println!("counting a request: {:?}", begun.elapsed() / TURNS);
    let begun = Instant::now();
    for _ in 0..TURNS {
        let _in_flight = extra.enter();
        extra.count(ExtraGroups::UPSTREAMS, Tally::Reused);
        for plugin in ["key-auth", "rate-limiting", "prometheus"] {
            let begun = Instant::now();
            extra.took(plugin, Phase::Access, begun.elapsed());
        }
    }
    println!("in flight, connection and time of three plugins: {:?}", begun.elapsed() / TURNS);
    let mut times: Vec<_> = (0..9)
        .map(|_| {
            let begun = Instant::now();
            let text = (entry.metrics.unwrap())(&env, Exposition::OpenMetrics);
            (begun.elapsed(), text.len())
        })
        .collect();
    times.sort();
    println!("scrape of {count} routes: {:?} (median of 9, {} bytes)", times[4].0, times[4].1);
}
