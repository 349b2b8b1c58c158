//! Targets of an upstream, newest first, and the health that the balancer gives them.

use std::cmp::Ordering;

use http::{Method, StatusCode};
use portcullis_entities::targets::normalized;
use portcullis_schema::{ApiError, Record, Violations};
use portcullis_store::Filter;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::answer::{Answer, Outcome, Refusal};
use crate::rows::{Admin, id_of};
use crate::table::{PlainHandler, Scope, ScopedHandler, Table};
use crate::{AddressHealth, Call, HostHealth, UpstreamHealth, nested, page};

const PAGE: usize = 1000;
const TARGETS: &str = "/upstreams/{upstreams}/targets";
const TARGET: &str = "/upstreams/{upstreams}/targets/{targets}";
const HEALTH: &str = "/upstreams/{upstreams}/health";

const LIST: ScopedHandler = |admin, call, _| Box::pin(list(admin, call));
const SHOW_HEALTH: PlainHandler = |admin, call| Box::pin(health(admin, call));
const HEALTHY: ScopedHandler = |admin, call, scope| Box::pin(mark(admin, call, scope, true));
const UNHEALTHY: ScopedHandler = |admin, call, scope| Box::pin(mark(admin, call, scope, false));

pub fn endpoints(table: &mut Table) {
    // A PUT of a target changes it like a PATCH, and makes none.
    table.scoped(Method::PUT, TARGET, nested::CHANGE);
    table.scoped(Method::GET, TARGETS, LIST);
    let scope = table.at(TARGET).scope.clone();
    table.scoped(Method::GET, &format!("{TARGETS}/all"), nested::LIST);
    table.at(&format!("{TARGETS}/all")).scope = scope.clone();
    table.plain(Method::GET, HEALTH, SHOW_HEALTH);
    for (state, handler) in [("healthy", HEALTHY), ("unhealthy", UNHEALTHY)] {
        for pattern in [format!("{TARGET}/{state}"), format!("{TARGET}/{{address}}/{state}")] {
            table.scoped(Method::PUT, &pattern, handler);
            table.at(&pattern).scope = scope.clone();
        }
    }
}

/// The reading half, for the Status API.
pub fn status_endpoints(table: &mut Table) {
    const TARGETS_READ: PlainHandler = |admin, call| Box::pin(list(admin, call));
    table.plain(Method::GET, HEALTH, SHOW_HEALTH);
    table.plain(Method::GET, TARGETS, TARGETS_READ);
    table.scoped(Method::GET, &format!("{TARGETS}/all"), nested::LIST);
    table.scoped(Method::GET, TARGET, nested::READ);
}

/// A new target is brought into its kept form before anything else is looked at.
pub fn admit_target(input: &mut Record) -> Result<(), Refusal> {
    if let Some(Value::String(target)) = input.get_mut("target") {
        *target = normalized(target).map_err(|complaint| ApiError::schema_violation(Violations::of("target", complaint)))?;
    }
    Ok(())
}

async fn upstream(admin: &Admin, call: &Call) -> Result<Record, Refusal> {
    admin.find(admin.schema("upstreams")?, call.param(0)).await?.ok_or_else(Refusal::not_found)
}

/// All targets of an upstream, newest first.
async fn targets(admin: &Admin, upstream: Uuid) -> Result<Vec<Record>, Refusal> {
    let schema = admin.schema("targets")?;
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let filter = Filter { parent: Some(("upstream".to_owned(), upstream)), tags: None };
        let page = admin.store.page(schema, after, PAGE, filter).await?;
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    rows.sort_by(newest_first);
    Ok(rows)
}

fn newest_first(one: &Record, other: &Record) -> Ordering {
    let made = |row: &Record| row.get("created_at").and_then(Value::as_f64).unwrap_or(0.0);
    let id = |row: &Record| row.get("id").and_then(Value::as_str).map(str::to_owned);
    made(other).total_cmp(&made(one)).then_with(|| id(other).cmp(&id(one)))
}

/// The asked part of the targets, and where the next part starts.
struct Part {
    rows: Vec<Record>,
    next: Option<page::Next>,
}

async fn part(admin: &Admin, call: &Call, upstream: Uuid) -> Result<Part, Refusal> {
    let size = page::loose_size(&call.query)?;
    let start = page::place(&call.query)?;
    let rows = targets(admin, upstream).await?;
    let end = start.saturating_add(size);
    let next = (size > 0 && rows.len() > end).then(|| page::Next { offset: end.to_string(), path: call.path.clone(), keep: Vec::new() });
    Ok(Part { rows: rows.into_iter().skip(start).take(size).collect(), next })
}

