//! The router: which route answers depends on the routes alone, not on how the table came to be.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use portcullis_proxy::router::path::normalise;
use portcullis_proxy::router::{Query, Route, Router};
use portcullis_wire::Headers;
use uuid::Uuid;

#[derive(Arbitrary, Debug)]
struct Conditions<'a> {
    hosts: Vec<&'a str>,
    paths: Vec<(bool, &'a str)>,
    header: Option<&'a str>,
    method: Option<bool>,
    regex_priority: u8,
}

#[derive(Arbitrary, Debug)]
struct Request<'a> {
    host: &'a [u8],
    path: &'a [u8],
    header: Option<&'a [u8]>,
    post: bool,
    https: bool,
    sni: Option<&'a str>,
}

fn compile(at: usize, conditions: &Conditions<'_>) -> Option<Arc<Route>> {
    let paths: Vec<String> =
        conditions.paths.iter().map(|(regex, path)| if *regex { format!("~/{path}") } else { format!("/{path}") }).collect();
    let headers: BTreeMap<&str, Vec<&str>> = conditions.header.iter().map(|value| ("x-a", vec![*value])).collect();
    let methods = conditions.method.map(|post| vec![if post { "POST" } else { "GET" }]);
    let entity = serde_json::json!({
        "id": Uuid::from_u128(at as u128 + 1), "protocols": ["http", "https"], "https_redirect_status_code": 426, "strip_path": true,
        "preserve_host": false, "request_buffering": true, "response_buffering": true, "methods": methods,
        "hosts": conditions.hosts, "paths": paths, "headers": headers, "regex_priority": conditions.regex_priority,
    });
    Route::compile(Arc::new(serde_json::from_value(entity).ok()?)).ok().map(Arc::new)
}

fuzz_target!(|input: (Vec<Conditions<'_>>, Request<'_>)| {
    let (conditions, request) = input;
    let routes: Vec<_> = conditions.iter().take(12).enumerate().filter_map(|(at, conditions)| compile(at, conditions)).collect();
    let mut target = b"/".to_vec();
    target.extend_from_slice(request.path);
    let Ok(path) = normalise(&target) else { return };
    let mut headers = Headers::default();
    if let Some(value) = request.header {
        headers.append("x-a", value);
    }
    let query = Query {
        method: if request.post { b"POST" } else { b"GET" },
        path: &path,
        host: request.host,
        https: request.https,
        sni: request.sni,
        port: 8000,
        headers: &headers,
        arguments: None,
        client: Default::default(),
    };

    let (mut forward, mut backward) = (Router::default(), Router::default());
    routes.iter().for_each(|route| forward.insert(route.clone()));
    routes.iter().rev().for_each(|route| backward.insert(route.clone()));
    let found = forward.find(&query).map(|found| (found.route.id, found.prefix_len));
    assert_eq!(found, backward.find(&query).map(|found| (found.route.id, found.prefix_len)), "the order of insertion decided");

    // The winner stands without the others, and another takes its place once it is gone.
    let Some((winner, prefix)) = found else { return };
    assert!(prefix.is_none_or(|length| length <= path.len()));
    let mut alone = Router::default();
    alone.insert(forward.get(winner).expect("a found route is in the table").clone());
    assert_eq!(alone.find(&query).map(|found| found.route.id), Some(winner), "a route won that does not match alone");
    assert!(forward.remove(winner));
    assert_ne!(forward.find(&query).map(|found| found.route.id), Some(winner));
});
