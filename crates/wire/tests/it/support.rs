//! A gateway, an upstream that does as the path says, and a client that speaks raw bytes: all on one thread.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use portcullis_wire::listener::{self, Entrance, parse_listens};
use portcullis_wire::tls::ServerTls;
use portcullis_wire::{
    BodyFilter, Downstream, Framing, Headers, Moments, Peer, PoolSettings, Pools, Refusal, RequestBody, RequestHead, ResponseHead, Service,
    Settings, Target, Timeouts, UpstreamErrorKind, UpstreamTls, Worker,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Runs a test on a runtime like a worker's. A test that hangs fails.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), test()).await.expect("the test hangs") });
}

/// What the service saw and how it behaves.
pub struct Proxy {
    pub pools: Rc<Pools>,
    pub upstream: SocketAddr,
    pub tls: Option<std::sync::Arc<UpstreamTls>>,
    pub read_timeout: Duration,
    /// An upstream that speaks HTTP/2, for paths below `/grpc`.
    pub http2: Cell<Option<SocketAddr>>,
    pub peers: RefCell<Vec<Rc<Peer>>>,
    pub outcomes: RefCell<Vec<String>>,
    pub changed: Notify,
}

struct Shout;

impl BodyFilter for Shout {
    fn filter(&mut self, chunk: &mut Vec<u8>, last: bool) {
        chunk.make_ascii_uppercase();
        if last {
            chunk.extend_from_slice(b"!");
        }
    }
}

impl Proxy {
    fn note(&self, outcome: impl Into<String>) {
        self.outcomes.borrow_mut().push(outcome.into());
        self.changed.notify_waiters();
    }

    /// Waits until an outcome that contains `part` was noted.
    pub async fn outcome(&self, part: &str) {
        while !self.outcomes.borrow().iter().any(|outcome| outcome.contains(part)) {
            self.changed.notified().await;
        }
    }
}

impl Service for Proxy {
    async fn serve(&self, request: &mut RequestHead, down: &mut Downstream) {
        self.peers.borrow_mut().push(down.peer().clone());
        let path = String::from_utf8_lossy(request.path()).into_owned();
        let mut whole = Vec::new();
        if path.starts_with("/own") {
            let mut head = ResponseHead::new(200);
            head.headers.append("X-Own", b"yes");
            self.note(format!("own {:?}", down.respond(&mut head, b"own answer").await));
            return;
        }
        if path.starts_with("/read") || path.starts_with("/whole") {
            if let Err(error) = down.read_body(&mut whole, 1 << 20).await {
                self.note(format!("body {error:?}"));
                let _ = down.respond(&mut ResponseHead::new(413), b"").await;
                return;
            }
            if path.starts_with("/read") {
                let _ = down.respond(&mut ResponseHead::new(200), &whole).await;
                return;
            }
        }
        let body = match request.framing {
            _ if path.starts_with("/whole") => RequestBody::Whole(&whole),
            Framing::None => RequestBody::Empty,
            _ => RequestBody::Stream,
        };
        let head = upstream_head(request, path.starts_with("/whole").then_some(whole.len()));
        let target = Target { address: self.upstream, tls: self.tls.as_ref() };
        let second = Duration::from_secs(5);
        let timeouts = Timeouts { connect: second, write: second, read: self.read_timeout };
        let idempotent = request.method.may_be_retried(request.method_text());
        let mut moments = Moments::default();
        let sent = match self.http2.get().filter(|_| path.starts_with("/grpc")) {
            Some(address) => {
                let target = Target { address, tls: None };
                self.pools.send_http2(&target, "", &head, body, idempotent, request, down, &timeouts, &mut moments).await
            }
            None => self.pools.send(&target, "up.test", &head, body, idempotent, request, down, &timeouts, &mut moments).await,
        };
        match sent {
            Err(error) => {
                let status = match error.kind {
                    UpstreamErrorKind::ReadTimeout | UpstreamErrorKind::ConnectTimeout => 504,
                    UpstreamErrorKind::ClientGone => {
                        self.note("client gone");
                        return down.abort();
                    }
                    UpstreamErrorKind::ClientBody(portcullis_wire::BodyError::TooLarge) => 413,
                    UpstreamErrorKind::ClientBody(_) => 400,
                    _ => 502,
                };
                self.note(format!("{status} {error} retry {}", error.may_retry));
                let _ = down.respond(&mut ResponseHead::new(status), error.to_string().as_bytes()).await;
            }
            Ok((mut response, mut up)) => {
                if response.status == 101 {
                    return self.note(format!("tunnel {:?}", down.tunnel(&mut response, up).await));
                }
                response.headers.append("X-Gate", b"1");
                if path.starts_with("/buffered") {
                    let mut body = Vec::new();
                    let read = up.read_body(&mut body, 1 << 20).await;
                    drop(up);
                    self.note(format!("buffered {:?}", read.map_err(|error| error.to_string())));
                    let _ = down.respond(&mut response, &body).await;
                    return;
                }
                let mut shout = Shout;
                let filter: Option<&mut dyn BodyFilter> = if path.starts_with("/shout") {
                    response.headers.remove("content-length");
                    Some(&mut shout)
                } else {
                    None
                };
                let relayed = down.relay(&mut response, up, filter).await;
                down.worker().give_response(response);
                self.note(format!("relay {:?}", relayed.map_err(|error| error.to_string())));
            }
        }
    }

