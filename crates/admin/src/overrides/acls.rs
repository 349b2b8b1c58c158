//! Groups of a consumer: what isn't there is answered in the proxy's words, with a request id.

use http::{Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::answer::{Answer, Outcome, Refusal};
use crate::nested;
use crate::table::{ScopedHandler, Table};

const ITEM: &str = "/consumers/{consumers}/acls/{acls}";
const READ: ScopedHandler = |admin, call, scope| Box::pin(async { worded(nested::read(admin, call, scope).await) });
const REPLACE: ScopedHandler = |admin, call, scope| Box::pin(async { worded(nested::replace(admin, call, scope).await) });
const CHANGE: ScopedHandler = |admin, call, scope| Box::pin(async { worded(nested::change(admin, call, scope).await) });
const REMOVE: ScopedHandler = |admin, call, scope| Box::pin(async { worded(nested::remove(admin, call, scope).await) });

pub fn endpoints(table: &mut Table) {
    for (method, handler) in [(Method::GET, READ), (Method::PUT, REPLACE), (Method::PATCH, CHANGE), (Method::DELETE, REMOVE)] {
        table.scoped(method, ITEM, handler);
    }
}

fn worded(outcome: Outcome) -> Outcome {
    match outcome {
        Err(Refusal::Answer(answer)) if answer.status == StatusCode::NOT_FOUND => {
            let body = json!({ "message": "Not found", "request_id": Uuid::new_v4().simple() });
            Err(Refusal::Answer(Answer::json(StatusCode::NOT_FOUND, &body)))
        }
        other => other,
    }
}
