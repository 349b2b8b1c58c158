//! UDP: the datagrams of one client make a session, which ends when both sides have been silent for long enough.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::StreamService;
use crate::listener::Entrance;
use crate::serve::Peer;
use crate::worker::Worker;

/// No datagram is larger.
const LARGEST: usize = 64 * 1024;
/// Datagrams of one client that wait for the upstream; further ones are lost, as datagrams may be.
const WAITING: usize = 64;
/// Clients of one worker at once; further ones are not heard until others have gone silent.
const CLIENTS: usize = 16_384;

/// A client's datagrams, from the first on.
pub struct DatagramSession {
    peer: Rc<Peer>,
    client: SocketAddr,
    socket: Rc<UdpSocket>,
    incoming: mpsc::Receiver<Vec<u8>>,
    received: Cell<u64>,
    _entry: Entry,
}

/// Who is being served.
type Clients = Rc<RefCell<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>>;

/// Takes the client off the list when its session ends.
struct Entry {
    clients: Clients,
    client: SocketAddr,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.clients.borrow_mut().remove(&self.client);
    }
}

impl DatagramSession {
    pub fn peer(&self) -> &Rc<Peer> {
        &self.peer
    }

    /// Datagrams both ways until none has passed for `idle`. Answers how many bytes went to the client and to the upstream.
    pub async fn relay(mut self, upstream: SocketAddr, idle: Duration) -> io::Result<(u64, u64)> {
        let any: SocketAddr = if upstream.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let towards = UdpSocket::bind(any).await?;
        towards.connect(upstream).await?;
        let mut bytes = vec![0; LARGEST];
        let mut sent = 0;
        loop {
            let step = async {
                tokio::select! {
                    datagram = self.incoming.recv() => {
                        let Some(datagram) = datagram else { return Ok(false) };
                        self.received.set(self.received.get() + datagram.len() as u64);
                        towards.send(&datagram).await?;
                    }
                    length = towards.recv(&mut bytes) => {
                        let length = length?;
                        sent += length as u64;
                        self.socket.send_to(&bytes[..length], self.client).await?;
                    }
                }
                Ok::<_, io::Error>(true)
            };
            match tokio::time::timeout(idle, step).await {
                Ok(Ok(true)) => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(false)) | Err(_) => return Ok((sent, self.received.get())),
            }
        }
    }
}

/// Hears datagrams and hands them to the sessions of their clients, until the worker drains.
pub(super) async fn accept<S: StreamService>(
    socket: std::net::UdpSocket,
    entrance: Entrance,
    service: Rc<S>,
    worker: Rc<Worker>,
) -> io::Result<()> {
    let _listening = worker.listener_opened();
    let socket = Rc::new(UdpSocket::from_std(socket)?);
    let local = socket.local_addr().ok();
    let clients = Clients::default();
    let mut bytes = vec![0; LARGEST];
    loop {
        let heard = tokio::select! {
            biased;
            heard = socket.recv_from(&mut bytes) => heard,
            () = worker.drain_begun() => return Ok(()),
        };
        // What is heard in place of a datagram (an ICMP error) concerns one client and tells nothing about it.
        let Ok((length, client)) = heard else { continue };
        let datagram = bytes[..length].to_vec();
        let known = clients.borrow().get(&client).cloned();
        if let Some(session) = known {
            let _ = session.try_send(datagram);
            continue;
        }
        if clients.borrow().len() >= CLIENTS {
            continue;
        }
        let (sender, incoming) = mpsc::channel(WAITING);
        let _ = sender.try_send(datagram);
        clients.borrow_mut().insert(client, sender);
        let peer = Rc::new(crate::listener::peer_of(entrance.listener, Some(client), local));
        let entry = Entry { clients: clients.clone(), client };
        let session = DatagramSession { peer, client, socket: socket.clone(), incoming, received: Cell::new(0), _entry: entry };
        let (service, open) = (service.clone(), worker.connection_opened());
        tokio::task::spawn_local(async move {
            let _open = open;
            service.serve_datagrams(session).await;
        });
    }
}
