//! `drain`: tells a running node to fail its readiness probe, so that load balancers turn away before it stops.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use portcullis_wire::listener::ListenAddress;

use super::terminal::Terminal;
use super::{Arguments, Failure, settings};

/// For each step of the conversation.
const LIMIT: Duration = Duration::from_secs(1);

/// Always succeeds once the configuration is read, as Kong's: it runs in hooks whose failure would stop a shutdown.
pub fn run(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let settings = settings(terminal, arguments)?;
    // A plain listener goes before one with TLS, which this command does not speak.
    let Some(listen) = settings.status_listens.iter().find(|listen| !listen.ssl).or(settings.status_listens.first()) else {
        terminal.say("No status listeners found in configuration.");
        return Ok(());
    };
    let (shown, sent) = match &listen.address {
        ListenAddress::Ip(address) => (format!("http://{address}/status/ready"), tcp(*address)),
        ListenAddress::Unix(path) => (
            format!("unix:{}", path.display()),
            UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(LIMIT))?;
                ask(stream)
            }),
        ),
    };
    let sent = if listen.ssl { Err(io::Error::other("the status listener speaks TLS only")) } else { sent };
    terminal.say(&match sent {
        Ok(204) => format!("{}'s status successfully changed to 'draining'", terminal.product()),
        Ok(status) => format!("Unexpected response status from {shown}: {status}"),
        Err(error) => format!("Failed to send request to {shown}: {error}"),
    });
    Ok(())
}

fn tcp(mut address: SocketAddr) -> io::Result<u16> {
    // A listener on all addresses is reached on the loopback one.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    ask(stream)
}

/// Answers the status code.
fn ask(mut stream: impl Read + Write) -> io::Result<u16> {
    let body = r#"{"status":"draining"}"#;
    write!(
        stream,
        "POST /status/ready HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut line = String::new();
    BufReader::new(stream.take(1024)).read_line(&mut line)?;
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| io::Error::other("not an HTTP answer"))
}
