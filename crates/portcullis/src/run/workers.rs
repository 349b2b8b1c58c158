//! The worker threads: one single-threaded runtime each, all listening on the same ports.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use portcullis_plugin::script;
use portcullis_proxy::access_log::{Format, Lines};
use portcullis_proxy::gateway::{Gateway, Worker};
use portcullis_wire::listener::quic as wire_quic;
use portcullis_wire::listener::{Entrance, Listen, ListenAddress, Socket, accept, open};
use portcullis_wire::stream;
use portcullis_wire::tls::ServerTls;
use portcullis_wire::{PoolSettings, Pools, Settings as WireSettings};
use tokio::sync::{mpsc, watch};
use tracing::error;

use super::quic::{self, Arrivals};

/// How often a worker looks after itself: lets go of old snapshots, tells its connection count.
const TICK: Duration = Duration::from_millis(200);

/// How long idle clients of a retired generation have for one more request.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// What workers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Serve,
    /// Others serve the listeners from now on: finish what runs, and let idle clients go with their next answer.
    Retire,
    /// Finish what runs, take nothing new.
    Drain,
    Stop,
}

/// Sockets of every worker, opened once: a reload hands them on, so that no connection in a kernel queue is lost.
pub struct Sockets {
    pub listens: Vec<Listen>,
    /// By worker, then by entry.
    by_worker: Vec<Vec<Socket>>,
}

impl Sockets {
    /// Opens all entries for each worker. Errors with one line naming the address.
    pub fn open(listens: &[Listen], workers: usize) -> Result<Self, String> {
        let mut by_worker: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
        for listen in listens {
            let mut first: Option<Socket> = None;
            for own in &mut by_worker {
                let shared = match (&listen.address, &first) {
                    (ListenAddress::Unix(_), Some(socket)) => try_clone(socket),
                    _ => open(listen),
                };
                let socket = shared.map_err(|error| format!("bind() to {} failed ({error})", address_text(listen)))?;
                if first.is_none() {
                    first = Some(try_clone(&socket).map_err(|error| format!("{}: {error}", address_text(listen)))?);
                }
                own.push(socket);
            }
        }
        Ok(Self { listens: listens.to_vec(), by_worker })
    }

    fn of_worker(&self, worker: usize) -> io::Result<Vec<Socket>> {
        self.by_worker.get(worker).into_iter().flatten().map(try_clone).collect()
    }

    /// The same sockets again, for the next generation.
    pub fn try_clone(&self) -> Result<Self, String> {
        let clone = |own: &Vec<Socket>| own.iter().map(try_clone).collect::<io::Result<Vec<_>>>();
        let by_worker =
            self.by_worker.iter().map(clone).collect::<io::Result<_>>().map_err(|error| format!("listening sockets: {error}"))?;
        Ok(Self { listens: self.listens.clone(), by_worker })
    }

    pub fn workers(&self) -> usize {
        self.by_worker.len()
    }
}

fn try_clone(socket: &Socket) -> io::Result<Socket> {
    Ok(match socket {
        Socket::Tcp(listener) => Socket::Tcp(listener.try_clone()?),
        Socket::Unix(listener) => Socket::Unix(listener.try_clone()?),
        Socket::Udp(socket) => Socket::Udp(socket.try_clone()?),
    })
}

