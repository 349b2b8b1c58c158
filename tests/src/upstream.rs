//! What stands behind the gateway in tests: it answers as the first part of the path says.
//!
//! | path | answer |
//! |---|---|
//! | `/bytes/N` | N bytes, `Content-Length` |
//! | `/chunked` | two chunks and the trailer `X-Sum: 7` |
//! | `/status/N` | that status without a body |
//! | `/hold` | head and body once the test says [`Upstream::release`] |
//! | `/half` | a head that promises ten bytes, three of them, then the end |
//! | `/reset`, `/garbage`, `/hangup` | a reset, no HTTP, the end of the connection |
//! | `/until-close` | a body that ends with the connection |
//! | `/leave` | as `/echo`, then the connection ends although it was to stay |
//! | `/early` | 413 before the body is read, then the end |
//! | `/upgrade` | 101, then everything comes back |
//! | `/interim` | 103, then 200 |
//! | `/sink` | reads the body without keeping it, tells its length |
//! | anything else | the request as JSON: `method`, `target`, `head`, `headers`, `body`, `trailers` |

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::PATIENCE;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and header lines, each with its line end.
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer lines of a chunked body.
    pub trailers: String,
}

impl Seen {
    /// The first value under `name`, case ignored.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1);
        lines.find_map(|line| line.split_once(':').filter(|(at, _)| at.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()))
    }

    /// The request target.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    connections: usize,
    open: usize,
    started: usize,
    seen: Vec<Seen>,
    released: bool,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn change<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        let changed = with(&mut self.state.lock().unwrap());
        self.changed.notify_all();
        changed
    }

    fn wait(&self, what: &str, until: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        while !until(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the upstream never saw {what}");
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

/// A server on a free port.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Starts one.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.state.lock().unwrap().ended {
                    return;
                }
                let (Ok(stream), shared) = (stream, of_thread.clone()) else { continue };
                shared.change(|state| (state.connections += 1, state.open += 1));
                std::thread::spawn(move || {
                    // A connection that breaks is what some tests are about.
                    let _ = serve(stream, &shared);
                    shared.change(|state| state.open -= 1);
                });
            }
        });
        Self { address, shared }
    }

    /// `http://` and the address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.state.lock().unwrap().connections
    }

    /// The complete requests so far, in order of their arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state.lock().unwrap().seen.clone()
    }

    /// Lets every `/hold` answer, now and later.
    pub fn release(&self) {
        self.shared.change(|state| state.released = true);
    }

    /// Waits until `count` request heads have arrived.
    pub fn wait_for_requests(&self, count: usize) {
        self.shared.wait("the requests", |state| state.started >= count);
    }

    /// Waits until every connection is gone.
    pub fn wait_until_left_alone(&self) {
        self.shared.wait("its connections close", |state| state.open == 0);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.change(|state| (state.ended = true, state.released = true));
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut seen = Seen { head, body: Vec::new(), trailers: String::new() };
        shared.change(|state| state.started += 1);
        let path = seen.target().split('?').next().unwrap_or_default().to_owned();
        let mut parts = path.split('/').skip(1);
        let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if first == "early" {
            return stream.write_all(b"HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!");
        }
        if seen.header("expect") == Some("100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = read_body(&mut reader, &mut seen, first != "sink")?;
        shared.change(|state| state.seen.push(seen.clone()));
        let number = second.parse().unwrap_or(0);
        match first {
            "bytes" => write_bytes(&mut stream, &seen, number)?,
            "chunked" => stream.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\none\r\n4\r\nfour\r\n0\r\nX-Sum: 7\r\n\r\n",
            )?,
            "status" if number == 204 || number == 304 => write!(stream, "HTTP/1.1 {number} Status\r\n\r\n")?,
            "status" => write!(stream, "HTTP/1.1 {number} Status\r\nContent-Length: 0\r\n\r\n")?,
            "header" => {
                let value = parts.next().unwrap_or_default();
                write!(stream, "HTTP/1.1 200 OK\r\n{second}: {value}\r\nContent-Length: 2\r\n\r\nok")?;
            }
            "hold" => {
                hold(&stream, shared)?;
                write_echo(&mut stream, &seen)?;
            }
            "half" => return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
            "reset" => return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
            "garbage" => return stream.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
            "hangup" => return Ok(()),
            "until-close" => return stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil-close"),
            "leave" => return write_echo(&mut stream, &seen),
            "upgrade" => {
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")?;
                return std::io::copy(&mut reader, &mut stream).map(drop);
            }
            "interim" => {
                stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?
            }
            "sink" => write_answer(&mut stream, length.to_string().as_bytes())?,
            _ => write_echo(&mut stream, &seen)?,
        }
    }
}

/// Waits until the test releases it or the gateway goes away.
fn hold(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut state = shared.state.lock().unwrap();
    while !state.released {
        state = shared.changed.wait_timeout(state, Duration::from_millis(5)).unwrap().0;
        if matches!(stream.peek(&mut [0]), Ok(0)) {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
    }
    stream.set_nonblocking(false)
}

/// Reads the body in its framing and gives its length; keeps it only if asked to.
fn read_body(reader: &mut impl BufRead, seen: &mut Seen, keep: bool) -> std::io::Result<usize> {
    if seen.header("transfer-encoding").is_none() {
        let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        read_part(reader, seen, length, keep)?;
        return Ok(length);
    }
    let mut whole = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(std::io::Error::other)?;
        if size == 0 {
            break;
        }
        read_part(reader, seen, size, keep)?;
        whole += size;
        reader.read_line(&mut String::new())?;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            return Ok(whole);
        }
        seen.trailers.push_str(&line);
    }
}

fn read_part(reader: &mut impl BufRead, seen: &mut Seen, length: usize, keep: bool) -> std::io::Result<()> {
    let mut part = reader.take(length as u64);
    let read = if keep { part.read_to_end(&mut seen.body)? as u64 } else { std::io::copy(&mut part, &mut std::io::sink())? };
    if read < length as u64 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn write_answer(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())
}

fn write_bytes(stream: &mut TcpStream, seen: &Seen, mut length: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
    if seen.head.starts_with("HEAD ") {
        return Ok(());
    }
    let block = [b'x'; 65536];
    while length > 0 {
        let part = length.min(block.len());
        stream.write_all(&block[..part])?;
        length -= part;
    }
    Ok(())
}

fn write_echo(stream: &mut TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut headers = Map::new();
    for line in seen.head.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        headers.insert(name.to_ascii_lowercase(), Value::from(value.trim()));
    }
    let echo = json!({
        "method": seen.head.split(' ').next(),
        "target": seen.target(),
        "head": seen.head,
        "headers": headers,
        "body": String::from_utf8_lossy(&seen.body),
        "trailers": seen.trailers,
    });
    if seen.head.starts_with("HEAD ") {
        return write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", echo.to_string().len());
    }
    write_answer(stream, echo.to_string().as_bytes())
}
