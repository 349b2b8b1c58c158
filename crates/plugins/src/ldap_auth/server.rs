//! The LDAP server: connections to it, and logins over them. All of it runs on the control runtime.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tracing::warn;

use super::ber::{self, Outcome};

/// How many logins are made at a time.
const AT_A_TIME: usize = 64;

const SUCCESS: u32 = 0;
const INVALID_CREDENTIALS: u32 = 49;

/// When a connection turns to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    None,
    /// With its first byte.
    Ldaps,
    /// Once it stands.
    StartTls,
}

pub struct Server {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub tls: Arc<ClientConfig>,
    pub timeout: Duration,
    /// How long an idle connection is kept.
    pub keepalive: Duration,
    idle: Mutex<Vec<(Connection, Instant)>>,
    turns: Semaphore,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct Connection {
    stream: Box<dyn Stream>,
    /// The number of the last message.
    last: u32,
}

impl Server {
    pub fn new(host: String, port: u16, security: Security, tls: Arc<ClientConfig>, timeout: Duration, keepalive: Duration) -> Self {
        Self { host, port, security, tls, timeout, keepalive, idle: Mutex::default(), turns: Semaphore::new(AT_A_TIME) }
    }

    /// Whether the server takes this password for this name. Errors if the server cannot be asked.
    pub async fn accepts(&self, name: &str, password: &[u8]) -> io::Result<bool> {
        tokio::time::timeout(self.timeout, self.ask(name, password)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn ask(&self, name: &str, password: &[u8]) -> io::Result<bool> {
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        // The server may have closed an idle connection just now: only a new one tells that it cannot be reached.
        if let Some(connection) = self.take_idle()
            && let Ok(accepted) = self.bind(connection, name, password).await
        {
            return Ok(accepted);
        }
        let connection = self.connect().await?;
        self.bind(connection, name, password).await
    }

    async fn bind(&self, mut connection: Connection, name: &str, password: &[u8]) -> io::Result<bool> {
        let outcome = connection.call(|id| ber::bind(id, name.as_bytes(), password)).await?;
        match outcome.code {
            SUCCESS | INVALID_CREDENTIALS => self.keep(connection),
            code => {
                warn!(
                    host = self.host,
                    code,
                    text = outcome.text,
                    "the LDAP server refused a login for a reason other than its credentials"
                );
                let _ = connection.stream.write_all(&ber::unbind(connection.last + 1)).await;
            }
        }
        Ok(outcome.code == SUCCESS)
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        match self.security {
            Security::None => Ok(Connection { stream: Box::new(stream), last: 0 }),
            Security::Ldaps => self.encrypt(stream).await,
            Security::StartTls => {
                let mut plain = Connection { stream: Box::new(stream), last: 0 };
                let outcome = plain.call(ber::start_tls).await?;
                if outcome.code != SUCCESS {
                    return Err(io::Error::other(format!("StartTLS was refused: {} (code {})", outcome.text, outcome.code)));
                }
                self.encrypt(plain.stream).await
            }
        }
    }

    async fn encrypt(&self, stream: impl Stream + 'static) -> io::Result<Connection> {
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        Ok(Connection { stream: Box::new(stream), last: 1 })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < self.keepalive);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: Connection) {
        if !self.keepalive.is_zero() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        }
    }
}

impl Connection {
    /// Sends a request and reads its answer.
    async fn call(&mut self, request: impl FnOnce(u32) -> Vec<u8>) -> io::Result<Outcome> {
        self.last += 1;
        self.stream.write_all(&request(self.last)).await?;
        self.stream.flush().await?;
        let malformed = |text: &'static str| io::Error::new(io::ErrorKind::InvalidData, text);
        // An answer is read to its last byte and no further: after StartTLS the next byte belongs to TLS.
        let mut message = Vec::with_capacity(64);
        loop {
            let missing = match ber::length(&message).map_err(malformed)? {
                Some(length) if length == message.len() => break,
                Some(length) => length - message.len(),
                None => 1,
            };
            let start = message.len();
            message.resize(start + missing, 0);
            self.stream.read_exact(&mut message[start..]).await?;
        }
        let outcome = ber::outcome(&message).ok_or_else(|| malformed("the LDAP server's answer cannot be read"))?;
        if outcome.id != self.last {
            return Err(io::Error::other(format!("the LDAP server ends the connection: {} (code {})", outcome.text, outcome.code)));
        }
        Ok(outcome)
    }
}
