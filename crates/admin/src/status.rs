//! The Status API: whether this node works and is ready for traffic. It changes nothing but readiness.

use http::{Method, StatusCode};
use serde_json::Value;

use crate::Call;
use crate::answer::{Answer, Outcome, Refusal};
use crate::rows::Admin;
use crate::table::{PlainHandler, Table};
use crate::{node, overrides};

/// What a node reports that has loaded nothing.
const EMPTY_HASH: &str = "00000000000000000000000000000000";
const READY: PlainHandler = |admin, _| Box::pin(ready(admin));
const DRAIN: PlainHandler = |admin, call| Box::pin(async { drain(admin, call) });

/// A node without a database also shows its upstreams here.
pub fn endpoints(table: &mut Table, upstreams: bool) {
    table.plain(Method::GET, "/status", node::STATUS);
    table.plain(Method::GET, "/status/dns", node::DNS);
    table.plain(Method::GET, "/status/ready", READY);
    table.plain(Method::POST, "/status/ready", DRAIN);
    table.plain(Method::GET, "/metrics", node::METRICS);
    table.plain(Method::GET, node::ROBOTS, node::ROBOTS_TEXT);
    if upstreams {
        overrides::upstreams::status_endpoints(table);
    }
}

async fn ready(admin: &Admin) -> Outcome {
    match obstacle(admin).await {
        None => Ok(Answer::message(StatusCode::OK, "ready")),
        Some(obstacle) => Err(Refusal::message(StatusCode::SERVICE_UNAVAILABLE, obstacle)),
    }
}

/// Why no traffic should come here, in Kong's words.
async fn obstacle(admin: &Admin) -> Option<String> {
    if admin.node.draining() {
        return Some("draining".to_owned());
    }
    if admin.database() && !admin.store.reachable().await {
        return Some("failed to connect to database".to_owned());
    }
    if let Err(obstacle) = admin.node.ready() {
        return Some(obstacle);
    }
    if admin.database() {
        return None;
    }
    match admin.store.configuration_hash().as_deref() {
        None => Some("no configuration available (configuration hash is not initialized)".to_owned()),
        Some(EMPTY_HASH) => Some("no configuration available (empty configuration present)".to_owned()),
        Some(_) => None,
    }
}

fn drain(admin: &Admin, call: &Call) -> Outcome {
    if call.body.fields.get("status").and_then(Value::as_str) != Some("draining") {
        return Err(Refusal::message(StatusCode::BAD_REQUEST, "Bad request"));
    }
    admin.node.drain();
    Ok(Answer::no_content())
}
