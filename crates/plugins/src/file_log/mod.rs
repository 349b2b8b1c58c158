//! file-log: appends a JSON record of every exchange to a file, a line each.
//!
//! Records wait in a [queue](crate::queue) and are written by a thread made for waiting, never by the request's own.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_plugin::{Env, Exchange, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::log_fields::{CustomFields, LuaFields, custom_fields_by_lua};
use crate::queue::{Queue, Queues, Send};
use crate::sinks;

/// Records that go out in one write.
const BATCH: usize = 200;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The file; it is made when it is not there.
    #[field(string().required().matches("^[^*&%%\\`]+$", "^[^*&%\\\\`]+$").error("not a valid filename"))]
    pub path: String,
    /// Whether the file is opened anew for every record, so that it can be rotated.
    #[field(switch(false))]
    pub reopen: bool,
    /// Lua code by the name of the field that its result becomes.
    #[field(custom_fields_by_lua())]
    pub custom_fields_by_lua: LuaFields,
}

/// See the module's description.
pub struct FileLog {
    fields: CustomFields,
    queue: Queue<Box<[u8]>>,
}

impl Plugin for FileLog {
    const NAME: &'static str = "file-log";
    const PRIORITY: i32 = 9;
    const PHASES: Phases = Phases::LOG;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let fields = CustomFields::new(&config.custom_fields_by_lua)?;
        let endpoint = format!("{:?} {}", config.path, config.reopen);
        let log = Log { path: config.path, reopen: config.reopen, file: Mutex::default() };
        let queue = env.state.get::<Queues<_>>().get(env, Self::NAME, &endpoint, sinks::settings(BATCH), || send(log));
        Ok(Self { fields, queue })
    }
}

impl Handler for FileLog {
    fn log(&self, exchange: &Exchange<'_>) {
        let mut entry = self.fields.entry(exchange);
        entry.push(b'\n');
        self.queue.push(entry.into());
    }
}

/// A file that lines are appended to.
struct Log {
    path: String,
    reopen: bool,
    file: Mutex<Option<File>>,
}

impl Log {
    fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut kept = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match kept.take().filter(|_| !self.reopen) {
            Some(file) => file,
            None => OpenOptions::new().append(true).create(true).mode(0o644).open(&self.path)?,
        };
        file.write_all(lines)?;
        *kept = Some(file);
        Ok(())
    }
}

fn send(log: Log) -> Send<Box<[u8]>> {
    let log = Arc::new(log);
    Box::new(move |batch| {
        let log = log.clone();
        Box::pin(async move {
            let path = log.path.clone();
            let written = tokio::task::spawn_blocking(move || log.append(&batch.concat())).await;
            written.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| format!("{path}: {error}"))
        })
    })
}
