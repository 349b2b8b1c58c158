//! The spans of an exchange in Zipkin's JSON, version 2.

use std::net::IpAddr;
use std::time::Instant;

use portcullis_plugin::{Exchange, Try, TryState};
use serde_json::{Map, Value, json};

use super::{Config, Trace};

/// All there is to make spans of.
pub struct Spans<'a> {
    pub config: &'a Config,
    pub node: &'a str,
    pub trace: &'a Trace,
    pub exchange: &'a Exchange<'a>,
    pub now: Instant,
}

type Tags = Map<String, Value>;

impl Spans<'_> {
    /// Tries first, then the proxying, then the request, as they end.
    pub fn all(&self) -> Vec<Value> {
        let tries = self.exchange.tries;
        let mut spans: Vec<Value> = tries.iter().enumerate().map(|(at, attempt)| self.attempt(at, attempt)).collect();
        spans.push(self.proxy());
        spans.push(self.request());
        spans
    }

    fn name(&self) -> String {
        let head = &self.exchange.request.head;
        let method = String::from_utf8_lossy(head.method_text());
        match &*self.config.http_span_name {
            "method_path" => format!("{method} {}", String::from_utf8_lossy(head.path())),
            _ => method.into_owned(),
        }
    }

    /// Microseconds since the epoch.
    fn at(&self, moment: Instant) -> u64 {
        let request = self.exchange.request;
        request.started_at_ms * 1000 + moment.saturating_duration_since(request.started).as_micros() as u64
    }

    fn span(&self, id: u64, parent: Option<u64>, name: &str, kind: &str, (begun, ended): (u64, u64), tags: Tags) -> Map<String, Value> {
        let mut span = Map::new();
        let mut put = |name: &str, value: Value| span.insert(name.to_owned(), value);
        put("traceId", self.trace.id.hex().into());
        put("id", format!("{id:016x}").into());
        if let Some(parent) = parent {
            put("parentId", format!("{parent:016x}").into());
        }
        put("name", name.into());
        put("kind", kind.into());
        put("timestamp", begun.into());
        put("duration", ended.saturating_sub(begun).into());
        put("localEndpoint", json!({ "serviceName": self.config.local_service_name }));
        put("tags", Value::Object(tags));
        if self.trace.debug {
            put("debug", true.into());
        }
        span
    }

    fn attempt(&self, at: usize, attempt: &Try) -> Value {
        let number = at + 1;
        let mut tags = Tags::new();
        tags.insert("kong.balancer.try".to_owned(), number.to_string().into());
        if let Some(state) = attempt.state {
            let state = if state == TryState::Next { "next" } else { "failed" };
            tags.insert("error".to_owned(), "true".into());
            tags.insert("kong.balancer.state".to_owned(), state.into());
            if let Some(code) = attempt.code {
                tags.insert("http.status_code".to_owned(), code.to_string().into());
            }
        }
        self.tell_route(&mut tags);
        let begun = attempt.balancer_start_ns / 1000;
        // The next try begins where this one failed.
        let ended = self.exchange.tries.get(number).map_or_else(|| self.at(self.now), |next| next.balancer_start_ns / 1000);
        let name = format!("{} (balancer try {number})", self.name());
        let mut span = self.span(crate::propagation::random_id(), Some(self.trace.request), &name, "CLIENT", (begun, ended), tags);
        self.put_remote(&mut span, attempt.address.map(|address| (address.ip(), address.port())), true);
        Value::Object(span)
    }

    fn proxy(&self) -> Value {
        let exchange = self.exchange;
        let mut tags = Tags::new();
        self.tell_route(&mut tags);
        let access = self.trace.access.unwrap_or(exchange.request.started);
        let ended = self.at(self.now);
        let mut annotations = Vec::new();
        let balanced = exchange.tries.first().map_or(ended, |first| first.balancer_start_ns / 1000);
        self.tell_phase("access", ("kas", "kaf"), (self.at(access), balanced), &mut annotations, &mut tags);
        if let Some(filter) = self.trace.header_filter {
            let filter = self.at(filter);
            self.tell_phase("header_filter", ("khs", "khf"), (filter, filter), &mut annotations, &mut tags);
            self.tell_phase("body_filter", ("kbs", "kbf"), (filter, ended), &mut annotations, &mut tags);
        }
        let last = exchange.tries.last();
        if last.is_some() {
            tags.insert("peer.hostname".to_owned(), exchange.request.upstream.host.to_string().into());
        }
        let name = format!("{} (proxy)", self.name());
        let mut span = self.span(self.trace.proxy, Some(self.trace.request), &name, "CLIENT", (self.at(access), ended), tags);
        if !annotations.is_empty() {
            span.insert("annotations".to_owned(), annotations.into());
        }
        let peer = last.and_then(|last| last.address).map(|address| (address.ip(), address.port()));
        self.put_remote(&mut span, peer, true);
        Value::Object(span)
    }

    fn request(&self) -> Value {
        let exchange = self.exchange;
        let request = exchange.request;
        let head = &request.head;
        let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
        let mut tags = Tags::new();
        let mut put = |name: &str, value: Value| tags.insert(name.to_owned(), value);
        put("lc", "kong".into());
        put("http.method", text(head.method_text()));
        put("http.host", text(&host(head.authority().or_else(|| head.headers.get("host")).unwrap_or_default())));
        put("http.path", text(head.path()));
        put("http.protocol", format!("HTTP/{}", head.version.text()).into());
        put("http.status_code", exchange.response.status.to_string().into());
        put("kong.node.id", self.node.into());
        if let Some(consumer) = &request.consumer {
            put("kong.consumer", consumer.id.to_string().into());
        }
        if let Some(credential) = request.credential.as_ref().filter(|_| self.config.include_credential) {
            put("kong.credential", credential.id.to_string().into());
        }
        for tag in self.config.static_tags.iter().flatten() {
            put(&tag.name, tag.value.clone().into());
        }
        let given = head.headers.get(&self.config.tags_header).map(String::from_utf8_lossy).unwrap_or_default();
        for (name, value) in given.split(';').filter_map(|pair| pair.split_once('=')) {
            put(name.trim(), value.trim().into());
        }
        let begun = self.at(request.started);
        let mut annotations = Vec::new();
        let access = self.at(self.trace.access.unwrap_or(request.started));
        self.tell_phase("rewrite", ("krs", "krf"), (begun, access), &mut annotations, &mut tags);
        let mut span = self.span(self.trace.request, self.trace.parent, &self.name(), "SERVER", (begun, self.at(self.now)), tags);
        if !annotations.is_empty() {
            span.insert("annotations".to_owned(), annotations.into());
        }
        self.put_remote(&mut span, request.client.forwarded_ip.map(|ip| (ip, request.client.port)), false);
        Value::Object(span)
    }

    /// The time a phase took, as the user wants to have it.
    fn tell_phase(&self, phase: &str, names: (&str, &str), times: (u64, u64), annotations: &mut Vec<Value>, tags: &mut Tags) {
        if self.config.phase_duration_flavor == "tags" {
            let milliseconds = times.1.saturating_sub(times.0) as f64 / 1000.0;
            tags.insert(format!("kong.{phase}.duration_ms"), milliseconds.to_string().into());
        } else {
            annotations.push(json!({ "timestamp": times.0, "value": names.0 }));
            annotations.push(json!({ "timestamp": times.1, "value": names.1 }));
        }
    }

    fn tell_route(&self, tags: &mut Tags) {
        let request = self.exchange.request;
        if let Some(service) = &request.service {
            tags.insert("kong.service".to_owned(), service.id.to_string().into());
            if let Some(name) = &service.name {
                tags.insert("kong.service_name".to_owned(), name.to_string().into());
            }
        }
        if let Some(route) = &request.route {
            tags.insert("kong.route".to_owned(), route.id.to_string().into());
            if let Some(name) = &route.name {
                tags.insert("kong.route_name".to_owned(), name.to_string().into());
            }
        }
    }

    /// Who was at the other end; upstreams by the service's name too.
    fn put_remote(&self, span: &mut Map<String, Value>, peer: Option<(IpAddr, u16)>, upstream: bool) {
        let service = self.exchange.request.service.as_ref().filter(|_| upstream);
        let name = service.and_then(|service| service.name.as_deref()).or(self.config.default_service_name.as_deref());
        let mut endpoint = Map::new();
        if let Some(name) = name {
            endpoint.insert("serviceName".to_owned(), name.into());
        }
        if let Some((ip, port)) = peer {
            let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
            endpoint.insert(family.to_owned(), ip.to_string().into());
            endpoint.insert("port".to_owned(), port.into());
        }
        if !endpoint.is_empty() {
            span.insert("remoteEndpoint".to_owned(), Value::Object(endpoint));
        }
    }
}

/// The name without its port, in lower case.
fn host(authority: &[u8]) -> Vec<u8> {
    let port = authority.iter().rposition(|byte| *byte == b':').filter(|at| !authority[*at..].contains(&b']'));
    authority[..port.unwrap_or(authority.len())].to_ascii_lowercase()
}
