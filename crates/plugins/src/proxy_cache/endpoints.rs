//! `/proxy-cache` in the Admin API: kept responses read and dropped.

use std::sync::Arc;

use portcullis_plugin::{AdminCall, Answer, Endpoint, Env, answering};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::cache::{Cache, Kept};
use super::{VERSION, key, now};

pub fn all() -> Vec<Endpoint> {
    vec![
        Endpoint {
            method: "DELETE",
            path: "/proxy-cache",
            handle: |env, _| {
                cache(&env).clear();
                answering(async { Answer::empty(204) })
            },
        },
        Endpoint { method: "GET", path: "/proxy-cache/{cache_key}", handle: |env, call| reply(read(&env, call.param(0))) },
        Endpoint { method: "DELETE", path: "/proxy-cache/{cache_key}", handle: |env, call| reply(drop_one(&env, call.param(0))) },
        Endpoint {
            method: "GET",
            path: "/proxy-cache/{plugin_id}/caches/{cache_key}",
            handle: |env, call| reply(of_instance(&env, &call).and_then(|()| read(&env, call.param(1)))),
        },
        Endpoint {
            method: "DELETE",
            path: "/proxy-cache/{plugin_id}/caches/{cache_key}",
            handle: |env, call| reply(of_instance(&env, &call).and_then(|()| drop_one(&env, call.param(1)))),
        },
    ]
}

fn reply(found: Option<Answer>) -> portcullis_plugin::Answering {
    let answer = found.unwrap_or_else(|| Answer::status(404));
    answering(async { answer })
}

fn cache(env: &Env) -> Arc<Cache> {
    env.state.get()
}

fn of_instance(env: &Env, call: &AdminCall) -> Option<()> {
    cache(env).has_instance(Uuid::try_parse(call.param(0)).ok()?).then_some(())
}

fn read(env: &Env, text: &str) -> Option<Answer> {
    let cache = cache(env);
    let kept = cache.get(&key::parse(text)?, now()).filter(|_| cache.has_instances())?;
    Some(Answer::json(200, shown(&kept)))
}

fn drop_one(env: &Env, text: &str) -> Option<Answer> {
    let cache = cache(env);
    let was_there = cache.has_instances() && cache.remove(&key::parse(text)?);
    was_there.then(|| Answer::empty(204))
}

fn shown(kept: &Kept) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in &kept.headers {
        let value = Value::String(text(value));
        match headers.get_mut(&text(name)) {
            None => _ = headers.insert(text(name), value),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    json!({
        "status": kept.status,
        "headers": headers,
        "body": text(&kept.body),
        "body_len": kept.body.len(),
        "timestamp": kept.at,
        "ttl": crate::number::json(kept.lifetime),
        "version": VERSION,
        "req_body": text(&kept.request_body),
    })
}
