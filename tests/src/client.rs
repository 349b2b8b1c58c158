//! A client that sends whatever bytes it is given and reads HTTP/1.1 answers strictly.

use crate::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// An answer, its body whole and without its coding.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// A client's connection.
pub struct Connection {
    stream: Stream,
    /// Bytes read and not used yet.
    buffer: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(into),
            Stream::Tls(stream) => stream.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        Self::try_open(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
    }

    pub fn try_open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream: Stream::Plain(stream), buffer: Vec::new() })
    }

    /// Connects with TLS. Errors when the handshake fails.
    pub fn open_tls(address: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> io::Result<Connection> {
        let plain = Self::try_open(address)?;
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let client = rustls::ClientConnection::new(config, name).map_err(io::Error::other)?;
        let Stream::Plain(stream) = plain.stream else { unreachable!("try_open makes plain connections") };
        let mut stream = rustls::StreamOwned::new(client, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Connection { stream: Stream::Tls(Box::new(stream)), buffer: Vec::new() })
    }

    /// What TLS agreed on: protocol version and ALPN.
    pub fn tls(&self) -> Option<(rustls::ProtocolVersion, Option<String>)> {
        let Stream::Tls(stream) = &self.stream else { return None };
        let alpn = stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        Some((stream.conn.protocol_version()?, alpn))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("sending: {error}"));
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Ends our side; the answer may still be read.
    pub fn finish_sending(&self) {
        self.stream.tcp().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// The next answer, interim ones passed over.
    pub fn response(&mut self) -> Response {
        self.try_response().unwrap_or_else(|error| panic!("reading an answer: {error}; got {:?}", String::from_utf8_lossy(&self.buffer)))
    }

    /// The next answer to a request of this method: an answer to HEAD has no body.
    pub fn try_response(&mut self) -> io::Result<Response> {
        loop {
            let mut response = self.head()?;
            if response.status >= 200 || response.status == 101 {
                response.body = self.body(&response)?;
                return Ok(response);
            }
        }
    }

    /// Status and headers of the next answer; the body is still to be read.
    pub fn head(&mut self) -> io::Result<Response> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {head}")))?;
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("no header: {line}")))?;
                Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect::<io::Result<_>>()?;
        Ok(Response { status, headers, body: Vec::new() })
    }

    fn body(&mut self, head: &Response) -> io::Result<Vec<u8>> {
        if matches!(head.status, 101 | 204 | 304) {
            return Ok(Vec::new());
        }
        if head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.chunked();
        }
        if let Some(length) = head.header("content-length") {
            let length: usize = length.parse().map_err(io::Error::other)?;
            return self.exactly(length);
        }
        let mut body = std::mem::take(&mut self.buffer);
        while self.fill().is_ok() {
            body.append(&mut self.buffer);
        }
        Ok(body)
    }

    fn chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| io::Error::other(format!("no chunk size: {line}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            let blank = self.line()?;
            if !blank.is_empty() {
                return Err(io::Error::other(format!("no end of chunk: {blank}")));
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Reads and drops so many bytes of a body; for bodies that no one wants to hold.
    pub fn skip(&mut self, mut length: u64) {
        let held = (self.buffer.len() as u64).min(length);
        self.buffer.drain(..held as usize);
        length -= held;
        let mut piece = vec![0; 256 * 1024];
        while length > 0 {
            let wanted = length.min(piece.len() as u64) as usize;
            let count = self.stream.read(&mut piece[..wanted]).unwrap_or_else(|error| panic!("{length} bytes to come: {error}"));
            assert!(count > 0, "closed with {length} bytes to come");
            length -= count as u64;
        }
    }

    /// Everything until the other side closes, or a reset.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("still open after {PATIENCE:?}"),
                Err(_) => return std::mem::take(&mut self.buffer),
            }
        }
    }

    /// Whether the other side has closed, waiting for it.
    pub fn is_closed(&mut self) -> bool {
        self.read_to_end().is_empty()
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes());
    connection.response()
}
