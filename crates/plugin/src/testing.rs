//! What plugins' tests need: requests built in a line, and fakes of the directory, the node and the environment.
//!
//! ```ignore
//! let people = People::default().consumer(ANNA, "anna").key("keyauth_credentials", "k-anna", ANNA);
//! let mut request = TestRequest::get("/?apikey=k-anna").people(people).build();
//! let plugin: KeyAuth = plugin(json!({}));
//! assert_eq!(answer(plugin.access(&mut request)), None);
//! ```
//!
//! Configurations pass the real schema first, so a test sees the defaults users see.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use portcullis_entities::consumers::Consumer;
use portcullis_entities::plugins::Plugin as PluginEntity;
use portcullis_entities::{DEFAULT_WORKSPACE, Entity};
use portcullis_schema::{ApiError, Catalog, Op, Record};
use portcullis_wire::head::{Framing, RequestHead, ResponseHead};
use portcullis_wire::headers::Headers;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Answer, Client, ConnectionCounts, Context, Credential, Directory, Entry, Env, Exchange, Head, Instance, Latencies, Node, Plugin,
    Request, RequestId, Rows, Source, State, Step, TargetHealth, Upstream,
};

/// A request under construction; unless told otherwise a GET from 127.0.0.1 over plain HTTP, one minute after midnight of
/// 2026-01-31 (UTC).
pub struct TestRequest {
    request: Request,
}

/// When requests arrive unless told otherwise, in seconds since the epoch: 2026-01-31 00:01:00 UTC.
pub const ARRIVAL: u64 = 1_769_817_660;

impl TestRequest {
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn new(method: &str, target: &str) -> Self {
        let head = RequestHead::of(method, target);
        let upstream = Upstream {
            host: "upstream.test".into(),
            port: 80,
            path: head.path().to_vec(),
            query: head.query().map(<[u8]>::to_vec),
            ..Upstream::default()
        };
        let local: IpAddr = [127, 0, 0, 1].into();
        let client = Client {
            ip: Some(local),
            port: 50_000,
            forwarded_ip: Some(local),
            trusted: false,
            https: false,
            forwarded_https: false,
            listen_ip: Some(local),
            listen_port: 8000,
            peer: Default::default(),
            connection: 7,
            connection_requests: 1,
        };
        let request = Request {
            head,
            id: RequestId(*b"0123456789abcdef0123456789abcdef"),
            started: Instant::now(),
            started_at_ms: ARRIVAL * 1000,
            client,
            route: None,
            service: None,
            captures: None,
            consumer: None,
            credential: None,
            authenticated_groups: None,
            upstream,
            response_headers: Headers::default(),
            body: None,
            log_fields: Record::new(),
            context: Context::default(),
            timeline: None,
            directory: Rc::new(People::default()),
        };
        Self { request }.header("Host", "gateway.test")
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request.head.headers.append(name, value.as_bytes());
        self
    }

    /// A body of this content type, already read.
    pub fn body(mut self, content_type: &str, body: &str) -> Self {
        self.request.head.framing = Framing::Length(body.len() as u64);
        self.request.body = Some(body.as_bytes().to_vec());
        self.header("Content-Type", content_type).header("Content-Length", &body.len().to_string())
    }

    /// The client's address, as the connection and trusted proxies tell it.
    pub fn from(mut self, address: &str) -> Self {
        let address = address.parse().unwrap();
        self.request.client.ip = Some(address);
        self.request.client.forwarded_ip = Some(address);
        self
    }

    /// When it arrives, in seconds since the epoch.
    pub fn at(mut self, seconds: u64) -> Self {
        self.request.started_at_ms = seconds * 1000;
        self
    }

    pub fn people(mut self, people: &People) -> Self {
        self.request.directory = Rc::new(people.clone());
        self
    }