    fn refuse(&self, refusal: &Refusal, request: &RequestHead, _: &Peer) -> (ResponseHead, Vec<u8>) {
        let mut head = ResponseHead::new(refusal.status);
        head.headers.append("X-Lines", request.headers.len().to_string().as_bytes());
        (head, refusal.reason.into())
    }
}

/// The upstream's request head: as the client sent it, without what is bound to the client's connection.
fn upstream_head(request: &RequestHead, whole: Option<usize>) -> Vec<u8> {
    use portcullis_wire::headers::Known;
    let mut out = [request.method_text(), b" ", request.target(), b" HTTP/1.1\r\n"].concat();
    request.headers.write_to(&mut out, |line| match line.known {
        Known::Connection | Known::KeepAlive | Known::Expect | Known::TransferEncoding | Known::Te | Known::Upgrade => false,
        Known::ContentLength => whole.is_none(),
        _ => true,
    });
    match (whole, request.framing) {
        (Some(length), _) => out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes()),
        (None, Framing::Chunked) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        _ => {}
    }
    if request.upgrade {
        out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    } else {
        out.extend_from_slice(b"Connection: keep-alive\r\n\r\n");
    }
    out
}

pub struct Gateway {
    pub worker: Rc<Worker>,
    pub service: Rc<Proxy>,
    pub upstream: Rc<Upstream>,
    pub address: SocketAddr,
}

pub fn settings() -> Settings {
    Settings { client_header_timeout: Duration::from_secs(10), ..Settings::default() }
}

/// How a gateway is made; the defaults do for most tests.
pub struct Build {
    pub listen: String,
    pub settings: Settings,
    pub tls: Option<ServerTls>,
    pub upstream_tls: Option<(std::sync::Arc<UpstreamTls>, tokio_rustls::TlsAcceptor)>,
    pub read_timeout: Duration,
    pub pool: PoolSettings,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            settings: settings(),
            tls: None,
            upstream_tls: None,
            read_timeout: Duration::from_secs(10),
            pool: PoolSettings::default(),
        }
    }
}

impl Build {
    pub async fn start(self) -> Gateway {
        let worker = Worker::new(self.settings);
        worker.start();
        let (tls, acceptor) = self.upstream_tls.unzip();
        let upstream = Upstream::start(acceptor).await;
        let service = Rc::new(Proxy {
            pools: Pools::new(&worker, self.pool),
            upstream: upstream.address,
            tls,
            read_timeout: self.read_timeout,
            http2: Cell::new(None),
            peers: RefCell::default(),
            outcomes: RefCell::default(),
            changed: Notify::new(),
        });
        let listen = &parse_listens("proxy_listen", &self.listen).unwrap()[0];
        let socket = listener::open(listen).unwrap();
        let address = match &socket {
            listener::Socket::Tcp(socket) => socket.local_addr().unwrap(),
            listener::Socket::Unix(_) | listener::Socket::Udp(_) => "0.0.0.0:0".parse().unwrap(),
        };
        let entrance = Entrance::new(3, listen, self.tls.as_ref());
        tokio::task::spawn_local(listener::accept(socket, entrance, service.clone(), worker.clone()));
        Gateway { worker, service, upstream, address }
    }
}

impl Gateway {
    pub async fn start() -> Self {
        Build::default().start().await
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.client().await;
        client.send(request).await;
        client.answer().await
    }
}

