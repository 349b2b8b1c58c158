//! statsd: sends figures about every exchange to a StatsD server, over UDP or TCP.
//!
//! A request's figures are written as lines at once and wait together; the [queue](crate::queue) sends them as datagrams of a
//! line each, as fuller ones (`udp_packet_size`), or down a connection.

mod config;
mod lines;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_plugin::{Env, Exchange, Handler, Instance, Phases, Plugin, Result};

use crate::queue::{OLD_DEFAULTS, Queue, Queues, Send, Settings};
use crate::sinks::{Connection, Datagrams};
pub use config::Config;
use lines::Lines;
pub(crate) use lines::kind;

/// How long sending and connecting may take; users cannot set it.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a connection may be idle.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(60);

/// See the module's description.
pub struct Statsd {
    lines: Lines,
    queue: Queue<Box<[u8]>>,
}

impl Plugin for Statsd {
    const NAME: &'static str = "statsd";
    const PRIORITY: i32 = 11;
    const PHASES: Phases = Phases::LOG;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let (host, port) = (config.host.clone().unwrap_or_else(|| "localhost".to_owned()), config.port.unwrap_or(8125));
        let tcp = config.use_tcp.unwrap_or(false);
        let packet = config.udp_packet_size.unwrap_or(0.0) as usize;
        let endpoint = format!("{host}:{port} {tcp} {packet}");
        let queue = env.state.get::<Queues<_>>().get(
            env,
            Self::NAME,
            &endpoint,
            Settings::from(&config.queue).with_older(config.queue_size, config.flush_timeout, OLD_DEFAULTS),
            || match tcp {
                true => over_tcp(Connection::new(&host, port, TIMEOUT, KEEPALIVE)),
                false => over_udp(Datagrams::new(&host, port, TIMEOUT), packet),
            },
        );
        Ok(Self { lines: Lines::new(config, env.node.hostname()), queue })
    }
}

impl Handler for Statsd {
    fn log(&self, exchange: &Exchange<'_>) {
        let lines = self.lines.of(exchange);
        if !lines.is_empty() {
            self.queue.push(lines.into_bytes().into());
        }
    }
}

fn over_tcp(connection: Connection) -> Send<Box<[u8]>> {
    let connection = Arc::new(connection);
    Box::new(move |batch| {
        let connection = connection.clone();
        Box::pin(async move { connection.send(&batch.concat()).await })
    })
}

pub(crate) fn over_udp(socket: Datagrams, packet: usize) -> Send<Box<[u8]>> {
    let socket = Arc::new(socket);
    Box::new(move |batch| {
        let socket = socket.clone();
        Box::pin(async move {
            for datagram in datagrams(&batch, packet) {
                socket.send(datagram.as_slice()).await?;
            }
            Ok(())
        })
    })
}

/// Lines put together in datagrams of at most this many bytes; 0 gives each its own.
fn datagrams(batch: &[Box<[u8]>], most: usize) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for line in batch.iter().flat_map(|lines| lines.split(|byte| *byte == b'\n')).filter(|line| !line.is_empty()) {
        match all.last_mut().filter(|last| last.len() + 1 + line.len() <= most) {
            Some(last) => {
                last.push(b'\n');
                last.extend_from_slice(line);
            }
            None => all.push(line.to_vec()),
        }
    }
    all
}
