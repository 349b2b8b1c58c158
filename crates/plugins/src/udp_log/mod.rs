//! udp-log: sends a JSON record of every exchange to a UDP server, a datagram each.

#[cfg(test)]
mod tests;

use portcullis_plugin::{Env, Exchange, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::log_fields::{CustomFields, LuaFields, custom_fields_by_lua};
use crate::queue::{Queue, Queues};
use crate::sinks::{self, Datagrams};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The server's host.
    #[field(host().required())]
    pub host: String,
    /// The port at the host.
    #[field(port().required())]
    pub port: u16,
    /// Milliseconds sending may take.
    #[field(number().default(10000))]
    pub timeout: Option<f64>,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
}

/// See the module's description.
pub struct UdpLog {
    fields: CustomFields,
    queue: Queue<Box<[u8]>>,
}

impl Plugin for UdpLog {
    const NAME: &'static str = "udp-log";
    const PRIORITY: i32 = 8;
    const PHASES: Phases = Phases::LOG;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let fields = CustomFields::new(&config.custom_fields_by_lua)?;
        let socket = Datagrams::new(&config.host, config.port, sinks::milliseconds(config.timeout, 10_000.0));
        let endpoint = format!("{}:{} {:?}", config.host, config.port, socket.timeout);
        let queue = env.state.get::<Queues<_>>().get(env, Self::NAME, &endpoint, sinks::settings(1), || socket.into_send());
        Ok(Self { fields, queue })
    }
}

impl Handler for UdpLog {
    fn log(&self, exchange: &Exchange<'_>) {
        self.queue.push(self.fields.entry(exchange).into());
    }
}
