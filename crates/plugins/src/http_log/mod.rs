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

use crate::log_fields::CustomFields;
use crate::queue::{OLD_DEFAULTS, Queue, Queues, Settings};
pub use config::Config;
use sender::Sender;

/// See the module's description.
pub struct HttpLog {
    fields: CustomFields,
    queue: Queue<Box<[u8]>>,
}

impl Plugin for HttpLog {
    const NAME: &'static str = "http-log";
    const PRIORITY: i32 = 12;
    const PHASES: Phases = Phases::LOG;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let fields = CustomFields::new(&config.custom_fields_by_lua)?;
        let settings = Settings::from(&config.queue).with_older(config.queue_size, config.flush_timeout, OLD_DEFAULTS);
        let sender = Sender::new(&config, settings.max_batch_size > 1)?;
        let endpoint = sender.describe();
        let queue = env.state.get::<Queues<_>>().get(env, Self::NAME, &endpoint, settings, || sender.into_send());
        Ok(Self { fields, queue })
    }

    fn checks() -> Vec<Check> {
        vec![Check::Hidden { fields: vec!["config"], check: config::check_authorization }]
    }
}

impl Handler for HttpLog {
    fn log(&self, exchange: &Exchange<'_>) {
        self.queue.push(self.fields.entry(exchange).into());
    }
}
