//! correlation-id: gives every request an id that upstream, client and logs can tell it by.
//!
//! An id the client sent is kept. With `echo_downstream` the response carries the id too, also when the request never got
//! as far as `access`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_plugin::{Env, Handler, Head, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::Fields;
use serde::Deserialize;
use uuid::Uuid;

const DEFAULT_HEADER: &str = "Kong-Request-ID";

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The header that carries the id.
    #[field(string().default(DEFAULT_HEADER))]
    pub header_name: Option<String>,
    /// The shape of ids: a UUID for each request, one UUID and a counter, or facts about the connection.
    #[field(string().required().one_of(["uuid", "uuid#counter", "tracker"]).default("uuid#counter"))]
    pub generator: Option<Generator>,
    /// Whether the response carries the id as well.
    #[field(boolean().required().default(false))]
    pub echo_downstream: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Generator {
    /// `4ab3fc3c-26e1-4ee0-8b0e-3d1b7ea3f0c1`
    Uuid,
    /// `4ab3fc3c-26e1-4ee0-8b0e-3d1b7ea3f0c1#17`
    #[default]
    #[serde(rename = "uuid#counter")]
    UuidCounter,
    /// `address-port-process-connection-requests-seconds`, all of them facts about where the request came in.
    Tracker,
}

/// The UUID and counter of this process.
struct Counter {
    prefix: Uuid,
    last: AtomicU64,
}

impl Default for Counter {
    fn default() -> Self {
        Self { prefix: Uuid::new_v4(), last: AtomicU64::new(0) }
    }
}

/// The id of one request.
struct CorrelationOf(Vec<u8>);

/// See the module's description.
pub struct CorrelationId {
    header_name: String,
    generator: Generator,
    echo_downstream: bool,
    counter: Arc<Counter>,
}

impl Plugin for CorrelationId {
    const NAME: &'static str = "correlation-id";
    const PRIORITY: i32 = 100_001;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER);
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        Ok(Self {
            header_name: config.header_name.unwrap_or_else(|| DEFAULT_HEADER.to_owned()),
            generator: config.generator.unwrap_or_default(),
            echo_downstream: config.echo_downstream,
            counter: env.state.get(),
        })
    }
}

impl Handler for CorrelationId {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let id = match self.sent(request) {
            Some(id) => id.to_vec(),
            None => {
                let id = self.generate(request).into_bytes();
                request.head.headers.set(&self.header_name, &id);
                id
            }
        };
        request.log_fields.insert("correlation_id".to_owned(), String::from_utf8_lossy(&id).into());
        if self.echo_downstream {
            request.context.set(CorrelationOf(id));
        }
        Step::Next
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        if !self.echo_downstream {
            return Ok(());
        }
        let headers = &mut head.response.headers;
        match (head.context.get::<CorrelationOf>(), self.sent(head.request)) {
            (Some(CorrelationOf(id)), _) => headers.set(&self.header_name, id),
            (None, Some(id)) => headers.set(&self.header_name, id),
            (None, None) => headers.set(&self.header_name, self.generate(head.request).as_bytes()),
        }
        Ok(())
    }
}

impl CorrelationId {
    /// The id the client sent, if it is more than white space.
    fn sent<'a>(&self, request: &'a Request) -> Option<&'a [u8]> {
        request.head.headers.get(&self.header_name).filter(|id| !id.trim_ascii().is_empty())
    }

    fn generate(&self, request: &Request) -> String {
        match self.generator {
            Generator::Uuid => Uuid::new_v4().to_string(),
            Generator::UuidCounter => {
                let number = self.counter.last.fetch_add(1, Ordering::Relaxed) + 1;
                format!("{}#{number}", self.counter.prefix)
            }
            Generator::Tracker => {
                let client = &request.client;
                let address = client.listen_ip.map_or_else(|| "unix:".to_owned(), |ip| ip.to_string());
                let (seconds, millis) = (request.started_at_ms / 1000, request.started_at_ms % 1000);
                let (port, process) = (client.listen_port, std::process::id());
                format!("{address}-{port}-{process}-{}-{}-{seconds}.{millis:03}", client.connection, client.connection_requests)
            }
        }
    }
}

#[cfg(test)]
mod tests;
