//! The upstream behind the proxies that are measured: canned answers at the least possible cost.
//!
//! It shares a core with the load generator, so a request costs it one read, one write and a share of one poll. The last segment
//! of the path chooses the answer, whatever stands before it:
//!
//! | path ends in | answer |
//! |---|---|
//! | `/1k`, `/100k` | a body of that size |
//! | `/chunked` | ten chunks |
//! | `/echo` | the request as it was received, head and body, as text |
//! | anything else | 128 bytes |
//!
//! It trusts the proxy in front of it to send well-formed HTTP/1.1 and closes the connection when it doesn't.
//! Usage: `portcullis-bench-upstream [ADDRESS]`, 127.0.0.1:9000 by default.

mod answer;
mod connection;

use connection::Connection;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::SocketAddr;

const LISTENER: Token = Token(usize::MAX);

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let address: SocketAddr =
        address.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "usage: portcullis-bench-upstream [IP:PORT]"))?;
    serve(TcpListener::bind(address)?)
}

/// Serves for ever. A connection's token is its place in the table; places are used again.
fn serve(mut listener: TcpListener) -> io::Result<()> {
    println!("listening on {}", listener.local_addr()?);
    let answers = answer::Answers::new();
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections, &mut free)?;
                continue;
            }
            let place = event.token().0;
            let Some(Some(connection)) = connections.get_mut(place) else { continue };
            if connection.advance(event.is_readable(), &mut buffer, &answers).is_err() {
                connections[place] = None;
                free.push(place);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Vec<Option<Connection>>, free: &mut Vec<usize>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The client may be gone already, or descriptors may have run out: neither ends the upstream.
            Err(_) => return Ok(()),
        };
        let place = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        stream.set_nodelay(true)?;
        poll.registry().register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        connections[place] = Some(Connection::new(stream));
    }
}
