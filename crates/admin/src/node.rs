//! What there is to know about this node, and the few things that can be set on it.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, Outcome, Refusal};
use crate::rows::Admin;
use crate::table::{PlainHandler, Table};
use crate::{Call, Metrics, bulk, openapi};

const TEXT: &str = "text/plain; charset=UTF-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub const ROBOTS: &str = "/robots.txt";
/// What `/endpoints` leaves out: what is no endpoint of the API, and what Kong has not, whose list this is.
const UNLISTED: [&str; 3] = [ROBOTS, bulk::PATH, openapi::PATH];
/// What `/status` tells of a node with a database only where the query asks for it: Kong's answer has none then.
const CONFIGURATION_HASH: &str = "configuration_hash";
const LOG_LEVELS: [&str; 8] = ["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];

const ABOUT: PlainHandler = |admin, _| Box::pin(about(admin));
pub const STATUS: PlainHandler = |admin, call| Box::pin(status(admin, call));
pub const DNS: PlainHandler = |admin, _| Box::pin(async { dns(admin) });
pub const METRICS: PlainHandler = |admin, call| Box::pin(async { metrics(admin, call) });
const ENDPOINTS: PlainHandler = |admin, _| Box::pin(async { paths(admin) });
const TIMERS: PlainHandler = |admin, _| Box::pin(async { timers(admin) });
pub const ROBOTS_TEXT: PlainHandler = |_, _| Box::pin(async { Ok(Answer::text(TEXT, "User-agent: *\nDisallow: /").bare()) });
const CACHED: PlainHandler = |admin, call| Box::pin(async { cached(admin, call) });
const FORGET: PlainHandler = |admin, call| {
    Box::pin(async {
        admin.node.forget(call.params.first().map(String::as_str));
        Ok(Answer::no_content())
    })
};
const LOG_LEVEL: PlainHandler =
    |admin, _| Box::pin(async { Ok(Answer::message(StatusCode::OK, format!("log level: {}", admin.node.log_level()))) });
const SET_LOG_LEVEL: PlainHandler = |admin, call| Box::pin(async { set_log_level(admin, call, false) });
const SET_CLUSTER_LOG_LEVEL: PlainHandler = |admin, call| Box::pin(async { set_log_level(admin, call, true) });

pub fn endpoints(table: &mut Table) {
    table.plain(Method::GET, "/", ABOUT);
    table.plain(Method::GET, "/status", STATUS);
    table.plain(Method::GET, "/status/dns", DNS);
    table.plain(Method::GET, "/endpoints", ENDPOINTS);
    table.plain(Method::GET, "/timers", TIMERS);
    table.plain(Method::GET, "/metrics", METRICS);
    table.plain(Method::GET, ROBOTS, ROBOTS_TEXT);
    table.plain(Method::GET, "/cache/{key}", CACHED);
    table.plain(Method::DELETE, "/cache/{key}", FORGET);
    table.plain(Method::DELETE, "/cache", FORGET);
    table.plain(Method::GET, "/debug/node/log-level", LOG_LEVEL);
    table.plain(Method::PUT, "/debug/node/log-level/{log_level}", SET_LOG_LEVEL);
    table.plain(Method::PUT, "/debug/cluster/log-level/{log_level}", SET_CLUSTER_LOG_LEVEL);
}

async fn about(admin: &Admin) -> Outcome {
    let node = &admin.node;
    let available = admin.catalog.plugins.iter();
    let available: Map<String, Value> =
        available.map(|(name, plugin)| (name.clone(), json!({ "version": plugin.version, "priority": plugin.priority }))).collect();
    let enabled = admin.enabled.names(&*admin.store, admin.schema("plugins")?).await?;
    let (master, workers) = node.pids();
    let (running, pending) = node.timers();
    Ok(Answer::ok(json!({
        "tagline": "Welcome to kong",
        "version": node.version(),
        "edition": "community",
        "hostname": node.hostname(),
        "node_id": node.id(),
        "lua_version": "none",
        "pids": { "master": master, "workers": workers },
        "timers": { "running": running, "pending": pending },
        "plugins": { "available_on_server": available, "enabled_in_cluster": enabled },
        "configuration": node.configuration(),
    })))
}

async fn status(admin: &Admin, call: &Call) -> Outcome {
    let unit = Unit::of(call)?;
    let memory = admin.node.memory();
    let workers: Vec<Value> =
        memory.workers.iter().map(|(pid, bytes)| json!({ "pid": pid, "http_allocated_gc": unit.show(*bytes) })).collect();
    let shared = memory
        .shared
        .iter()
        .map(|(name, capacity, used)| (name.clone(), json!({ "capacity": unit.show(*capacity), "allocated_slabs": unit.show(*used) })));
    let shared: Map<String, Value> = shared.collect();
    let connections = admin.node.connections();
    let mut body = json!({
        "memory": { "workers_lua_vms": workers, "lua_shared_dicts": shared },
        "server": {
            "connections_active": connections.active,
            "connections_reading": connections.reading,
            "connections_writing": connections.writing,
            "connections_waiting": connections.waiting,
            "connections_accepted": connections.accepted,
            "connections_handled": connections.handled,
            "total_requests": connections.requests,
        },
    });
    if admin.database() {
        body["database"] = json!({ "reachable": admin.store.reachable().await });
        if let Some(copy) = admin.node.copy_served() {
            body["configuration"] = copy;
        }
        if call.query.has(CONFIGURATION_HASH) {
            body[CONFIGURATION_HASH] = admin.node.configuration_hash().into();
        }
    } else if let Some(hash) = admin.store.configuration_hash() {
        body[CONFIGURATION_HASH] = hash.into();
    }
    Ok(Answer::ok(body))
}

/// In what unit, and with how many digits, bytes are shown.
struct Unit {
    letter: char,
    scale: usize,
}

impl Unit {
    fn of(call: &Call) -> Result<Self, Refusal> {
        let wrong = |message: String| Refusal::message(StatusCode::BAD_REQUEST, message);
        let unit = call.query.first("unit").unwrap_or("m");
        let mut letters = unit.chars().map(|letter| letter.to_ascii_lowercase());
        let letter = match (letters.next(), letters.next()) {
            (Some(letter @ ('b' | 'k' | 'm' | 'g')), None) => letter,
            _ => return Err(wrong(format!("invalid unit '{unit}' (expected 'k/K', 'm/M', or 'g/G')"))),
        };
        // What is no number is as good as nothing.
        let scale = call.query.first("scale").and_then(|text| text.parse::<f64>().ok()).unwrap_or(2.0);
        if scale < 0.0 {
            return Err(wrong("scale must be equal or greater than 0".to_owned()));
        }
        Ok(Self { letter, scale: (scale as usize).min(20) })
    }

    fn show(&self, bytes: u64) -> Value {
        let (divisor, name) = match self.letter {
            'b' => return bytes.into(),
            'k' => (1024.0, "KiB"),
            'g' => (1024.0 * 1024.0 * 1024.0, "GiB"),
            _ => (1024.0 * 1024.0, "MiB"),
        };
        format!("{:.*} {name}", self.scale, bytes as f64 / divisor).into()
    }
}

fn dns(admin: &Admin) -> Outcome {
    match admin.node.dns_statistics() {
        Some(statistics) => Ok(Answer::ok(statistics)),
        None => Err(Refusal::message(StatusCode::NOT_IMPLEMENTED, "not implemented with the legacy DNS client")),
    }
}

fn metrics(admin: &Admin, call: &Call) -> Outcome {
    let accepts = call.headers.get_all(http::header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let wants_open = accepts.flat_map(|value| value.split(',')).any(|media| media.trim_start().starts_with("application/openmetrics-text"));
    match admin.node.metrics(wants_open) {
        Some(Metrics { open_metrics: true, text }) => Ok(Answer::text(OPEN_METRICS, text)),
        Some(Metrics { text, .. }) => Ok(Answer::text(TEXT, text)),
        None => Err(Refusal::not_found()),
    }
}

fn paths(admin: &Admin) -> Outcome {
    let paths: Vec<&String> = admin.patterns.iter().filter(|pattern| !UNLISTED.contains(&pattern.as_str())).collect();
    Ok(Answer::ok(json!({ "data": paths })))
}

fn timers(admin: &Admin) -> Outcome {
    let (running, pending) = admin.node.timers();
    let (_, workers) = admin.node.pids();
    let counts = json!({ "total": running + pending, "running": running, "pending": pending, "waiting": 0 });
    Ok(Answer::ok(json!({ "worker": { "id": 0, "count": workers.len() }, "stats": { "sys": counts, "timers": {} } })))
}

fn cached(admin: &Admin, call: &Call) -> Outcome {
    match admin.node.cached(call.param(0)) {
        Some(value @ Value::Object(_)) => Ok(Answer::ok(value)),
        Some(value) => Ok(Answer::ok(json!({ "message": value }))),
        None => Err(Refusal::not_found()),
    }
}

fn set_log_level(admin: &Admin, call: &Call, cluster: bool) -> Outcome {
    const DEFAULT_TIMEOUT_SECS: f64 = 60.0;
    const MAX_TIMEOUT_SECS: f64 = 1e9;
    let wrong = |message: String| Err(Refusal::message(StatusCode::BAD_REQUEST, message));
    if !admin.database() {
        let message = "cannot change log level when not using a database";
        return Err(Refusal::message(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let level = call.param(0);
    if !LOG_LEVELS.contains(&level) {
        return wrong(format!("unknown log level: {level}"));
    }
    let given = call.query.first("timeout").map(str::to_owned);
    let given = given.or_else(|| call.body.fields.get("timeout").map(|value| value.to_string().trim_matches('"').to_owned()));
    let timeout = given.and_then(|text| text.parse::<f64>().ok()).unwrap_or(DEFAULT_TIMEOUT_SECS).ceil();
    if timeout < 0.0 {
        return wrong("timeout must be greater than or equal to 0".to_owned());
    }
    if admin.node.log_level() == level {
        return Ok(Answer::message(StatusCode::OK, format!("log level is already {level}")));
    }
    admin.node.set_log_level(level, Duration::from_secs_f64(timeout.min(MAX_TIMEOUT_SECS)), cluster);
    Ok(Answer::message(StatusCode::OK, "log level changed"))
}