    /// Authenticated as this consumer of its directory, with a credential whose id ends in `c`.
    pub fn authenticated(mut self, consumer: Uuid) -> Self {
        self.request.consumer = self.request.directory.consumer(consumer);
        let credential = Credential { id: Uuid::from_u128(0xc), consumer: Some(consumer), key: "".into(), expires_at: None, fields: None };
        self.request.credential = Some(Arc::new(credential));
        self
    }

    pub fn build(self) -> Request {
        self.request
    }
}

/// A finished exchange whose response came from the upstream.
pub fn exchange<'a>(request: &'a Request, response: &'a ResponseHead) -> Exchange<'a> {
    Exchange {
        request,
        response,
        source: Source::Service,
        tries: &[],
        upstream_uri: Some(b"/"),
        upstream_status: "200",
        latencies: Latencies { kong: 1, proxy: 2, request: 3, receive: 0 },
        request_bytes: 220,
        response_bytes: 310,
    }
}

/// A directory of consumers and their credentials.
#[derive(Clone, Default)]
pub struct People {
    consumers: HashMap<Uuid, Arc<Consumer>>,
    credentials: Vec<(&'static str, Arc<Credential>)>,
}

impl People {
    pub fn consumer(self, id: Uuid, username: &str) -> Self {
        self.consumer_record(json!({ "id": id, "username": username }))
    }

    pub fn consumer_record(mut self, record: Value) -> Self {
        let consumer: Consumer = serde_json::from_value(record).unwrap();
        self.consumers.insert(consumer.id, Arc::new(consumer));
        self
    }

    /// A row of `entity` that belongs to a consumer. Its id is the number of rows before it, plus 0x100.
    pub fn key(mut self, entity: &'static str, key: &str, consumer: Uuid) -> Self {
        let id = Uuid::from_u128(0x100 + self.credentials.len() as u128);
        let credential = Credential { id, consumer: Some(consumer), key: key.into(), expires_at: None, fields: None };
        self.credentials.push((entity, Arc::new(credential)));
        self
    }

    /// As [`People::key`], with the other fields of the row.
    pub fn credential(self, entity: &'static str, key: &str, consumer: Uuid, fields: Value) -> Self {
        let mut people = self.key(entity, key, consumer);
        if let (Some((_, credential)), Value::Object(fields)) = (people.credentials.last_mut(), fields) {
            *credential = Arc::new(Credential { fields: Some(Box::new(fields)), ..(**credential).clone() });
        }
        people
    }
}

impl Directory for People {
    fn consumer(&self, id: Uuid) -> Option<Arc<Consumer>> {
        self.consumers.get(&id).cloned()
    }

    fn consumer_by_username(&self, username: &str) -> Option<Arc<Consumer>> {
        self.consumers.values().find(|consumer| consumer.username.as_deref() == Some(username)).cloned()
    }

    fn credential(&self, entity: &str, key: &str) -> Option<Arc<Credential>> {
        self.credentials.iter().find(|(of, row)| *of == entity && *row.key == *key).map(|(_, row)| row.clone())
    }

    fn credential_by(&self, entity: &str, field: &str, value: &str) -> Option<Arc<Credential>> {
        let holds = |row: &Credential| match field {
            "id" => row.id.to_string() == value,
            field => row.fields.as_ref().and_then(|fields| fields.get(field)?.as_str()) == Some(value),
        };
        self.credentials.iter().find(|(of, row)| *of == entity && holds(row)).map(|(_, row)| row.clone())
    }

    fn credentials_of(&self, entity: &str, consumer: Uuid) -> Vec<Arc<Credential>> {
        let rows = self.credentials.iter().filter(|(of, row)| *of == entity && row.consumer == Some(consumer));
        rows.map(|(_, row)| row.clone()).collect()
    }

