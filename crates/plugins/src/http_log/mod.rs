//! http-log: sends a JSON record of every exchange to an HTTP server.
//!
//! Records wait in a [queue](crate::queue) and travel on the control runtime; the request that made one never waits. With
//! batches of more than one a list is sent, else each record by itself.

mod config;
mod sender;
#[cfg(test)]
mod tests;

use portcullis_plugin::{Env, Exchange, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Check;

use crate::log_fields::refuse_lua;
use crate::queue::{OLD_DEFAULTS, Queue, Queues, Settings};
use crate::serialize;
pub use config::Config;
use sender::Sender;

/// See the module's description.
pub struct HttpLog {
    queue: Queue<Box<[u8]>>,
}

impl Plugin for HttpLog {
    const NAME: &'static str = "http-log";
    const PRIORITY: i32 = 12;
    const PHASES: Phases = Phases::LOG;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        refuse_lua(&config.custom_fields_by_lua)?;
        let settings = Settings::from(&config.queue).with_older(config.queue_size, config.flush_timeout, OLD_DEFAULTS);
        let sender = Sender::new(&config, settings.max_batch_size > 1)?;
        let queues = env.state.get::<Queues<Box<[u8]>>>();
        let name = format!("http-log {}", sender.describe());
        Ok(Self { queue: queues.get(env, name, settings, || sender.into_send()) })
    }

    fn checks() -> Vec<Check> {
        vec![Check::Hidden { fields: vec!["config"], check: config::check_authorization }]
    }
}

impl Handler for HttpLog {
    fn log(&self, exchange: &Exchange<'_>) {
        match serde_json::to_vec(&serialize::record(exchange)) {
            Ok(entry) => self.queue.push(entry.into()),
            Err(error) => tracing::error!(%error, "a log record could not be written"),
        }
    }
}
