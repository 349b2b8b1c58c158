//! Requests that plugins make of their own: to functions, models and the like.
//!
//! They run on the control runtime over pooled connections; a worker waits for the answer only. Through a proxy each request
//! has a connection of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use portcullis_plugin::Env;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http_client::{self, HttpClient, with_causes};

/// Largest answer that is taken, in bytes.
const LARGEST_ANSWER: usize = 64 << 20;
/// Largest head of a proxy's answer, in bytes.
const LARGEST_PROXY_HEAD: usize = 8 << 10;

/// How connections are made; equal settings share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connections {
    /// Whether certificates are checked against the trusted ones.
    pub verify: bool,
    /// How long an idle connection is kept.
    pub keepalive: Duration,
}

/// The clients of this process, by their settings.
#[derive(Default)]
pub struct Clients {
    clients: Mutex<HashMap<Connections, Client>>,
}

/// Sends requests.
#[derive(Clone)]
pub struct Client {
    pooled: HttpClient,
    tls: Arc<rustls::ClientConfig>,
    runtime: tokio::runtime::Handle,
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub timeout: Duration,
    /// Host and port of a proxy that is spoken to without TLS.
    pub proxy: Option<(String, u16)>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Clients {
    pub fn with(&self, connections: Connections, env: &Env) -> Client {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(connections).or_insert_with(|| Client::new(connections, env)).clone()
    }
}

impl Client {
    fn new(connections: Connections, env: &Env) -> Self {
        let roots = if connections.verify { vec![env.node.trusted_certificates()] } else { Vec::new() };
        let tls = http_client::tls(connections.verify, &roots);
        let pooled = http_client::pooled(tls.clone(), None, connections.keepalive);
        Self { pooled, tls: Arc::new(tls), runtime: env.runtime.clone() }
    }

    /// Sends a request and takes the whole answer. Errors with one line.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Incoming, String> {
        let client = self.clone();
        let sending = self.runtime.spawn(async move {
            let timeout = outgoing.timeout;
            tokio::time::timeout(timeout, client.exchange(outgoing)).await.unwrap_or_else(|_| Err("timeout".to_owned()))
        });
        sending.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// As [`Client::send`] over TLS, with another name in the handshake than the address has, on a connection of its own.
    pub async fn send_to(&self, outgoing: Outgoing, server_name: String) -> Result<Incoming, String> {
        let client = self.clone();
        let sending = self.runtime.spawn(async move {
            let timeout = outgoing.timeout;
            tokio::time::timeout(timeout, client.exchange_with(outgoing, server_name)).await.unwrap_or_else(|_| Err("timeout".to_owned()))
        });
        sending.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn exchange_with(&self, outgoing: Outgoing, server_name: String) -> Result<Incoming, String> {
        let mut request = http::Request::new(Full::new(outgoing.body));
        *request.method_mut() = outgoing.method;
        *request.headers_mut() = outgoing.headers;
        let authority = outgoing.uri.authority().ok_or("the address has no host")?.clone();
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(&server_name).map_err(|error| error.to_string())?);
        *request.uri_mut() = outgoing.uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| path.clone().into());
        let host = authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(443))).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(server_name).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|error| error.to_string())?;
        whole(over(stream, request).await?).await
    }

    async fn exchange(&self, outgoing: Outgoing) -> Result<Incoming, String> {
        let mut request = http::Request::new(Full::new(outgoing.body));
        *request.method_mut() = outgoing.method;
        *request.headers_mut() = outgoing.headers;
        let response = match outgoing.proxy {
            None => {
                *request.uri_mut() = outgoing.uri;
                self.pooled.request(request).await.map_err(|error| with_causes(&error))?
            }
            Some((host, port)) => self.by_proxy(&host, port, outgoing.uri, request).await?,
        };
        whole(response).await
    }

    async fn by_proxy(
        &self,
        host: &str,
        port: u16,
        uri: Uri,
        mut request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<hyper::body::Incoming>, String> {
        let mut stream = TcpStream::connect((host, port)).await.map_err(|error| format!("proxy: {error}"))?;
        let authority = uri.authority().ok_or("the address has no host")?.clone();
        if !request.headers().contains_key(header::HOST) {
            request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?);
        }
        if uri.scheme_str() != Some("https") {
            *request.uri_mut() = uri;
            return over(stream, request).await;
        }
        connect(&mut stream, &format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(443))).await?;
        let name = ServerName::try_from(authority.host().trim_matches(['[', ']']).to_owned()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|error| error.to_string())?;
        *request.uri_mut() = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| path.clone().into());
        over(stream, request).await
    }
}

async fn whole(response: http::Response<hyper::body::Incoming>) -> Result<Incoming, String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok(Incoming { status: head.status.as_u16(), headers: head.headers, body })
}

/// Asks a proxy for a tunnel.
async fn connect(stream: &mut TcpStream, authority: &str) -> Result<(), String> {
    let asked = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.map_err(|error| format!("proxy: {error}"))?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to the tunnel.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LARGEST_PROXY_HEAD {
            return Err("proxy: the answer has no end".to_owned());
        }
        head.push(stream.read_u8().await.map_err(|error| format!("proxy: {error}"))?);
    }
    let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(format!("proxy: {line}")),
    }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Full<Bytes>>,
) -> Result<http::Response<hyper::body::Incoming>, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| with_causes(&error))?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| with_causes(&error))
}
