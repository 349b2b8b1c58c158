//! Where log plugins other than http-log send their records: sockets that are kept, made anew after failures, and never waited
//! for longer than the user allows. All of it happens on the control runtime.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use portcullis_wire::tls::UpstreamConfigs;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::queue::{Send, Settings};

/// How long a socket that only sends is kept, so that a name which moves is followed.
const DATAGRAM_SOCKET_LIFE: Duration = Duration::from_secs(30);
/// Records that may wait for a sink without a queue of the user's own.
const MOST_ENTRIES: usize = 10_000;
/// Bytes of such records.
const MOST_BYTES: usize = 64 << 20;

/// How records wait for plugins that have no `queue` setting: nothing is sent twice, and up to `batch` go at once.
pub fn settings(batch: usize) -> Settings {
    Settings {
        max_batch_size: batch,
        max_coalescing_delay: Duration::ZERO,
        max_entries: MOST_ENTRIES,
        max_bytes: Some(MOST_BYTES),
        max_retry_time: Duration::ZERO,
        initial_retry_delay: Duration::from_millis(10),
        max_retry_delay: Duration::from_millis(10),
        concurrency_limit: Some(1),
    }
}

/// A time in milliseconds as users give it.
pub fn milliseconds(given: Option<f64>, default: f64) -> Duration {
    Duration::try_from_secs_f64(given.unwrap_or(default).max(0.0) / 1000.0).unwrap_or(Duration::MAX)
}

async fn within<T>(limit: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, what).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A datagram socket to one server.
pub struct Datagrams {
    pub host: String,
    pub port: u16,
    pub timeout: Duration,
    socket: Mutex<Option<(UdpSocket, Instant)>>,
}

impl Datagrams {
    pub fn new(host: &str, port: u16, timeout: Duration) -> Self {
        Self { host: host.to_owned(), port, timeout, socket: Mutex::default() }
    }

    /// Sends one datagram.
    pub async fn send(&self, datagram: &[u8]) -> Result<(), String> {
        let mut kept = self.socket.lock().await;
        if kept.as_ref().is_some_and(|(_, since)| since.elapsed() >= DATAGRAM_SOCKET_LIFE) {
            *kept = None;
        }
        let sent = within(self.timeout, async {
            let socket = match &mut *kept {
                Some((socket, _)) => socket,
                None => &mut kept.insert((self.connect().await?, Instant::now())).0,
            };
            match socket.send(datagram).await {
                // It tells of a datagram that nobody wanted earlier; this one has not been sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(datagram).await,
                sent => sent,
            }
        });
        sent.await.map(drop).map_err(|error| {
            *kept = None;
            format!("udp {}:{}: {error}", self.host, self.port)
        })
    }

    async fn connect(&self) -> io::Result<UdpSocket> {
        let mut last = None;
        for address in lookup_host((&*self.host, self.port)).await? {
            let ours: SocketAddr = if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
            let socket = UdpSocket::bind(ours).await?;
            match socket.connect(address).await {
                Ok(()) => return Ok(socket),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
    }

    /// Sends every entry of a batch as a datagram; the first that fails ends it.
    pub fn into_send(self) -> Send<Box<[u8]>> {
        let socket = Arc::new(self);
        Box::new(move |batch| {
            let socket = socket.clone();
            Box::pin(async move {
                for entry in batch.iter() {
                    socket.send(entry).await?;
                }
                Ok(())
            })
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + std::marker::Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + std::marker::Send> Stream for S {}

/// A connection to one server, plain or TLS, kept while it is used.
pub struct Connection {
    pub host: String,
    pub port: u16,
    pub timeout: Duration,
    /// How long it may be idle and still be used.
    pub keepalive: Duration,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    stream: Mutex<Option<Kept>>,
}

/// A connection that may be used again.
struct Kept {
    stream: Box<dyn Stream>,
    /// The same socket, to ask the kernel whether it is still open.
    socket: std::net::TcpStream,
    since: Instant,
}

impl Connection {
    pub fn new(host: &str, port: u16, timeout: Duration, keepalive: Duration) -> Self {
        Self { host: host.to_owned(), port, timeout, keepalive, tls: None, stream: Mutex::default() }
    }

    /// Makes it TLS. As in Kong the server's certificate is not verified. Errors when the name is none.
    pub fn with_tls(mut self, server_name: &str) -> portcullis_plugin::Result<Self> {
        let mut unverified: ClientConfig = (*UpstreamConfigs::new().for_service(false, None, &[], None).config).clone();
        unverified.alpn_protocols.clear();
        self.tls = Some((Arc::new(unverified).into(), ServerName::try_from(server_name.to_owned())?));
        Ok(self)
    }

    /// Sends bytes; on a kept connection that turns out to be dead, over a new one.
    pub async fn send(&self, bytes: &[u8]) -> Result<(), String> {
        let mut kept = self.stream.lock().await;
        if let Some(mut old) = kept.take()
            && old.since.elapsed() < self.keepalive
            && is_alive(&mut old)
            && within(self.timeout, write(&mut old.stream, bytes)).await.is_ok()
        {
            *kept = Some(Kept { since: Instant::now(), ..old });
            return Ok(());
        }
        let sent = async {
            let mut fresh = within(self.timeout, self.connect()).await?;
            within(self.timeout, write(&mut fresh.stream, bytes)).await?;
            Ok::<_, io::Error>(fresh)
        };
        let fresh = sent.await.map_err(|error| format!("tcp {}:{}: {error}", self.host, self.port))?;
        *kept = Some(Kept { since: Instant::now(), ..fresh });
        Ok(())
    }

    async fn connect(&self) -> io::Result<Kept> {
        let tcp = TcpStream::connect((&*self.host, self.port)).await?;
        let socket = tcp.as_fd().try_clone_to_owned()?.into();
        let stream: Box<dyn Stream> = match &self.tls {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
            None => Box::new(tcp),
        };
        Ok(Kept { stream, socket, since: Instant::now() })
    }
}

async fn write(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Whether the server has not closed the connection. What it may have sent is read and thrown away.
fn is_alive(kept: &mut Kept) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    let mut bytes = [0; 256];
    for _ in 0..64 {
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *kept.stream).poll_read(&mut context, &mut buffer) {
            // The runtime may not have heard yet what the kernel knows.
            Poll::Pending => return !matches!(kept.socket.peek(&mut [0]), Ok(0)),
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
            Poll::Ready(_) => return false,
        }
    }
    false
}