pub struct Client<S> {
    pub stream: S,
    pub rest: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Body bytes as they came, chunk sizes included.
    pub raw: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1);
        lines.find_map(|line| line.split_once(": ").filter(|(at, _)| at.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, rest: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn more(&mut self) -> bool {
        let mut bytes = vec![0; 65536];
        match self.stream.read(&mut bytes).await {
            Ok(length) => {
                self.rest.extend_from_slice(&bytes[..length]);
                length > 0
            }
            Err(_) => false,
        }
    }

    pub async fn line(&mut self) -> Vec<u8> {
        loop {
            if let Some(at) = self.rest.windows(2).position(|pair| pair == b"\r\n") {
                return self.rest.drain(..at + 2).collect();
            }
            assert!(self.more().await, "connection ended within a line: {}", self.rest.escape_ascii());
        }
    }

    pub async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.rest.len() < length {
            assert!(self.more().await, "connection ended {} bytes early", length - self.rest.len());
        }
        self.rest.drain(..length).collect()
    }

    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    pub async fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        loop {
            let line = self.line().await;
            if line == b"\r\n" {
                break;
            }
            head.push_str(std::str::from_utf8(&line).unwrap());
        }
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
    }

    pub async fn answer_to(&mut self, method: &str) -> Answer {
        let (status, head) = self.head().await;
        let mut answer = Answer { status, head, body: Vec::new(), raw: Vec::new() };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line().await;
                let size = std::str::from_utf8(&line).unwrap().trim_end().split(';').next().unwrap().to_owned();
                answer.raw.extend_from_slice(&line);
                let size = usize::from_str_radix(&size, 16).unwrap();
                if size == 0 {
                    break;
                }
                let chunk = self.take(size + 2).await;
                answer.raw.extend_from_slice(&chunk);
                answer.body.extend_from_slice(&chunk[..size]);
            }
            loop {
                let line = self.line().await;
                answer.raw.extend_from_slice(&line);
                if line == b"\r\n" {
                    return answer;
                }
            }
        }
        if let Some(length) = answer.header("content-length") {
            answer.body = self.take(length.parse().unwrap()).await;
        } else {
            while self.more().await {}
            answer.body = std::mem::take(&mut self.rest);
        }
        answer
    }

    /// Whether the gateway closed, with nothing left to read.
    pub async fn is_closed(&mut self) -> bool {
        self.rest.is_empty() && !self.more().await
    }
}

/// Answers as the last part of the path says.
pub struct Upstream {
    pub address: SocketAddr,
    pub connections: Cell<usize>,
    pub closed: Cell<usize>,
    pub requests: Cell<usize>,
    pub received: Cell<usize>,
    pub changed: Notify,
    /// Lets `/hold` uploads be read.
    pub released: Cell<bool>,
}