async fn list(admin: &Admin, call: &Call) -> Outcome {
    let upstream = id_of(&upstream(admin, call).await?)?;
    let schema = admin.schema("targets")?;
    let Part { rows, next } = part(admin, call, upstream).await?;
    page::answer(rows.into_iter().map(|row| admin.shown(schema, row)).collect(), next)
}

async fn health(admin: &Admin, call: &Call) -> Outcome {
    let upstream = id_of(&upstream(admin, call).await?)?;
    let health = admin.node.upstream_health(upstream);
    let mut body = match call.query.first("balancer_health") {
        Some("1") => json!({ "data": whole(upstream, &health.unwrap_or_default()), "next": null }),
        _ => {
            let schema = admin.schema("targets")?;
            let Part { rows, next } = part(admin, call, upstream).await?;
            let rows = rows.into_iter().map(|row| with_health(admin.shown(schema, row), health.as_ref()));
            page::body(rows.collect(), next)
        }
    };
    body["node_id"] = json!(admin.node.id());
    Ok(Answer::ok(body))
}

/// A target with what the balancer says of it.
fn with_health(mut target: Value, health: Option<&UpstreamHealth>) -> Value {
    let Some(health) = health else {
        target["health"] = "HEALTHCHECKS_OFF".into();
        return target;
    };
    let name = target.get("target").and_then(Value::as_str).unwrap_or_default();
    let Some(host) = health.hosts.iter().find(|host| format!("{}:{}", host.host, host.port) == name) else {
        target["health"] = "DNS_ERROR".into();
        return target;
    };
    let state = |healthy: bool| match (health.checked && host.node_weight > 0, healthy) {
        (false, _) => "HEALTHCHECKS_OFF",
        (true, true) => "HEALTHY",
        (true, false) => "UNHEALTHY",
    };
    let addresses = host
        .addresses
        .iter()
        .map(|address| json!({ "ip": address.ip, "port": address.port, "weight": address.weight, "health": state(address.healthy) }));
    let addresses: Vec<Value> = addresses.collect();
    let overall = match host.addresses.is_empty() {
        true => "DNS_ERROR",
        false => state(host.addresses.iter().any(|address| address.healthy)),
    };
    let mut data = host_facts(host);
    // Kong writes an empty list as a map.
    data["addresses"] = if addresses.is_empty() { json!({}) } else { addresses.into() };
    target["health"] = overall.into();
    target["data"] = data;
    target
}

fn host_facts(host: &HostHealth) -> Value {
    json!({
        "host": host.host, "port": host.port, "dns": host.dns, "nodeWeight": host.node_weight,
        "weight": weight(host.addresses.iter()),
    })
}

fn weight<'a>(addresses: impl Iterator<Item = &'a AddressHealth>) -> Value {
    let (mut total, mut available) = (0, 0);
    for address in addresses {
        total += address.weight;
        available += if address.healthy { address.weight } else { 0 };
    }
    json!({ "total": total, "available": available, "unavailable": total - available })
}

/// The balancer of an upstream as a whole.
fn whole(upstream: Uuid, health: &UpstreamHealth) -> Value {
    let state = if health.healthy { "HEALTHY" } else { "UNHEALTHY" };
    let hosts = health.hosts.iter().map(|host| {
        let mut facts = host_facts(host);
        facts["addresses"] = host
            .addresses
            .iter()
            .map(|address| json!({ "ip": address.ip, "port": address.port, "weight": address.weight, "healthy": address.healthy }))
            .collect();
        facts
    });
    let hosts: Vec<Value> = hosts.collect();
    let hosts = if hosts.is_empty() { json!({}) } else { hosts.into() };
    json!({
        "id": upstream,
        "health": if health.checked { state } else { "HEALTHCHECKS_OFF" },
        "balancer_health": state,
        "details": { "healthy": health.healthy, "hosts": hosts, "weight": weight(health.hosts.iter().flat_map(|host| &host.addresses)) },
    })
}

/// Marks a target, or one address of it, by hand.
async fn mark(admin: &Admin, call: &Call, scope: &Scope, healthy: bool) -> Outcome {
    let (target, _) = nested::child(admin, call, scope).await?;
    let upstream = id_of(&upstream(admin, call).await?)?;
    let name = target.get("target").and_then(Value::as_str).unwrap_or_default();
    let address = call.params.get(2).map(String::as_str);
    match admin.node.set_health(upstream, name, address, healthy) {
        Ok(()) => Ok(Answer::no_content()),
        Err(complaint) => Err(Refusal::message(StatusCode::BAD_REQUEST, complaint)),
    }
}
