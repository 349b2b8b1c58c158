//! The thread that receives the datagrams of QUIC for all workers. There is none while no entry says `quic`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use portcullis_wire::listener::quic::{Arrival, Endpoint, QuicTls};
use portcullis_wire::listener::{Listen, ListenAddress};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

/// For one entry, by its place in the listen configuration: what each worker takes new connections from.
pub type Arrivals = HashMap<usize, Vec<mpsc::Receiver<Arrival>>>;

/// The endpoints of a node. They outlive generations: connections of a draining one still have their datagrams delivered.
#[derive(Default)]
pub struct Quic {
    thread: Option<Thread>,
    endpoints: HashMap<SocketAddr, Endpoint>,
}

struct Thread {
    runtime: Handle,
    /// Ends the thread when dropped.
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

impl Quic {
    /// Opens the endpoints of entries that are new, so that what can fail has failed before anything else changes. Errors with one
    /// line naming the address.
    pub fn open(&mut self, listens: &[Listen], tls: Option<&QuicTls>) -> Result<(), String> {
        let Some(tls) = tls else { return Ok(()) };
        for (_, listen, address) in entries(listens) {
            if self.endpoints.contains_key(&address) {
                continue;
            }
            let thread = match &self.thread {
                Some(thread) => thread,
                None => self.thread.insert(Thread::start()?),
            };
            let _inside = thread.runtime.enter();
            let endpoint = Endpoint::open(listen, tls).map_err(|error| format!("bind() to {address} (quic) failed ({error})"))?;
            self.endpoints.insert(address, endpoint);
        }
        Ok(())
    }

    /// From now on new connections go to these workers. Entries that are gone take none; what they have goes on.
    pub fn serve_with(&mut self, listens: &[Listen], tls: Option<&QuicTls>, workers: usize) -> Arrivals {
        let wanted: Vec<_> = entries(listens).map(|(_, _, address)| address).collect();
        self.endpoints.retain(|address, endpoint| {
            wanted.contains(address) || {
                endpoint.refuse();
                endpoint.is_used()
            }
        });
        let Some(tls) = tls else { return Arrivals::new() };
        let served = entries(listens).filter_map(|(at, _, address)| Some((at, self.endpoints.get_mut(&address)?.serve_with(tls, workers))));
        served.collect()
    }

    /// Tells the clients of all connections that these end. The workers must still run to pass it on.
    pub fn close(&self) {
        self.endpoints.values().for_each(Endpoint::close);
    }

    /// Ends the thread, once no worker serves any more.
    pub async fn stop(self) {
        drop(self.endpoints);
        let Some(Thread { stop, handle, .. }) = self.thread else { return };
        drop(stop);
        let joined = tokio::task::spawn_blocking(move || handle.join().is_ok());
        if !joined.await.unwrap_or(false) {
            error!("the thread of QUIC ended by a panic");
        }
    }
}

impl Thread {
    fn start() -> Result<Self, String> {
        let failed = |error| format!("starting the thread of QUIC: {error}");
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let own = runtime.handle().clone();
        let run = move || {
            // An error is what tells that the other end was dropped.
            let _ = runtime.block_on(stopped);
        };
        let handle = std::thread::Builder::new().name("quic".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { runtime: own, stop, handle })
    }
}

/// The entries that say `quic`, with their place and address.
fn entries(listens: &[Listen]) -> impl Iterator<Item = (usize, &Listen, SocketAddr)> {
    listens.iter().enumerate().filter(|(_, listen)| listen.quic).filter_map(|(at, listen)| match listen.address {
        ListenAddress::Ip(address) => Some((at, listen, address)),
        ListenAddress::Unix(_) => None,
    })
}

/// The port that clients are told for a listener which shares its port with a `quic` entry: the one outside, where ports are mapped.
pub fn alternative(listens: &[Listen], listen: &Listen, port_maps: &[(u16, u16)]) -> Option<u16> {
    let ListenAddress::Ip(own) = listen.address else { return None };
    let spoken = listen.ssl && entries(listens).any(|(_, _, address)| address.port() == own.port());
    let outside = port_maps.iter().find(|(_, inner)| *inner == own.port()).map_or(own.port(), |(outer, _)| *outer);
    spoken.then_some(outside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portcullis_wire::listener::parse_listens;

    use super::*;

    #[test]
    fn only_tls_on_a_port_with_quic_has_an_alternative() {
        let listens = parse_listens("proxy_listen", "127.0.0.1:80, 127.0.0.1:443 ssl, [::1]:443 ssl quic, 127.0.0.1:444 ssl").unwrap();
        let told = |maps: &[(u16, u16)]| listens.iter().map(|listen| alternative(&listens, listen, maps)).collect::<Vec<_>>();
        assert_eq!(told(&[]), [None, Some(443), Some(443), None]);
        assert_eq!(told(&[(8443, 443)]), [None, Some(8443), Some(8443), None]);
    }
}
