//! Router expressions: any text is read or refused, and a route found through the index matches alone.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use portcullis_entities::expression;
use portcullis_entities::routes::Flavor;
use portcullis_proxy::router::path::normalise;
use portcullis_proxy::router::{Client, Query, Route, Router};
use portcullis_wire::Headers;
use uuid::Uuid;

fn compile(at: usize, text: &str) -> Option<Arc<Route>> {
    let entity = serde_json::json!({
        "id": Uuid::from_u128(at as u128 + 1), "protocols": ["http", "https"], "https_redirect_status_code": 426, "strip_path": true,
        "preserve_host": false, "request_buffering": true, "response_buffering": true, "expression": text, "priority": at,
    });
    Route::compile_for(Arc::new(serde_json::from_value(entity).ok()?), Flavor::Expressions).ok().map(Arc::new)
}

fuzz_target!(|input: (Vec<&str>, &[u8], &[u8], &[u8])| {
    let (texts, path, host, arguments) = input;
    for text in &texts {
        let _ = expression::parse(text, false);
    }
    let routes: Vec<_> = texts.iter().take(6).enumerate().filter_map(|(at, text)| compile(at, text)).collect();
    let mut target = b"/".to_vec();
    target.extend_from_slice(path);
    let Ok(path) = normalise(&target) else { return };
    let mut headers = Headers::default();
    headers.append("x-a", b"1");
    let client = Client { source: Some([10, 0, 0, 1].into()), source_port: 4000, destination: None };
    let query =
        Query { method: b"GET", path: &path, host, https: false, sni: None, port: 8000, headers: &headers, arguments: Some(arguments), client };
    let mut all = Router::default();
    routes.iter().for_each(|route| all.insert(route.clone()));
    let found = all.find(&query).map(|found| found.route.id);
    // Priorities rise with the number: the last that matches alone is the one.
    let alone = routes.iter().rev().find(|route| {
        let mut router = Router::default();
        router.insert((*route).clone());
        router.find(&query).is_some()
    });
    assert_eq!(found, alone.map(|route| route.id));
});
