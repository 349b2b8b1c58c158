//! WASM filter chains: nothing to see while WASM is off.

use http::{Method, StatusCode};
use serde_json::json;

use crate::answer::{Answer, Refusal};
use crate::table::{PlainHandler, Table};

const OFF: &str = "this endpoint is only available when wasm is enabled";

const GUARD: PlainHandler = |admin, _| {
    Box::pin(async {
        match admin.node.wasm() {
            true => Ok(Answer::no_content()),
            false => Err(Refusal::message(StatusCode::BAD_REQUEST, OFF)),
        }
    })
};
/// The chains of a route with those of its service: none as long as no filter can be loaded.
const FILTERS: PlainHandler = |_, _| Box::pin(async { Ok(Answer::ok(json!({ "filters": [] }))) });

pub fn endpoints(table: &mut Table) {
    for state in ["all", "enabled", "disabled"] {
        table.plain(Method::GET, &format!("/routes/{{routes}}/filters/{state}"), FILTERS);
    }
    let guarded: Vec<String> = table.patterns().into_iter().filter(|pattern| guarded(pattern)).map(str::to_owned).collect();
    for pattern in guarded {
        table.at(&pattern).before = Some(GUARD);
    }
}

fn guarded(pattern: &str) -> bool {
    pattern.contains("/filter-chains") || pattern.starts_with("/routes/{routes}/filters/")
}
