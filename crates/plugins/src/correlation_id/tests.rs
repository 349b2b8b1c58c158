//! Which id a request gets and who hears of it.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::Handler;
use portcullis_plugin::testing::{TestRequest, answer, configured, env, filtered, plugin, plugin_in, text_of};
use portcullis_plugin::{Entry, Instance};
use serde_json::json;
use uuid::Uuid;

use super::CorrelationId;

#[test]
fn a_request_without_an_id_gets_one_for_upstream_and_logs() {
    let env = env();
    let plugin: CorrelationId = plugin_in(json!({}), &Instance::default(), &env);
    let id_of = |plugin: &CorrelationId| {
        let mut request = TestRequest::get("/").build();
        assert_eq!(answer(plugin.access(&mut request)), None);
        let id = text_of(&request.head.headers, "Kong-Request-ID").unwrap();
        assert_eq!(request.log_fields["correlation_id"], id);
        id
    };
    let (first, second) = (id_of(&plugin), id_of(&plugin));
    let (uuid, number) = first.split_once('#').unwrap();
    assert!(Uuid::try_parse(uuid).is_ok());
    assert_eq!((number, second), ("1", format!("{uuid}#2")));
    // A change of configuration makes a new handler: the count goes on.
    let changed: CorrelationId = plugin_in(json!({ "echo_downstream": true }), &Instance::default(), &env);
    assert_eq!(id_of(&changed), format!("{uuid}#3"));
}

#[test]
fn an_id_of_the_clients_is_kept_and_of_several_the_first_is_echoed() {
    let plugin: CorrelationId = plugin(json!({ "header_name": "X-Trace", "echo_downstream": true }));
    let mut request = TestRequest::get("/").header("X-Trace", "one").header("X-Trace", "two").build();
    answer(plugin.access(&mut request));
    assert_eq!(request.head.headers.get_all("x-trace").count(), 2);
    assert_eq!(filtered(&plugin, &mut request, &[]), [("x-trace".to_owned(), "one".to_owned())]);
}

#[test]
fn a_blank_id_is_replaced() {
    let plugin: CorrelationId = plugin(json!({ "generator": "uuid", "echo_downstream": true }));
    for blank in ["", "   "] {
        let mut request = TestRequest::get("/").header("Kong-Request-ID", blank).build();
        answer(plugin.access(&mut request));
        let id = text_of(&request.head.headers, "kong-request-id").unwrap();
        assert!(Uuid::try_parse(&id).is_ok());
        assert_eq!(filtered(&plugin, &mut request, &[]), [("kong-request-id".to_owned(), id)]);
    }
}

#[test]
fn a_tracker_tells_where_the_request_came_in() {
    let plugin: CorrelationId = plugin(json!({ "generator": "tracker" }));
    let mut request = TestRequest::get("/").at(1_700_000_000).build();
    request.started_at_ms += 42;
    answer(plugin.access(&mut request));
    let want = format!("127.0.0.1-8000-{}-7-1-1700000000.042", std::process::id());
    assert_eq!(text_of(&request.head.headers, "kong-request-id").unwrap(), want);
}

#[test]
fn responses_to_requests_that_never_came_to_access_carry_an_id_too() {
    let plugin: CorrelationId = plugin(json!({ "generator": "uuid", "echo_downstream": true }));
    let made = filtered(&plugin, &mut TestRequest::get("/").build(), &[]);
    assert!(Uuid::try_parse(&made[0].1).is_ok());
    let sent = filtered(&plugin, &mut TestRequest::get("/").header("Kong-Request-ID", "mine").build(), &[]);
    assert_eq!(sent[0].1, "mine");
}

#[test]
fn only_known_generators_are_taken() {
    let refused = |generator| configured(&Entry::of::<CorrelationId>(), json!({ "generator": generator })).unwrap_err().fields.unwrap();
    assert_eq!(refused(json!("dice")), json!({ "config": { "generator": "expected one of: uuid, uuid#counter, tracker" } }));
    assert_eq!(refused(json!(null)), json!({ "config": { "generator": "required field missing" } }));
}
