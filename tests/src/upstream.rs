//! A server whose answers the path chooses, and which tells what it saw.
//!
//! | path | answer |
//! |---|---|
//! | `/delay/MS` | the echo, after so many milliseconds |
//! | `/bytes/N` | so many bytes, with a Content-Length |
//! | `/chunked/N` | so many chunks of 1,000 bytes |
//! | `/sink` | the number of bytes received, as JSON |
//! | `/early` | 413 at once, the body unread |
//! | `/close` | none: the connection closes |
//! | `/last` | the echo, then the connection closes though nothing announced it |
//! | `/garbage` | bytes that are no HTTP |
//! | `/short` | fewer bytes than announced |
//! | anything else | the request as JSON: method, target, headers (names in lower case), body |

use serde_json::json;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the upstream saw so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connections: usize,
    /// Method and target of each request whose head arrived.
    pub requests: Vec<String>,
    /// Clients that closed before they were answered.
    pub abandoned: usize,
}

/// A running upstream. It lives as long as the test program: its threads end with their connections.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Upstream {
    pub fn start() -> Upstream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.lock().unwrap().connections += 1;
                let seen = shared.clone();
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        Upstream { address, seen }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Forgets what it saw.
    pub fn forget(&self) {
        *self.seen.lock().unwrap() = Seen::default();
    }
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

enum Body {
    Length(u64),
    Chunked,
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>) {
    let _ = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    while let Ok(Some(request)) = read_head(&mut reader) {
        seen.lock().unwrap().requests.push(format!("{} {}", request.method, request.target));
        match answer(&request, &mut reader, &mut writer) {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => {
                seen.lock().unwrap().abandoned += 1;
                return;
            }
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            return Ok(Some(Request { method, target, headers }));
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

impl Request {
    fn body(&self) -> Body {
        let header = |wanted: &str| self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        if header("transfer-encoding").is_some() {
            return Body::Chunked;
        }
        Body::Length(header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}

/// Answers; says whether the connection goes on.
fn answer(request: &Request, reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> io::Result<bool> {
    let path = request.target.split('?').next().unwrap_or_default();
    let mut segments = path.trim_start_matches('/').split('/');
    let (kind, number) = (segments.next().unwrap_or_default(), segments.next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0));
    match kind {
        "early" => {
            writer.write_all(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly")?;
            return Ok(false);
        }
        "close" => return Ok(false),
        _ => {}
    }
    let mut kept = Vec::new();
    let received = read_body(request.body(), reader, (kind != "sink").then_some(&mut kept))?;
    match kind {
        "sink" => send(writer, &json!({"received": received}).to_string())?,
        "bytes" => send_bytes(writer, number)?,
        "chunked" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for _ in 0..number {
                writer.write_all(format!("3e8\r\n{}\r\n", "c".repeat(1000)).as_bytes())?;
            }
            writer.write_all(b"0\r\n\r\n")?;
        }
        "garbage" => {
            writer.write_all(b"\x00\x01 this is no HTTP\r\n\r\n")?;
            return Ok(false);
        }
        "short" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")?;
            return Ok(false);
        }
        _ => {
            if kind == "delay" {
                std::thread::sleep(Duration::from_millis(number));
            }
            let body = String::from_utf8_lossy(&kept);
            let echo = json!({"method": request.method, "target": request.target, "headers": request.headers, "body": body});
            send(writer, &echo.to_string())?;
            return Ok(kind != "last");
        }
    }
    Ok(true)
}

fn send(writer: &mut TcpStream, body: &str) -> io::Result<()> {
    writer
        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

fn send_bytes(writer: &mut TcpStream, mut left: u64) -> io::Result<()> {
    writer.write_all(format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {left}\r\n\r\n").as_bytes())?;
    let piece = vec![b'x'; 256 * 1024];
    while left > 0 {
        let count = left.min(piece.len() as u64);
        writer.write_all(&piece[..count as usize])?;
        left -= count;
    }
    Ok(())
}

/// Reads the body to its end, keeping it where asked to; tells how many bytes it had.
fn read_body(body: Body, reader: &mut BufReader<TcpStream>, mut keep: Option<&mut Vec<u8>>) -> io::Result<u64> {
    let mut received = 0;
    match body {
        Body::Length(length) => received += read_piece(reader, length, &mut keep)?,
        Body::Chunked => loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            received += read_piece(reader, size, &mut keep)?;
            if size > 0 {
                reader.read_exact(&mut [0; 2])?;
                continue;
            }
            loop {
                let mut trailer = String::new();
                reader.read_line(&mut trailer)?;
                if trailer.trim_end().is_empty() {
                    return Ok(received);
                }
            }
        },
    }
    Ok(received)
}

fn read_piece(reader: &mut BufReader<TcpStream>, length: u64, keep: &mut Option<&mut Vec<u8>>) -> io::Result<u64> {
    let mut left = length;
    while left > 0 {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = left.min(available.len() as u64) as usize;
        if let Some(kept) = keep {
            kept.extend_from_slice(&available[..count]);
        }
        reader.consume(count);
        left -= count as u64;
    }
    Ok(length)
}
