//! tcp-log: sends a JSON record of every exchange to a TCP server, a line each.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_plugin::{Env, Exchange, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::log_fields::{CustomFields, LuaFields, custom_fields_by_lua};
use crate::queue::{Queue, Queues, Send};
use crate::sinks::{self, Connection};

/// Records that go out in one write.
const BATCH: usize = 100;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The server's host.
    #[field(host().required())]
    pub host: String,
    /// The port at the host.
    #[field(port().required())]
    pub port: u16,
    /// Milliseconds connecting and sending may take.
    #[field(number().default(10000))]
    pub timeout: Option<f64>,
    /// Milliseconds an idle connection is kept.
    #[field(number().default(60000))]
    pub keepalive: Option<f64>,
    /// Whether the connection is TLS.
    #[field(switch(false))]
    pub tls: bool,
    /// The server name of the TLS handshake; without it the host.
    #[field(string())]
    pub tls_sni: Option<String>,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
}

/// See the module's description.
pub struct TcpLog {
    fields: CustomFields,
    queue: Queue<Box<[u8]>>,
}

impl Plugin for TcpLog {
    const NAME: &'static str = "tcp-log";
    const PRIORITY: i32 = 7;
    const PHASES: Phases = Phases::LOG;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let fields = CustomFields::new(&config.custom_fields_by_lua)?;
        let timeout = sinks::milliseconds(config.timeout, 10_000.0);
        let mut connection = Connection::new(&config.host, config.port, timeout, sinks::milliseconds(config.keepalive, 60_000.0));
        if config.tls {
            connection = connection.with_tls(config.tls_sni.as_deref().unwrap_or(&config.host))?;
        }
        let sni = config.tls.then_some(config.tls_sni.as_deref());
        let endpoint = format!("{}:{} {sni:?} {timeout:?} {:?}", config.host, config.port, connection.keepalive);
        let queue = env.state.get::<Queues<_>>().get(env, Self::NAME, &endpoint, sinks::settings(BATCH), || send(connection));
        Ok(Self { fields, queue })
    }
}

impl Handler for TcpLog {
    fn log(&self, exchange: &Exchange<'_>) {
        let mut entry = self.fields.entry(exchange);
        entry.push(b'\n');
        self.queue.push(entry.into());
    }
}

fn send(connection: Connection) -> Send<Box<[u8]>> {
    let connection = Arc::new(connection);
    Box::new(move |batch| {
        let connection = connection.clone();
        Box::pin(async move { connection.send(&batch.concat()).await })
    })
}
