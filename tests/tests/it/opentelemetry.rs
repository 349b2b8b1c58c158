//! What an OpenTelemetry collector gets, read with the official definitions.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric, metric, number_data_point};
use portcullis_tests::{Client, Gateway, Upstream, eventually};
use prost::Message;
use serde_json::{Value, json};

/// A value as JSON. Whole numbers and floating ones stay apart.
fn plain(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        None => Value::Null,
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(flag)) => json!(flag),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::DoubleValue(number)) => json!(number),
        Some(any_value::Value::ArrayValue(list)) => list.values.iter().map(|value| plain(Some(value))).collect(),
        Some(any_value::Value::KvlistValue(list)) => attributes(&list.values),
        Some(other) => json!(format!("{other:?}")),
    }
}

fn attributes(pairs: &[KeyValue]) -> Value {
    pairs.iter().map(|pair| (pair.key.clone(), plain(pair.value.as_ref()))).collect()
}

/// Every record a collector got at this path, after what there is to check of each request.
fn records(collector: &Upstream, path: &str) -> Vec<LogRecord> {
    let seen = collector.seen().into_iter().filter(|seen| seen.target() == path);
    let batches = seen.flat_map(|seen| {
        assert_eq!((seen.header("content-type"), seen.header("x-tenant")), (Some("application/x-protobuf"), Some("one")));
        let mut request = ExportLogsServiceRequest::decode(&*seen.body).unwrap();
        assert_eq!((request.resource_logs.len(), request.resource_logs[0].scope_logs.len()), (1, 1));
        let of_resource = request.resource_logs.remove(0);
        let resource = attributes(&of_resource.resource.unwrap().attributes);
        assert_eq!(
            (&resource["service.name"], &resource["service.version"], &resource["zone"]),
            (&json!("kong"), &json!("3.9.3"), &json!("n"))
        );
        assert!(resource["service.instance.id"].as_str().is_some_and(|id| id.len() == 36), "{resource}");
        let scope = of_resource.scope_logs[0].scope.clone().unwrap();
        assert_eq!((&*scope.name, &*scope.version), ("kong-internal", "0.1.0"));
        of_resource.scope_logs[0].log_records.clone()
    });
    batches.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A gateway before an upstream whose requests write lines and a structured entry.
fn writing(upstream: &Upstream, instrumentations: &str, config: Value) -> Gateway {
    let gate = Gateway::build()
        .set("tracing_instrumentations", instrumentations)
        .set("tracing_sampling_rate", "1")
        .set("log_level", "info")
        .set("untrusted_lua", "on")
        .start();
    gate.lead_to(upstream);
    let access = "kong.log.err('seen ', kong.request.get_method(), ' ', 7)\nngx.log(ngx.INFO, 'by nginx')\nkong.log.debug('too fine')";
    let header_filter = "local entry = { size = 1.5, kept = true, ['http.status_code'] = 204, list = { 'a', 'b' } }\n\
                         assert(kong.telemetry.log('mine', {}, 'verdict', 'all well', entry))";
    let functions = json!({ "access": [access], "header_filter": [header_filter] });
    gate.admin().post("/plugins", json!({ "name": "pre-function", "config": functions }));
    gate.admin().post("/plugins", json!({ "name": "opentelemetry", "config": config }));
    gate
}

#[test]
fn what_requests_log_goes_to_a_collector_with_their_trace() {
    let (upstream, collector) = (Upstream::start(), Upstream::start());
    let gate = writing(
        &upstream,
        "all",
        json!({
            "traces_endpoint": format!("{}/v1/traces", collector.url()), "logs_endpoint": format!("{}/v1/logs", collector.url()),
            "headers": { "X-Tenant": "one" }, "resource_attributes": { "zone": "n" }, "queue": { "max_coalescing_delay": 0.05 },
        }),
    );
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let answer = gate.ask(format!("GET /a HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n\r\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.header("x-kong-request-id").unwrap();
    let of_request = || {
        let mut all = records(&collector, "/v1/logs");
        all.retain(|record| attributes(&record.attributes)["request.id"] == id);
        all
    };
    eventually("the lines arrive", || of_request().len() == 3);
    let [error, info, entry]: [LogRecord; 3] = of_request().try_into().unwrap();
    let told = |record: &LogRecord| (plain(record.body.as_ref()), record.severity_number, record.severity_text.clone());
    assert_eq!(told(&error), (json!("seen GET 7"), 17, "ERR".to_owned()));
    assert_eq!(told(&info), (json!("by nginx"), 9, "INFO".to_owned()));
    assert_eq!(told(&entry), (json!("all well"), 0, String::new()));
    for (record, line) in [(&error, 1.0), (&info, 2.0)] {
        let attributes = attributes(&record.attributes);
        assert_eq!(attributes["introspection.current.line"], line);
        assert!(attributes["introspection.source"].as_str().is_some_and(|code| code.contains("kong.log.err")), "{attributes}");
        assert_eq!((&attributes["introspection.what"], &attributes["introspection.namewhat"]), (&json!("main"), &json!("")));
    }
    let structured = attributes(&entry.attributes);
    assert_eq!((&structured["message.type"], &structured["plugin.name"]), (&json!("verdict"), &json!("mine")));
    assert_eq!((&structured["size"], &structured["kept"], &structured["list"]), (&json!(1.5), &json!(true), &json!(["a", "b"])));
    assert_eq!(structured["http.status_code"], json!(204));
    assert!(structured["introspection.current.line"] == 2.0, "{structured}");
    let span = error.span_id.clone();
    assert_eq!(span.len(), 8);
    for record in [&error, &info, &entry] {
        assert_eq!((hex(&record.trace_id), record.flags, &record.span_id), (trace.to_owned(), 1, &span));
        assert!(record.time_unix_nano > 1_700_000_000_000_000_000 && record.time_unix_nano == record.observed_time_unix_nano);
    }
}

#[test]
fn lines_are_sent_without_traces_and_the_node_s_own_lines_too() {
    let (upstream, collector) = (Upstream::start(), Upstream::start());
    let config = json!({
        "logs_endpoint": format!("{}/only", collector.url()), "headers": { "X-Tenant": "one" }, "resource_attributes": { "zone": "n" },
        "queue": { "max_coalescing_delay": 0.05 },
    });
    let gate = writing(&upstream, "off", config);
    // The gateway's own lines are lines of the request too: here nobody listens behind the service.
    let gone = format!("http://127.0.0.1:{}", portcullis_tests::free_port());
    let dead = gate.admin().post("/services", json!({ "name": "gone", "url": gone, "retries": 0 }));
    gate.admin().post("/routes", json!({ "paths": ["/gone"], "service": { "id": dead["id"] } }));
    let later = "ngx.timer.at(0, function() kong.log.warn('from a timer') end)";
    gate.admin().post("/services/gone/plugins", json!({ "name": "post-function", "config": { "access": [later] } }));
    let answer = gate.ask("GET /gone HTTP/1.1\r\nHost: a\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n");
    assert_eq!(answer.status, 502, "{}", answer.text());
    let id = answer.header("x-kong-request-id").unwrap().to_owned();
    // What belongs to no request goes with the next one.
    eventually("all of it arrives", || {
        assert_eq!(gate.get("/echo").status, 200);
        let all = records(&collector, "/only");
        let has = |text: &str, of: Option<&str>| {
            all.iter().any(|record| {
                let body = plain(record.body.as_ref());
                let attributes = attributes(&record.attributes);
                body.as_str().is_some_and(|body| body.contains(text))
                    && attributes.get("request.id").and_then(Value::as_str) == of
                    && record.trace_id.is_empty()
                    && record.span_id.is_empty()
            })
        };
        has("seen GET", Some(&id)) && has("from a timer", None)
    });
    // An instance that only sends lines leaves traces alone.
    let echoed = gate.get("/echo").json();
    assert!(echoed["headers"].get("traceparent").is_none(), "{echoed}");
}

/// The metrics of a request, after what there is to check of it.
fn metrics(body: &[u8]) -> Vec<Metric> {
    let mut request = ExportMetricsServiceRequest::decode(body).unwrap();
    assert_eq!((request.resource_metrics.len(), request.resource_metrics[0].scope_metrics.len()), (1, 1));
    let mut of_resource = request.resource_metrics.remove(0);
    assert_eq!(attributes(&of_resource.resource.unwrap().attributes)["service.name"], "kong");
    of_resource.scope_metrics.remove(0).metrics
}

#[test]
fn the_series_of_metrics_go_to_a_collector() {
    let (upstream, collector) = (Upstream::start(), Upstream::start());
    let gate = Gateway::build()
        .set("otlp_metrics_endpoint", format!("{}/v1/metrics", collector.url()))
        .set("otlp_metrics_headers", "X-Tenant: one")
        .set("otlp_metrics_interval", "1")
        .set("extra_metrics", "requests,plugins")
        .start();
    gate.lead_to(&upstream);
    let config = json!({ "status_code_metrics": true, "latency_metrics": true, "bandwidth_metrics": true });
    gate.admin().post("/plugins", json!({ "name": "prometheus", "config": config }));
    (0..3).for_each(|_| assert_eq!(gate.get("/echo").status, 200));
    let counted = |all: &[Metric]| {
        let requests = all.iter().find(|metric| metric.name == "kong_http_requests_total")?;
        let Some(metric::Data::Sum(sum)) = &requests.data else { return None };
        assert!(sum.is_monotonic && sum.aggregation_temporality == AggregationTemporality::Cumulative as i32);
        let [point] = &*sum.data_points else { return None };
        let expected =
            json!({ "service": "up", "route": "all", "code": "200", "source": "service", "workspace": "default", "consumer": "" });
        assert_eq!(attributes(&point.attributes), expected);
        assert!(point.start_time_unix_nano > 0 && point.time_unix_nano > point.start_time_unix_nano);
        Some(point.value == Some(number_data_point::Value::AsInt(3)))
    };
    eventually("all three requests are told", || collector.seen().iter().any(|seen| counted(&metrics(&seen.body)) == Some(true)));
    let seen = collector.seen();
    let last = seen.last().unwrap();
    assert_eq!((last.header("content-type"), last.header("x-tenant")), (Some("application/x-protobuf"), Some("one")));
    let all = metrics(&last.body);
    let find = |name: &str| all.iter().find(|metric| metric.name == name).unwrap_or_else(|| unreachable!("{name}")).data.clone();
    let Some(metric::Data::Histogram(latency)) = find("kong_request_latency_ms") else { unreachable!() };
    let point = &latency.data_points[0];
    assert_eq!(point.count, 3);
    assert_eq!((point.explicit_bounds.len(), point.explicit_bounds[0], point.bucket_counts.len()), (13, 25.0, 14));
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 3);
    let Some(metric::Data::Gauge(node)) = find("kong_node_info") else { unreachable!() };
    assert_eq!(node.data_points[0].value, Some(number_data_point::Value::AsInt(1)));
    let Some(metric::Data::Gauge(_)) = find("kong_http_requests_in_flight") else { unreachable!() };
    let Some(metric::Data::Sum(time)) = find("kong_plugin_seconds_total") else { unreachable!() };
    assert!(matches!(time.data_points[0].value, Some(number_data_point::Value::AsDouble(seconds)) if seconds > 0.0));
    // The same names as at `/metrics`.
    let mut scraper = Client::connect(gate.status());
    let text = scraper.get("/metrics").text();
    assert!(all.iter().all(|metric| text.contains(&format!("# TYPE {} ", metric.name))), "{text}");
}
