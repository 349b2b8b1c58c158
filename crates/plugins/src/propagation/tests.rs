//! What goes on, by what came in and what is set.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::TestRequest;
use serde_json::{Value, json};

use super::{Config, Outgoing, Propagation, TraceId};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The trace headers that go on, when the request is `given`. The new span is 1, the new trace 2.
fn told(propagation: &Propagation, given: &[(&str, &str)]) -> Vec<(String, String)> {
    let request = given.iter().fold(TestRequest::get("/"), |request, (name, value)| request.header(name, value));
    let mut request = request.build();
    let found = propagation.extract(&request.head.headers);
    let out = Outgoing {
        trace: found.as_ref().and_then(|found| found.trace).unwrap_or(TraceId { value: 2, short: false }),
        span: 1,
        parent: found.as_ref().and_then(|found| found.span),
        sampled: found.as_ref().and_then(|found| found.sampled).unwrap_or(true),
        debug: found.as_ref().is_some_and(|found| found.debug),
        quiet_when_unsampled: false,
    };
    propagation.inject(&mut request, found.as_ref(), &out);
    let mut headers = portcullis_plugin::testing::texts(&request.head.headers);
    headers.retain(|(name, _)| name != "host");
    headers.sort();
    headers
}

fn propagation(given: Value) -> Propagation {
    let mut config = json!({ "default_format": "w3c" });
    config.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
    Propagation::new(&serde_json::from_value::<Config>(config).unwrap(), None, None)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_format_goes_on_as_it_came() {
    let propagation = propagation(json!({}));
    let parent = "00f067aa0ba902b7";
    for (given, expected) in [
        (
            [("traceparent", format!("00-{TRACE}-{parent}-01"))].to_vec(),
            [("traceparent", format!("00-{TRACE}-0000000000000001-01"))].to_vec(),
        ),
        ([("b3", format!("{TRACE}-{parent}-d"))].to_vec(), [("b3", format!("{TRACE}-0000000000000001-d-{parent}"))].to_vec()),
        ([("b3", "0".to_owned())].to_vec(), [("b3", format!("{:032x}-0000000000000001-0", 2))].to_vec()),
        (
            [("uber-trace-id", format!("{TRACE}:{parent}:a2fb4a1d1a96d312:1"))].to_vec(),
            [("uber-trace-id", format!("{TRACE}:0000000000000001:{parent}:01"))].to_vec(),
        ),
        (
            [("x-amzn-trace-id", format!("Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent={parent};Sampled=0"))].to_vec(),
            [("x-amzn-trace-id", "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=0000000000000001;Sampled=0".to_owned())].to_vec(),
        ),
        (
            [("x-cloud-trace-context", format!("{TRACE}/1234567890123456789;o=1"))].to_vec(),
            [("x-cloud-trace-context", format!("{TRACE}/1;o=1"))].to_vec(),
        ),
        (
            [("x-datadog-trace-id", "1234567890123456789".to_owned()), ("x-datadog-sampling-priority", "-1".to_owned())].to_vec(),
            [
                ("x-datadog-parent-id", "1".to_owned()),
                ("x-datadog-sampling-priority", "0".to_owned()),
                ("x-datadog-trace-id", "1234567890123456789".to_owned()),
            ]
            .to_vec(),
        ),
        (
            [("ot-tracer-traceid", "4bf92f3577b34da6".to_owned()), ("ot-baggage-tier", "gold".to_owned())].to_vec(),
            [
                ("ot-baggage-tier", "gold".to_owned()),
                ("ot-tracer-sampled", "1".to_owned()),
                ("ot-tracer-spanid", "0000000000000001".to_owned()),
                ("ot-tracer-traceid", "4bf92f3577b34da6".to_owned()),
            ]
            .to_vec(),
        ),
    ] {
        let given: Vec<(&str, &str)> = given.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let expected: Vec<(&str, &str)> = expected.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(told(&propagation, &given), pairs(&expected));
    }
}

#[test]
fn settings_say_what_is_read_cleared_and_written() {
    let propagation = propagation(json!({ "extract": ["w3c"], "clear": ["traceparent", "x-extra"], "inject": ["preserve", "b3", "aws"] }));
    let given = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("x-extra", "gone"), ("b3", "1")];
    let expected = [
        ("b3", "1"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01"),
        ("x-amzn-trace-id", "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=0000000000000001;Sampled=1"),
        ("x-b3-parentspanid", "00f067aa0ba902b7"),
        ("x-b3-sampled", "1"),
        ("x-b3-spanid", "0000000000000001"),
        ("x-b3-traceid", TRACE),
    ];
    assert_eq!(told(&propagation, &given), pairs(&expected));
}

#[test]
fn empty_lists_mean_nothing_at_all() {
    let given = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    assert_eq!(told(&propagation(json!({ "inject": [] })), &given), pairs(&given));
    let told = told(&propagation(json!({ "extract": [] })), &given);
    assert_eq!(told[0].1, format!("00-{:032x}-0000000000000001-01", 2));
}

#[test]
fn the_older_settings_add_a_format_or_ignore_what_came() {
    let config: Config = serde_json::from_value(json!({ "default_format": "b3" })).unwrap();
    let given = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    let names = |told: Vec<(String, String)>| told.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let added = Propagation::new(&config, Some("aws"), Some("jaeger"));
    assert_eq!(names(told(&added, &given)), ["traceparent", "x-amzn-trace-id"]);
    assert_eq!(names(told(&added, &[])), ["uber-trace-id", "x-amzn-trace-id"]);
    let ignoring = Propagation::new(&config, Some("ignore"), Some("jaeger"));
    let told = told(&ignoring, &given);
    assert_eq!(told[0], pairs(&given)[0]);
    assert!(told[1].1.starts_with(&format!("{:032x}:", 2)));
}

#[test]
fn what_cannot_be_understood_counts_as_absent_and_a_foreign_tracestate_as_b3() {
    let propagation = propagation(json!({}));
    for garbage in ["garbage", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f35-00f067aa0ba902b7-01"] {
        assert_eq!(told(&propagation, &[("traceparent", garbage)]).len(), 1);
    }
    let given = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", "vendor=opaque")];
    let told = told(&propagation, &given);
    assert!(told.contains(&pairs(&given)[0]) && told.iter().any(|(name, _)| name == "x-b3-traceid"));
}

#[test]
fn new_ids_differ() {
    let ids: std::collections::HashSet<u64> = (0..1000).map(|_| super::random_id()).collect();
    assert_eq!(ids.len(), 1000);
    assert!(ids.iter().fold(0, |all, id| all | id) == u64::MAX && ids.iter().fold(u64::MAX, |all, id| all & id) == 0);
}
