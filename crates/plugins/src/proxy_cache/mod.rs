//! proxy-cache: answers from memory what the upstream has answered before.
//!
//! - [`cache`]: the kept responses, within `mem_cache_size`
//! - [`conditional`]: requests that want a kept response only if it is another than theirs
//! - [`key`]: what tells requests apart
//! - [`rules`]: what requests and responses say about caching
//! - [`endpoints`]: `/proxy-cache` in the Admin API
//! - [`config`]: what users set

mod cache;
mod conditional;
mod config;
mod endpoints;
mod key;
mod rules;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_plugin::extra_metrics::{ExtraGroups, ExtraMetrics, Tally};
use portcullis_plugin::{
    Answer, CountsAsProxied, Endpoint, Env, Handler, Head, Headers, Instance, Method, Phases, Plugin, Protocols, Request, Result, Scopes,
    Step,
};
use portcullis_schema::{Check, Record, build::HTTP_PROTOCOLS};
use portcullis_wire::Framing;
use serde_json::Value;

use crate::number::Digits;
use crate::stores::STORES;
use cache::{Cache, Kept};
use conditional::Outcome;
use config::{Config, ResponseHeaders};
use key::Key;
use rules::{CacheControl, MediaType};

/// The version of kept responses that the Admin API tells.
const VERSION: u32 = 1;
/// Request bodies up to this many bytes are kept beside the response, for the Admin API to show.
const LARGEST_REQUEST_BODY: u64 = 8 << 10;

fn check_store(record: &Record) -> std::result::Result<(), Vec<(String, Value)>> {
    let Some(config) = record.get("config") else { return Ok(()) };
    let name = config.pointer("/memory/dictionary_name").and_then(Value::as_str).unwrap_or_default();
    if config.get("strategy").and_then(Value::as_str) != Some("memory") || STORES.contains(&name) {
        return Ok(());
    }
    Err(vec![("@entity".to_owned(), format!("missing shared dict '{name}'").into())])
}

/// See the module's description.
pub struct ProxyCache {
    extra: Arc<ExtraMetrics>,
    cache: Arc<Cache>,
    config: Config,
    content_types: Vec<MediaType>,
    cache_ttl: f64,
    _registered: Arc<()>,
}

impl Plugin for ProxyCache {
    const NAME: &'static str = "proxy-cache";
    const PRIORITY: i32 = 100;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER);
    const SCOPES: Scopes = Scopes { protocols: Protocols::AnyDefault(&HTTP_PROTOCOLS), ..Scopes::ANY };
    type Config = Config;

    fn new(config: Config, instance: &Instance, env: &Env) -> Result<Self> {
        let cache: Arc<Cache> = env.state.get();
        cache.set_capacity(env.node.cache_bytes());
        Ok(Self {
            extra: env.state.get(),
            _registered: cache.register(instance.id),
            cache,
            content_types: config.content_type.iter().filter_map(|text| MediaType::parse(text)).collect(),
            cache_ttl: config.cache_ttl.unwrap_or(300) as f64,
            config,
        })
    }

    fn checks() -> Vec<Check> {
        vec![Check::Custom { fields: vec!["config"], check: check_store }]
    }

    fn endpoints() -> Vec<Endpoint> {
        endpoints::all()
    }
}

/// The response to this request may be kept under this key.
struct MayKeep(Key);

/// The response is being kept, as far as it has come.
struct Keeping {
    key: Key,
    /// Without its body; none once it turned out too large.
    kept: Option<Kept>,
    body: Vec<u8>,
}

