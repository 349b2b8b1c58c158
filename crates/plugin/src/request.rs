//! A request as plugins see and change it.

use std::any::Any;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use portcullis_entities::consumers::Consumer;
use portcullis_entities::routes::Route;
use portcullis_entities::services::Service;
use portcullis_schema::Record;
use portcullis_wire::Peer;
use portcullis_wire::head::RequestHead;
use portcullis_wire::headers::Headers;

use crate::{Credential, Directory, Timeline};

/// 32 lower-case hex digits that name one request in headers, bodies and logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub [u8; 32]);

impl RequestId {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The client, as far as its connection and trusted proxies in front of us tell.
#[derive(Clone, Debug)]
pub struct Client {
    /// The TCP peer; none on unix sockets.
    pub ip: Option<IpAddr>,
    /// The peer's port.
    pub port: u16,
    /// The client's address after `trusted_ips` and `real_ip_header` had their say.
    pub forwarded_ip: Option<IpAddr>,
    /// The peer is in `trusted_ips`.
    pub trusted: bool,
    /// The connection to us is TLS.
    pub https: bool,
    /// The scheme towards the client is https, by the connection or by a trusted `X-Forwarded-Proto`.
    pub forwarded_https: bool,
    /// Our address on the client's connection; none on unix sockets.
    pub listen_ip: Option<IpAddr>,
    /// The port of the listener the request came in on (after `port_maps`).
    pub listen_port: u16,
    /// The connection itself, with what its TLS handshake settled.
    pub peer: Rc<Peer>,
    /// Unique to the connection on this node.
    pub connection: u64,
    /// How many requests the connection has carried, this one included.
    pub connection_requests: u64,
}

/// What a regex path of the matched route captured.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    /// By position, from 0 (the whole match).
    pub numbered: Vec<Option<Box<str>>>,
    pub named: Vec<(Box<str>, Box<str>)>,
}

/// Where and how the request goes on; filled from route and service, open to edits in `rewrite` and `access`.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    pub https: bool,
    pub host: Arc<str>,
    pub port: u16,
    /// Path as it will be sent, escaped.
    pub path: Vec<u8>,
    /// Query without the `?`; `Some(empty)` sends a bare `?`.
    pub query: Option<Vec<u8>>,
    /// Replaces the client's method.
    pub method: Option<Box<str>>,
    /// Replaces the Host header that route and service give.
    pub host_header: Option<Vec<u8>>,
    /// Replaces the client's body.
    pub body: Option<Vec<u8>>,
    /// The whole response is wanted before any of it goes out.
    pub buffer_response: bool,
    /// Replaces the service's own timeouts and retries.
    pub patience: Option<Box<Patience>>,
}

/// How long to wait for an upstream and how often to try again; what is absent is the service's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    pub connect_timeout_ms: Option<u64>,
    pub write_timeout_ms: Option<u64>,
    pub read_timeout_ms: Option<u64>,
    pub retries: Option<u16>,
}

/// Left in a request's [`Context`] by a plugin whose answer stands for the upstream's: it gains the headers of a proxied response.
pub struct CountsAsProxied;

/// Values a plugin keeps for the length of one request, by type.
#[derive(Default)]
pub struct Context {
    values: Vec<Box<dyn Any>>,
}

impl Context {
    pub fn set<T: 'static>(&mut self, value: T) {
        match self.get_mut::<T>() {
            Some(old) => *old = value,
            None => self.values.push(Box::new(value)),
        }
    }

    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.values.iter().find_map(|value| value.downcast_ref())
    }

    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.values.iter_mut().find_map(|value| value.downcast_mut())
    }
}

/// Kept in a request's [`Context`] by plugins that add fields to log entries when the request can only be looked at any more.
/// They count after, and as, [`Request::log_fields`].
#[derive(Clone, Default)]
pub struct LateLogFields(pub Rc<RefCell<Record>>);

/// One request, from the head's arrival until it is logged.
pub struct Request {
    /// The client's head; edits to its headers are what the upstream gets (and what logs show), as in Kong.
    pub head: RequestHead,
    pub id: RequestId,
    pub started: Instant,
    /// Milliseconds since the epoch when the head had arrived.
    pub started_at_ms: u64,
    pub client: Client,
    pub route: Option<Arc<Route>>,
    pub service: Option<Arc<Service>>,
    pub captures: Option<Box<Captures>>,
    pub consumer: Option<Arc<Consumer>>,
    pub credential: Option<Arc<Credential>>,
    /// Groups given by an authentication that knows no consumer's ACLs.
    pub authenticated_groups: Option<Vec<String>>,
    pub upstream: Upstream,
    /// Response headers set before there is a response; they go on whatever answer the client gets.
    pub response_headers: Headers,
    /// The client's body, where a plugin asked for it ([`crate::Handler::body_limit`]).
    pub body: Option<Vec<u8>>,
    /// Extra fields for log entries, by dotted path; null takes one away. Behind `add:` a field is set only if there is none of that
    /// name, behind `replace:` only if there is one.
    pub log_fields: Record,
    pub context: Context,
    /// When what happened, on nodes that trace.
    pub timeline: Option<Box<Timeline>>,
    /// The snapshot the request runs on.
    pub directory: Rc<dyn Directory>,
}

impl Request {
    /// The consumer and credential that later plugins, logs and the upstream see (behaviour checklist 9.0, auth common).
    pub fn authenticate(&mut self, consumer: Option<Arc<Consumer>>, credential: Option<Arc<Credential>>) {
        self.consumer = consumer;
        self.credential = credential;
    }

    /// The first value of a query argument, percent-decoded; none when absent, empty when it has no value.
    pub fn query_argument(&self, name: &str) -> Option<String> {
        query_pairs(self.upstream.query.as_deref()?).find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Name and value of each query argument in order, percent- and plus-decoded.
pub fn query_pairs(query: &[u8]) -> impl Iterator<Item = (String, String)> + '_ {
    query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        (decode(name), decode(value))
    })
}

fn decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'+' => out.push(b' '),
            b'%' if at + 2 < text.len() && hex(text[at + 1]).is_some() && hex(text[at + 2]).is_some() => {
                out.push(hex(text[at + 1]).unwrap_or(0) << 4 | hex(text[at + 2]).unwrap_or(0));
                at += 2;
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_arguments_are_decoded_in_order() {
        let pairs: Vec<_> = query_pairs(b"a=1&b=x%20y+z&c&a=%zz&d=%4").collect();
        let expected = [("a", "1"), ("b", "x y z"), ("c", ""), ("a", "%zz"), ("d", "%4")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_context_keeps_one_value_of_each_type() {
        let mut context = Context::default();
        context.set(1u32);
        context.set("text");
        context.set(2u32);
        assert_eq!((context.get::<u32>(), context.get::<&str>(), context.get::<u8>()), (Some(&2), Some(&"text"), None));
    }
}
