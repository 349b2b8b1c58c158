//! loggly: sends a JSON record of every exchange to Loggly, as syslog over UDP.

#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_plugin::{Env, Exchange, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::calendar::Moment;
use crate::log_fields::{CustomFields, LuaFields, custom_fields_by_lua};
use crate::queue::{Queue, Queues};
use crate::severity::{Severities, Severity, severity};
use crate::sinks::{self, Datagrams};

/// The facility "user" times eight.
const USER: u8 = 8;
/// Loggly's number among private enterprises, which names its structured data (RFC 5424 section 6.3.2).
const ENTERPRISE: u32 = 41058;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Loggly's host.
    #[field(host().default("logs-01.loggly.com"))]
    pub host: Option<String>,
    /// The port at the host.
    #[field(port().default(514))]
    pub port: Option<u16>,
    /// The customer's token.
    #[field(string().required().encrypted().referenceable())]
    pub key: String,
    /// Tags of every record.
    #[field(set(string()).default(["kong"]))]
    pub tags: Option<Vec<String>>,
    /// Records less grave than this are not sent.
    #[field(severity())]
    pub log_level: Option<Severity>,
    /// How grave answers below 400 are.
    #[field(severity())]
    pub successful_severity: Option<Severity>,
    /// How grave answers from 400 on are.
    #[field(severity())]
    pub client_errors_severity: Option<Severity>,
    /// How grave answers from 500 on are.
    #[field(severity())]
    pub server_errors_severity: Option<Severity>,
    /// Milliseconds sending may take.
    #[field(number().default(10000))]
    pub timeout: Option<f64>,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
}

/// See the module's description.
pub struct Loggly {
    fields: CustomFields,
    severities: Severities,
    /// The host that messages name.
    hostname: String,
    /// Token and tags.
    structured: String,
    queue: Queue<Box<[u8]>>,
}

impl Plugin for Loggly {
    const NAME: &'static str = "loggly";
    const PRIORITY: i32 = 6;
    const PHASES: Phases = Phases::LOG;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let host = config.host.as_deref().unwrap_or("logs-01.loggly.com");
        let socket = Datagrams::new(host, config.port.unwrap_or(514), sinks::milliseconds(config.timeout, 10_000.0));
        let endpoint = format!("{host}:{} {:?}", socket.port, socket.timeout);
        let tags: String = config.tags.iter().flatten().map(|tag| format!(" tag=\"{tag}\"")).collect();
        Ok(Self {
            fields: CustomFields::new(&config.custom_fields_by_lua)?,
            severities: Severities {
                least: config.log_level.unwrap_or_default(),
                successful: config.successful_severity.unwrap_or_default(),
                client_errors: config.client_errors_severity.unwrap_or_default(),
                server_errors: config.server_errors_severity.unwrap_or_default(),
            },
            hostname: env.node.hostname().to_owned(),
            structured: format!("[{}@{ENTERPRISE}{tags}]", config.key),
            queue: env.state.get::<Queues<_>>().get(env, Self::NAME, &endpoint, sinks::settings(1), || socket.into_send()),
        })
    }
}

impl Handler for Loggly {
    fn log(&self, exchange: &Exchange<'_>) {
        let Some(severity) = self.severities.of(exchange.response.status) else { return };
        let entry = self.fields.entry(exchange);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let priority = USER + severity.number();
        let head = format!("<{priority}>1 {} {} kong - - {} ", Moment(now).rfc3339(), self.hostname, self.structured);
        let mut message = head.into_bytes();
        message.extend(entry);
        self.queue.push(message.into());
    }
}