impl Handler for ProxyCache {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        let small = matches!(request.head.framing, Framing::Length(length) if length > 0 && length <= LARGEST_REQUEST_BODY);
        (small && self.is_cached_method(request)).then_some(LARGEST_REQUEST_BODY)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let control = if self.config.cache_control { CacheControl::of(&request.head.headers) } else { CacheControl::default() };
        let told = Told::of(&self.config.response_headers, request);
        if !self.is_cached_method(request) || control.no_store || control.no_cache {
            self.extra.count(ExtraGroups::CACHE, Tally::CacheBypass);
            told.status(&mut request.response_headers, "Bypass");
            return Step::Next;
        }
        let key = key::of(&self.config, request);
        told.key(&mut request.response_headers, &key);
        let now = request.started_at_ms / 1000;
        let Some(kept) = self.cache.get(&key, now) else {
            self.extra.count(ExtraGroups::CACHE, Tally::CacheMiss);
            if control.only_if_cached {
                return Step::answer(Answer::status(504));
            }
            told.status(&mut request.response_headers, "Miss");
            request.context.set(MayKeep(key));
            return Step::Next;
        };
        let age = now.saturating_sub(kept.at);
        let fresh = if self.config.cache_control { control.takes(age as f64, kept.lifetime) } else { age as f64 <= self.cache_ttl };
        if !fresh {
            self.extra.count(ExtraGroups::CACHE, Tally::CacheRefresh);
            told.status(&mut request.response_headers, "Refresh");
            request.context.set(MayKeep(key));
            return Step::Next;
        }
        self.extra.count(ExtraGroups::CACHE, Tally::CacheHit);
        request.context.set(CountsAsProxied);
        told.status(&mut request.response_headers, "Hit");
        let mut answer = match conditional::of(&request.head.headers, &kept) {
            Outcome::Whole => Answer::bytes(kept.status, None, kept.body.to_vec()),
            Outcome::NotModified => Answer::empty(304),
            Outcome::Failed => return Step::answer(Answer::error(412, "Precondition failed")),
        };
        let has_body = answer.status != 304;
        for (name, value) in &kept.headers {
            let name = String::from_utf8_lossy(name).into_owned();
            // What is told of this request stands in front of what was told of the one that was kept.
            if !Told::is_own(&name) && (has_body || !conditional::is_of_the_body(&name)) {
                answer = answer.header(name, value.to_vec());
            }
        }
        if told.age {
            answer = answer.header("Age", Digits::of(age).as_bytes());
        }
        Step::answer(answer)
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        let Some(MayKeep(key)) = head.context.get() else { return Ok(()) };
        let key = *key;
        let now = head.request.started_at_ms / 1000;
        let Some(lifetime) = self.lifetime(head, now) else {
            Told::of(&self.config.response_headers, head.request).status(&mut head.response.headers, "Bypass");
            return Ok(());
        };
        // These responses have no body by nature, and Kong never gets to keeping them.
        if head.request.head.method == Method::Head || matches!(head.response.status, 204 | 304) {
            return Ok(());
        }
        let headers = head.response.headers.iter().filter(|(name, _)| rules::is_replayed(name) && !is_of_the_gateway(name));
        let kept = Kept {
            status: head.response.status,
            headers: headers.map(|(name, value)| (name.into(), value.into())).collect(),
            body: Default::default(),
            request_body: head.request.body.as_deref().unwrap_or_default().into(),
            at: now,
            lifetime,
            gone_at: match self.config.storage_ttl.map(u64::try_from) {
                None => now.saturating_add(lifetime.ceil() as u64),
                // Zero stands for ever, which is until room is needed.
                Some(Ok(0)) => u64::MAX,
                Some(secs) => now.saturating_add(secs.unwrap_or(0)),
            },
        };
        head.context.set(Keeping { key, kept: Some(kept), body: Vec::new() });
        Ok(())
    }

    fn body_filter(&self, request: &mut Request, chunk: &mut Vec<u8>, last: bool) -> Result<()> {
        let Some(keeping) = request.context.get_mut::<Keeping>() else { return Ok(()) };
        if keeping.body.len() + chunk.len() > self.cache.largest() {
            keeping.kept = None;
            keeping.body = Vec::new();
        }
        if keeping.kept.is_none() {
            return Ok(());
        }
        keeping.body.extend_from_slice(chunk);
        if last && let Some(kept) = keeping.kept.take() {
            let body = std::mem::take(&mut keeping.body).into();
            self.cache.put(keeping.key, Kept { body, ..kept });
        }
        Ok(())
    }
}

impl ProxyCache {
    fn is_cached_method(&self, request: &Request) -> bool {
        let method = request.head.method_text();
        self.config.request_method.iter().any(|known| known.as_bytes() == method)
    }

    /// Seconds for which the response is fresh; none if it is not to be kept.
    fn lifetime(&self, head: &Head<'_>, now: u64) -> Option<f64> {
        let response = &*head.response;
        if !self.config.response_code.contains(&i64::from(response.status)) {
            return None;
        }
        let content_type = MediaType::parse(std::str::from_utf8(response.headers.get("content-type")?).ok()?)?;
        if !self.content_types.iter().any(|own| own.covers(&content_type)) {
            return None;
        }
        if !self.config.cache_control {
            return Some(self.cache_ttl);
        }
        let control = CacheControl::of(&response.headers);
        let lifetime = control.lifetime(&response.headers, now);
        (!control.private && !control.no_store && !control.no_cache && lifetime > 0.0).then_some(lifetime)
    }
}

/// Which headers tell how an answer came about.
struct Told {
    age: bool,
    status: bool,
    key: bool,
}

impl Told {
    fn of(config: &ResponseHeaders, request: &Request) -> Self {
        let debug = request.head.headers.contains("kong-debug");
        let wanted = |setting: Option<bool>| debug || setting == Some(true);
        Self { age: wanted(config.age), status: wanted(config.x_cache_status), key: wanted(config.x_cache_key) }
    }

    fn is_own(name: &str) -> bool {
        ["age", "x-cache-status", "x-cache-key"].iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    fn status(&self, headers: &mut Headers, status: &str) {
        if self.status {
            headers.set("X-Cache-Status", status.as_bytes());
        }
    }

    fn key(&self, headers: &mut Headers, key: &Key) {
        if self.key {
            headers.set("X-Cache-Key", key::text(key).as_bytes());
        }
    }
}

/// Headers the gateway gives every answer anew.
fn is_of_the_gateway(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] =
        [b"x-kong-upstream-latency", b"x-kong-proxy-latency", b"x-kong-response-latency", b"x-kong-upstream-status", b"x-kong-request-id"];
    NAMES.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
