//! Opening listening sockets.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket as RawSocket, TcpKeepalive, Type};

use super::listen::{Listen, ListenAddress};

/// A listening socket, non-blocking.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
    Udp(UdpSocket),
}

const DEFAULT_BACKLOG: u32 = 16_384;
/// Bytes that wait in the kernel, each way, for a socket of QUIC.
const DATAGRAM_BUFFER: usize = 4 << 20;

/// Opens the socket a listen entry describes.
///
/// TCP sockets always share their port (`SO_REUSEPORT`): every worker thread opens its own and the kernel spreads
/// connections over them. A unix socket's file left by an earlier process is replaced; its one socket is shared by
/// `try_clone`.
pub fn open(listen: &Listen) -> io::Result<Socket> {
    let backlog = i32::try_from(listen.backlog.unwrap_or(DEFAULT_BACKLOG)).unwrap_or(i32::MAX);
    match &listen.address {
        ListenAddress::Ip(address) if listen.udp => {
            let socket = RawSocket::new(Domain::for_address(*address), Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            if address.is_ipv6() {
                socket.set_only_v6(listen.ipv6only.unwrap_or(true))?;
            }
            socket.bind(&(*address).into())?;
            socket.set_nonblocking(true)?;
            Ok(Socket::Udp(socket.into()))
        }
        ListenAddress::Ip(address) => {
            let socket = RawSocket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            if address.is_ipv6() {
                // nginx listens on IPv6 alone unless told otherwise.
                socket.set_only_v6(listen.ipv6only.unwrap_or(true))?;
            }
            match listen.so_keepalive {
                None => {}
                Some(None) => socket.set_keepalive(false)?,
                Some(Some(probes)) => {
                    let mut keepalive = TcpKeepalive::new();
                    if let Some(idle) = probes.idle {
                        keepalive = keepalive.with_time(Duration::from_secs(idle.into()));
                    }
                    if let Some(interval) = probes.interval {
                        keepalive = keepalive.with_interval(Duration::from_secs(interval.into()));
                    }
                    if let Some(count) = probes.count {
                        keepalive = keepalive.with_retries(count);
                    }
                    socket.set_tcp_keepalive(&keepalive)?;
                }
            }
            socket.bind(&(*address).into())?;
            socket.listen(backlog)?;
            socket.set_nonblocking(true)?;
            Ok(Socket::Tcp(socket.into()))
        }
        ListenAddress::Unix(path) => {
            // Connecting tells a socket somebody serves from one that was left behind.
            if std::os::unix::net::UnixStream::connect(path).is_err() {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Unix(listener))
        }
    }
}

/// Opens the socket for the QUIC side of an entry. It is the only one of its address: datagrams must not go anywhere else.
pub(super) fn open_quic(listen: &Listen) -> io::Result<UdpSocket> {
    let ListenAddress::Ip(address) = listen.address else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
    let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(listen.ipv6only.unwrap_or(true))?;
    }
    // All clients share it. The system may allow less than is asked for.
    for size in [socket.set_recv_buffer_size(DATAGRAM_BUFFER), socket.set_send_buffer_size(DATAGRAM_BUFFER)] {
        size?;
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// How long to wait after a failed accept; none when the next one may be tried at once.
///
/// Out of descriptors or memory, accepting again at once would spin: the wait doubles from 10 ms to a second.
pub fn accept_pause(error: &io::Error, failures: u32) -> Option<Duration> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => None,
        _ => Some(Duration::from_millis(10 << failures.min(7)).min(Duration::from_secs(1))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::parse_listens;
    use super::*;

    #[test]
    fn two_sockets_may_share_a_port() {
        let first = open(&parse_listens("proxy_listen", "127.0.0.1:0").unwrap()[0]).unwrap();
        let Socket::Tcp(first) = first else { panic!("a TCP socket was asked for") };
        let port = first.local_addr().unwrap().port();
        open(&parse_listens("proxy_listen", &format!("127.0.0.1:{port}")).unwrap()[0]).unwrap();
    }

    #[test]
    fn a_socket_file_left_behind_is_replaced() {
        let path = std::env::temp_dir().join(format!("portcullis-socket-{}", std::process::id()));
        let listen = &parse_listens("proxy_listen", &format!("unix:{}", path.display())).unwrap()[0];
        drop(open(listen).unwrap());
        let again = open(listen).unwrap();
        assert!(open(listen).is_err(), "a socket in use is not taken over");
        drop(again);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn pauses_grow_to_a_second() {
        let full = io::Error::from_raw_os_error(24);
        assert_eq!(accept_pause(&full, 0), Some(Duration::from_millis(10)));
        assert_eq!(accept_pause(&full, 20), Some(Duration::from_secs(1)));
        assert_eq!(accept_pause(&io::ErrorKind::ConnectionAborted.into(), 3), None);
    }
}
