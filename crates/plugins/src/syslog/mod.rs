//! syslog: gives a JSON record of every exchange to the machine's syslog.
//!
//! Messages go to the socket that every syslog daemon listens on, as `<priority>kong[process]: record`. They carry no time:
//! daemons put the time they get a message in its place anyway.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_plugin::{Env, Exchange, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;
use tokio::net::UnixDatagram;
use tokio::sync::Mutex;

use crate::log_fields::{CustomFields, LuaFields, custom_fields_by_lua};
use crate::queue::{Queue, Queues, Send};
use crate::severity::{Severities, Severity, severity};
use crate::sinks;

/// Where syslog daemons listen.
const SOCKET: &str = "/dev/log";

/// Syslog's facilities, as users name them.
pub const FACILITIES: [&str; 20] = [
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp", "local0", "local1", "local2",
    "local3", "local4", "local5", "local6", "local7",
];

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Records less grave than this are not written.
    #[field(severity().required())]
    pub log_level: Severity,
    /// How grave answers below 400 are.
    #[field(severity().required())]
    pub successful_severity: Severity,
    /// How grave answers from 400 on are.
    #[field(severity().required())]
    pub client_errors_severity: Severity,
    /// How grave answers from 500 on are.
    #[field(severity().required())]
    pub server_errors_severity: Severity,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
    /// What syslog takes us for.
    #[field(string().required().default("user").one_of(FACILITIES))]
    pub facility: String,
}

/// See the module's description.
pub struct Syslog {
    fields: CustomFields,
    severities: Severities,
    /// The facility's number times eight.
    facility: u16,
    queue: Queue<Box<[u8]>>,
}

impl Plugin for Syslog {
    const NAME: &'static str = "syslog";
    const PRIORITY: i32 = 4;
    const PHASES: Phases = Phases::LOG;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        Self::at(Path::new(SOCKET), &config, env)
    }
}

impl Syslog {
    fn at(socket: &Path, config: &Config, env: &Env) -> Result<Self> {
        let endpoint = socket.display().to_string();
        Ok(Self {
            fields: CustomFields::new(&config.custom_fields_by_lua)?,
            severities: Severities {
                least: config.log_level,
                successful: config.successful_severity,
                client_errors: config.client_errors_severity,
                server_errors: config.server_errors_severity,
            },
            facility: facility(&config.facility) * 8,
            queue: env.state.get::<Queues<_>>().get(env, Self::NAME, &endpoint, sinks::settings(1), || send(socket.to_owned())),
        })
    }
}

impl Handler for Syslog {
    fn log(&self, exchange: &Exchange<'_>) {
        let Some(severity) = self.severities.of(exchange.response.status) else { return };
        let entry = self.fields.entry(exchange);
        let priority = self.facility + u16::from(severity.number());
        let mut message = format!("<{priority}>kong[{}]: ", std::process::id()).into_bytes();
        message.extend(entry);
        self.queue.push(message.into());
    }
}

/// RFC 5424 section 6.2.1 numbers the facilities, libc names them.
fn facility(name: &str) -> u16 {
    const NUMBERED: [&str; 12] = ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];
    if let Some(local) = name.strip_prefix("local").and_then(|local| local.parse::<u16>().ok()) {
        return 16 + local;
    }
    NUMBERED.iter().position(|known| *known == name).unwrap_or(1) as u16
}

fn send(path: PathBuf) -> Send<Box<[u8]>> {
    let kept: Arc<(PathBuf, Mutex<Option<UnixDatagram>>)> = Arc::new((path, Mutex::default()));
    Box::new(move |batch| {
        let kept = kept.clone();
        Box::pin(async move {
            let (path, socket) = &*kept;
            let mut socket = socket.lock().await;
            for message in batch.iter() {
                // A daemon that was started anew has another socket at the same place.
                let sent = match &*socket {
                    Some(socket) => socket.send(message).await.is_ok(),
                    None => false,
                };
                if sent {
                    continue;
                }
                *socket = None;
                let fresh = UnixDatagram::unbound().map_err(|error| error.to_string())?;
                fresh.connect(path).map_err(|error| format!("{}: {error}", path.display()))?;
                fresh.send(message).await.map_err(|error| format!("{}: {error}", path.display()))?;
                *socket = Some(fresh);
            }
            Ok(())
        })
    })
}