impl Upstream {
    async fn start(acceptor: Option<tokio_rustls::TlsAcceptor>) -> Rc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Rc::new(Self {
            address: listener.local_addr().unwrap(),
            connections: Cell::new(0),
            closed: Cell::new(0),
            requests: Cell::new(0),
            received: Cell::new(0),
            changed: Notify::new(),
            released: Cell::new(false),
        });
        let this = upstream.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                this.connections.set(this.connections.get() + 1);
                let (this, acceptor) = (this.clone(), acceptor.clone());
                tokio::task::spawn_local(async move {
                    match acceptor {
                        None => this.connection(Client::new(stream)).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                this.connection(Client::new(stream)).await;
                            }
                        }
                    }
                    this.closed.set(this.closed.get() + 1);
                    this.changed.notify_waiters();
                });
            }
        });
        upstream
    }

    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            self.changed.notified().await;
        }
    }

    pub fn release(&self) {
        self.released.set(true);
        self.changed.notify_waiters();
    }

    async fn connection<S: AsyncRead + AsyncWrite + Unpin>(&self, mut client: Client<S>) {
        let mut served = 0;
        loop {
            while !client.rest.windows(4).any(|four| four == b"\r\n\r\n") {
                if !client.more().await {
                    return;
                }
            }
            let mut raw = Vec::new();
            let mut lines = Headers::default();
            loop {
                let line = client.line().await;
                raw.extend_from_slice(&line);
                if line == b"\r\n" {
                    break;
                }
                let line = std::str::from_utf8(&line).unwrap().trim_end();
                if let Some((name, value)) = line.split_once(": ") {
                    lines.append(name, value.as_bytes());
                }
            }
            let request = String::from_utf8_lossy(&raw).into_owned();
            let target = request.split(' ').nth(1).unwrap().to_owned();
            let what = target.split('?').next().unwrap().trim_end_matches('/').rsplit('/').next().unwrap().to_owned();
            self.requests.set(self.requests.get() + 1);
            served += 1;
            self.changed.notify_waiters();
            if what == "early" {
                client.send("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nearly").await;
                return;
            }
            if what == "hold" {
                self.until(|this| this.released.get()).await;
            }
            if what == "refuse-reuse" && served > 1 {
                return;
            }
            let mut body = Vec::new();
            if let Some(length) = lines.get("content-length") {
                let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
                let mut left = length;
                while left > 0 {
                    if client.rest.is_empty() && !client.more().await {
                        return;
                    }
                    let piece = left.min(client.rest.len());
                    self.received.set(self.received.get() + piece);
                    if what == "echo" {
                        body.extend_from_slice(&client.rest[..piece]);
                    }
                    client.rest.drain(..piece);
                    left -= piece;
                }
            } else if lines.contains("transfer-encoding") {
                loop {
                    let line = client.line().await;
                    body.extend_from_slice(&line);
                    let size = std::str::from_utf8(&line).unwrap().trim_end().split(';').next().unwrap().to_owned();
                    let size = usize::from_str_radix(&size, 16).unwrap();
                    if size == 0 {
                        break;
                    }
                    body.extend(client.take(size + 2).await);
                    self.received.set(self.received.get() + size);
                }
                loop {
                    let line = client.line().await;
                    body.extend_from_slice(&line);
                    if line == b"\r\n" {
                        break;
                    }
                }
            }
            if !self.answer(&what, &request, &raw, body, &mut client).await {
                return;
            }
        }
    }

    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        what: &str,
        request: &str,
        raw: &[u8],
        body: Vec<u8>,
        client: &mut Client<S>,
    ) -> bool {
        let is_head = request.starts_with("HEAD");
        match what {
            "echo" => {
                let body = [raw, &body].concat();
                client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())).await;
                client.send(body).await;
            }
            "chunked" => {
                client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n").await;
                for size in 1..50 {
                    client.send(format!("{:x};n=\"{size}\"\r\n{}\r\n", size * 37, "c".repeat(size * 37))).await;
                }
                client.send("0\r\nX-Trailer: yes\r\n\r\n").await;
            }
            "until-close" => {
                client.send("HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nuntil-close-body").await;
                return false;
            }
            "close" => {
                client.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nclose").await;
                return false;
            }
            "then-close" => {
                client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                return false;
            }
            "short" => {
                client.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot enough").await;
                return false;
            }
            "drop" => return false,
            "interim" => {
                client.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
                client.send("HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok").await;
            }
            "204" => client.send("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n").await,
            "304" => client.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 128\r\n\r\n").await,
            "hop" => {
                client
                    .send("HTTP/1.1 200 OK\r\nConnection: X-Gone, keep-alive\r\nX-Gone: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nTrailer: X-Sum\r\nX-Stay: 1\r\nContent-Length: 0\r\n\r\n")
                    .await;
            }
            "bad" => client.send("NONSENSE\r\n\r\n").await,
            "two-lengths" => client.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab").await,
            "both" => client.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n").await,
            "bare-lf" => client.send("HTTP/1.1 200 OK\nX-A: b\nContent-Length: 2\n\nok").await,
            "bad-chunk" => client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await,
            "big-head" => client.send(format!("HTTP/1.1 200 OK\r\nX-Big: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(6000))).await,
            "hang" => {
                while client.more().await {}
                return false;
            }
            "ws" => {
                client.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello-ws").await;
                loop {
                    let rest = std::mem::take(&mut client.rest);
                    client.send(rest).await;
                    if !client.more().await {
                        return false;
                    }
                }
            }
            _ => {
                let length: usize = what.parse().unwrap_or(2);
                client.send(format!("HTTP/1.1 200 OK\r\nServer: up\r\nContent-Length: {length}\r\n\r\n")).await;
                if !is_head {
                    client.send("x".repeat(length)).await;
                }
            }
        }
        true
    }
}
