//! A client that sends the bytes it is given and reads answers in any framing.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use crate::PATIENCE;

/// A plain GET of `target` on a connection that stays.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: gate.test\r\n\r\n")
}

/// One connection; `S` is a `TcpStream` or TLS over one.
pub struct Client<S = TcpStream> {
    /// The connection itself, for what the methods here don't do.
    pub stream: S,
    rest: Vec<u8>,
}

/// An answer, its body decoded.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and header lines, each with its line end.
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer lines of a chunked body.
    pub trailers: String,
}

impl Answer {
    /// The first value under `name`, case ignored.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1);
        lines.find_map(|line| line.split_once(": ").filter(|(at, _)| at.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.text()))
    }
}

impl Client {
    /// Connects to `address`.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client::over(stream)
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    /// A client over a connection that stands already.
    pub fn over(stream: S) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// Sends the bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends a GET and reads its answer.
    pub fn get(&mut self, target: &str) -> Answer {
        self.send(get(target));
        self.answer()
    }

    /// Reads some; false at the end of the connection, however it ended.
    fn more(&mut self) -> bool {
        let mut bytes = [0; 65536];
        match self.stream.read(&mut bytes) {
            Ok(length) => {
                self.rest.extend_from_slice(&bytes[..length]);
                length > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the gateway said nothing for {PATIENCE:?}; before that: {}", self.rest.escape_ascii())
            }
            Err(_) => false,
        }
    }

    /// One line with its end, or what there was before the connection ended.
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.rest.windows(2).position(|pair| pair == b"\r\n") {
                return Some(String::from_utf8(self.rest.drain(..at + 2).collect()).unwrap());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// Exactly `length` bytes.
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.rest.len() < length {
            assert!(self.more(), "the connection ended {} bytes early", length - self.rest.len());
        }
        self.rest.drain(..length).collect()
    }

    /// Throws `length` bytes away without keeping them.
    pub fn skip(&mut self, mut length: usize) {
        while length > self.rest.len() {
            length -= self.rest.len();
            self.rest.clear();
            assert!(self.more(), "the connection ended {length} bytes early");
        }
        self.rest.drain(..length);
    }

    /// Everything until the connection ends.
    pub fn to_end(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.rest)
    }

    /// True if the gateway closes without saying more.
    pub fn is_closed(&mut self) -> bool {
        self.rest.is_empty() && !self.more()
    }

    /// An answer's head, status first; none if the connection ends first.
    pub fn head(&mut self) -> Option<(u16, String)> {
        let mut head = String::new();
        loop {
            let line = self.line()?;
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Some((status.unwrap_or_else(|| panic!("no status line: {head}")), head))
    }

    /// An answer to a request that was not HEAD.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// An answer to a request with this method: HEAD has no body.
    pub fn answer_to(&mut self, method: &str) -> Answer {
        let (status, head) = self.head().expect("the connection ended without an answer");
        let mut answer = Answer { status, head, body: Vec::new(), trailers: String::new() };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line().expect("the connection ended before a chunk");
                let size = usize::from_str_radix(line.trim_end().split(';').next().unwrap(), 16).unwrap();
                if size == 0 {
                    break;
                }
                answer.body.extend(self.take(size));
                assert_eq!(self.take(2), b"\r\n");
            }
            loop {
                let line = self.line().expect("the connection ended within the trailers");
                if line == "\r\n" {
                    return answer;
                }
                answer.trailers.push_str(&line);
            }
        }
        answer.body = match answer.header("content-length") {
            Some(length) => self.take(length.parse().unwrap()),
            None => self.to_end(),
        };
        answer
    }
}