    fn workspace(&self) -> Uuid {
        DEFAULT_WORKSPACE
    }
}

/// A node with nothing going on.
pub struct QuietNode;

impl Node for QuietNode {
    fn id(&self) -> Uuid {
        Uuid::from_u128(0xd0de)
    }
    fn hostname(&self) -> &str {
        "node.test"
    }
    fn version(&self) -> &str {
        "3.9.3"
    }
    fn connections(&self) -> ConnectionCounts {
        ConnectionCounts::default()
    }
    fn datastore_reachable(&self) -> bool {
        true
    }
    fn target_health(&self) -> Vec<TargetHealth> {
        Vec::new()
    }
}

/// An environment with state of its own, on a runtime that all tests of a process share.
pub fn env() -> Env {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    Env { state: Arc::new(State::default()), node: Arc::new(QuietNode), rows: Rows::channel(false).0, runtime: runtime.handle().clone() }
}

/// The complete configuration that the plugin's schema makes of what a user gave. Errors as the Admin API would.
pub fn configured(entry: &Entry, config: Value) -> Result<Value, ApiError> {
    let catalog = Catalog { plugins: [(entry.name.to_owned(), Arc::new((entry.schema)()))].into(), ..Catalog::default() };
    let input = Record::from_iter([("name".to_owned(), entry.name.into()), ("config".to_owned(), config)]);
    let mut record = catalog.prepare(&PluginEntity::schema(), input, Op::Insert, None, ARRIVAL as f64)?;
    Ok(record.remove("config").unwrap_or_default())
}

/// The row that a table of the plugin's own makes of what a user gave. Errors as the Admin API would.
pub fn row(entry: &Entry, entity: &str, input: Value) -> Result<Record, ApiError> {
    let schema = (entry.entities)().into_iter().find(|schema| schema.name == entity).unwrap();
    let input = input.as_object().cloned().unwrap_or_default();
    Catalog::default().prepare(&schema, input, Op::Insert, None, ARRIVAL as f64)
}

/// A plugin made of what a user gave, as a global instance in an environment of its own.
pub fn plugin<P: Plugin>(config: Value) -> P {
    plugin_in(config, &Instance::default(), &env())
}

/// A plugin made of what a user gave, for this instance in this environment.
pub fn plugin_in<P: Plugin>(config: Value, instance: &Instance, env: &Env) -> P {
    try_plugin(config, instance, env).unwrap_or_else(|error| panic!("{}: {error}", P::NAME))
}

/// As [`plugin_in`], with the error of a handler that refuses to be made.
pub fn try_plugin<P: Plugin>(config: Value, instance: &Instance, env: &Env) -> crate::Result<P> {
    let config = configured(&Entry::of::<P>(), config).unwrap_or_else(|error| panic!("{}: {error}", P::NAME));
    P::new(serde_json::from_value(config).unwrap(), instance, env)
}

/// The answer a step ends with, if any. Panics on a failure.
pub fn answer(step: Step<'_>) -> Option<Answer> {
    outcome(step).unwrap_or_else(|error| panic!("the plugin failed: {error}"))
}

/// The answer a step ends with, if any, or its failure. Waits for steps that take their time.
pub fn outcome(step: Step<'_>) -> crate::Result<Option<Answer>> {
    match step {
        Step::Next => Ok(None),
        Step::Answer(answer) => Ok(Some(*answer)),
        Step::Later(future) => env().runtime.block_on(future).map(|answer| answer.map(|answer| *answer)),
        Step::Fail(error) => Err(error),
    }
}

/// Runs a plugin's `header_filter` over a response with these headers; answers the headers afterwards.
pub fn filtered(plugin: &impl crate::Handler, request: &mut Request, upstream: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut response = ResponseHead { status: 200, ..ResponseHead::default() };
    upstream.iter().for_each(|(name, value)| response.headers.append(name, value.as_bytes()));
    let mut context = std::mem::take(&mut request.context);
    plugin.header_filter(&mut Head { request, context: &mut context, response: &mut response, source: Source::Service }).unwrap();
    request.context = context;
    texts(&response.headers)
}

/// Headers as text, names in lower case, in order.
pub fn texts(headers: &Headers) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|(name, value)| (text(name).to_ascii_lowercase(), text(value))).collect()
}

/// The first value of a header, as text.
pub fn text_of(headers: &Headers, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
}