fn address_text(listen: &Listen) -> String {
    match &listen.address {
        ListenAddress::Ip(SocketAddr::V4(address)) => address.to_string(),
        ListenAddress::Ip(SocketAddr::V6(address)) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Connections of one worker.
#[derive(Default)]
pub struct Open {
    pub clients: AtomicU64,
    /// To upstreams, of which no request makes use.
    pub idle: AtomicU64,
}

/// A generation of worker threads.
pub struct Workers {
    order: watch::Sender<Order>,
    threads: Vec<JoinHandle<()>>,
    /// What each worker has open, as of its last tick.
    open: Arc<[Open]>,
}

/// What the threads of a generation are made from.
#[derive(Clone)]
pub struct Plan {
    pub gateway: Arc<Gateway>,
    pub tls: ServerTls,
    /// On the listeners of streams.
    pub stream_tls: ServerTls,
    /// Entries of the sockets from this one on are for streams.
    pub streams_from: usize,
    /// Ports outside, and those they lead to.
    pub port_maps: Vec<(u16, u16)>,
    pub wire: WireSettings,
    pub pools: PoolSettings,
    /// What an access log says, and its lines.
    pub access_log: Option<(Arc<Format>, Arc<Lines>)>,
}

impl Workers {
    /// `arrivals` has what comes over QUIC.
    pub fn start(plan: &Plan, sockets: &Sockets, mut arrivals: Arrivals) -> Result<Self, String> {
        let (order, orders) = watch::channel(Order::Serve);
        let open: Arc<[Open]> = (0..sockets.workers()).map(|_| Open::default()).collect();
        let mut threads = Vec::new();
        for number in 0..sockets.workers() {
            let own = sockets.of_worker(number).map_err(|error| format!("listening sockets: {error}"))?;
            let tls = |at: usize| if at < plan.streams_from { &plan.tls } else { &plan.stream_tls };
            let entrances = sockets.listens.iter().enumerate().map(|(at, listen)| {
                let alternative = quic::alternative(&sockets.listens, listen, &plan.port_maps).map(wire_quic::alternative);
                Entrance { alternative, ..Entrance::new(at, listen, Some(tls(at))) }
            });
            let mut doors: Vec<_> = own.into_iter().zip(entrances).map(|(socket, entrance)| Door::Socket(socket, entrance)).collect();
            // Each worker has a channel of its own; the last one's goes first.
            for (at, channels) in &mut arrivals {
                let listen = &sockets.listens[*at];
                doors
                    .extend(channels.pop().map(|channel| Door::Quic(channel, listen.clone(), Entrance::new(*at, listen, Some(&plan.tls)))));
            }
            let (plan, orders, open) = (plan.clone(), orders.clone(), open.clone());
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || work(number, &plan, doors, orders, &open[number]))
                .map_err(|error| format!("starting a worker thread: {error}"))?;
            threads.push(thread);
        }
        Ok(Self { order, threads, open })
    }

    /// What is open now, within a tick.
    pub fn open(&self) -> Arc<[Open]> {
        self.open.clone()
    }

    /// Finishes running exchanges and takes no new connections; returns when all workers are done.
    pub async fn drain(self) {
        self.order.send_replace(Order::Drain);
        self.join().await;
    }

    /// As [`Workers::drain`], for a generation that another one has taken over from.
    pub fn retire(self) -> impl Future<Output = ()> + Send {
        self.order.send_replace(Order::Retire);
        self.join()
    }

    /// Ends now, whatever runs.
    pub async fn stop(self) {
        self.order.send_replace(Order::Stop);
        self.join().await;
    }

    /// Tells a draining generation to end now.
    pub fn hurry(&self) -> impl Fn() + Send + Sync + use<> {
        let order = self.order.clone();
        move || _ = order.send_replace(Order::Stop)
    }

    async fn join(self) {
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().map(JoinHandle::join).all(|ended| ended.is_ok()));
        if !joined.await.unwrap_or(false) {
            error!("a worker thread ended by a panic");
        }
    }
}

/// Where clients come in.
enum Door {
    Socket(Socket, Entrance),
    Quic(mpsc::Receiver<wire_quic::Arrival>, Listen, Entrance),
}

fn work(number: usize, plan: &Plan, doors: Vec<Door>, mut orders: watch::Receiver<Order>, open: &Open) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, worker = number, "no runtime for this worker");
            return;
        }
    };
    runtime.block_on(async {
        let wire = portcullis_wire::Worker::new(plan.wire.clone());
        wire.start();
        let log = plan.access_log.as_ref().map(|(format, lines)| (format.clone(), lines.tap()));
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let service = Rc::new(Worker::new(plan.gateway.clone(), Pools::new(&wire, plan.pools), seed).with_access_log(log));
        for door in doors {
            let (service, wire) = (service.clone(), wire.clone());
            let streams_from = plan.streams_from;
            tokio::task::spawn_local(async move {
                let accepted = match door {
                    Door::Socket(socket, entrance) if entrance.listener >= streams_from => {
                        stream::accept(socket, entrance, service, wire).await
                    }
                    Door::Socket(socket, entrance) => accept(socket, entrance, service, wire).await,
                    Door::Quic(arrivals, listen, entrance) => {
                        wire_quic::accept(arrivals, &listen, &entrance, service, wire).await;
                        Ok(())
                    }
                };
                if let Err(error) = accepted {
                    error!(%error, "a listening socket cannot be used");
                }
            });
        }
        let engine = script::engine();
        if let Some(engine) = engine {
            engine.worker_started();
        }
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                changed = orders.changed() => if changed.is_err() || *orders.borrow() != Order::Serve { break },
                _ = tick.tick() => {
                    service.refresh();
                    if let Some(engine) = engine {
                        engine.worker_ticked();
                    }
                    open.clients.store(wire.connections() as u64, Ordering::Relaxed);
                    open.idle.store(service.pools.idle() as u64, Ordering::Relaxed);
                }
            }
        }
        if *orders.borrow() == Order::Retire {
            wire.retire();
            tokio::select! {
                () = wire.drained() => {}
                () = tokio::time::sleep(IDLE_GRACE) => {}
                _ = orders.wait_for(|order| *order == Order::Stop) => {}
            }
        }
        if *orders.borrow() != Order::Stop {
            wire.drain();
            tokio::select! {
                () = wire.drained() => {}
                _ = orders.wait_for(|order| *order == Order::Stop) => {}
            }
        }
        // QUIC has no kernel that tells clients of the end: what says so has to be sent.
        tokio::task::yield_now().await;
    });
}
