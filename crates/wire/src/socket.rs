//! A connection's bytes, whatever carries them: TCP or a unix socket, with or without TLS on top.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// TCP or a unix socket, with bytes that were read ahead to find out what the client speaks.
pub(crate) struct Transport {
    stream: Stream,
    ahead: Option<Box<Ahead>>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Ahead {
    bytes: Vec<u8>,
    at: usize,
}

impl Transport {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream), ahead: None }
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), ahead: None }
    }

    /// Puts bytes back: the next reads deliver them first.
    pub(crate) fn put_back(&mut self, mut bytes: Vec<u8>) {
        if let Some(ahead) = self.ahead.take() {
            bytes.extend_from_slice(&ahead.bytes[ahead.at..]);
        }
        if !bytes.is_empty() {
            self.ahead = Some(Box::new(Ahead { bytes, at: 0 }));
        }
    }

    #[inline]
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.ahead.is_some() {
            return Poll::Ready(());
        }
        match &self.stream {
            Stream::Tcp(stream) => stream.poll_read_ready(context).map(|_| ()),
            Stream::Unix(stream) => stream.poll_read_ready(context).map(|_| ()),
        }
    }
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(ahead) = &mut self.ahead {
            let rest = &ahead.bytes[ahead.at..];
            let length = rest.len().min(into.remaining());
            into.put_slice(&rest[..length]);
            ahead.at += length;
            if ahead.at == ahead.bytes.len() {
                self.ahead = None;
            }
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, into),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A connection as the engine sees it. The variants are told apart per operation: a branch, where a trait object would be a call.
pub(crate) enum Socket {
    Plain(Transport),
    ServerTls(Box<tokio_rustls::server::TlsStream<Transport>>),
    ClientTls(Box<tokio_rustls::client::TlsStream<Transport>>),
}

impl Socket {
    /// Whether something came in on the transport below, if only a TLS record.
    #[inline]
    pub(crate) fn poll_stirred(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Socket::Plain(transport) => transport.poll_read_ready(context),
            Socket::ServerTls(stream) => stream.get_ref().0.poll_read_ready(context),
            Socket::ClientTls(stream) => stream.get_ref().0.poll_read_ready(context),
        }
    }

    /// Whether an idle connection is still open and silent. Costs no system call unless the reactor saw something.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0u8; 1];
        if let Socket::Plain(Transport { stream: Stream::Tcp(stream), ahead: None }) = self {
            return matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        }
        let mut context = Context::from_waker(Waker::noop());
        if self.poll_stirred(&mut context).is_pending() {
            return true;
        }
        Pin::new(self).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// Writes from two slices as if they were one.
    #[inline]
    pub(crate) fn poll_write_both(&mut self, first: &[u8], second: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // A socket nearly always takes what it is given: it is asked before anything is prepared for waiting.
        if let Socket::Plain(Transport { stream: Stream::Tcp(stream), .. }) = self {
            loop {
                match try_write_both(stream, first, second) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => match stream.poll_write_ready(context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return Poll::Pending,
                    },
                    written => return Poll::Ready(written),
                }
            }
        }
        let this = Pin::new(self);
        if first.is_empty() {
            this.poll_write(context, second)
        } else if second.is_empty() {
            this.poll_write(context, first)
        } else {
            this.poll_write_vectored(context, &[io::IoSlice::new(first), io::IoSlice::new(second)])
        }
    }
}

#[inline]
fn try_write_both(stream: &TcpStream, first: &[u8], second: &[u8]) -> io::Result<usize> {
    if second.is_empty() {
        stream.try_write(first)
    } else if first.is_empty() {
        stream.try_write(second)
    } else {
        stream.try_write_vectored(&[io::IoSlice::new(first), io::IoSlice::new(second)])
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(transport) => Pin::new(transport).poll_read(context, into),
            Socket::ServerTls(stream) => Pin::new(stream.as_mut()).poll_read(context, into),
            Socket::ClientTls(stream) => Pin::new(stream.as_mut()).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(transport) => Pin::new(transport).poll_write(context, bytes),
            Socket::ServerTls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
            Socket::ClientTls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(transport) => Pin::new(transport).poll_write_vectored(context, slices),
            Socket::ServerTls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, slices),
            Socket::ClientTls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(_) => Poll::Ready(Ok(())),
            Socket::ServerTls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
            Socket::ClientTls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(transport) => Pin::new(transport).poll_shutdown(context),
            Socket::ServerTls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            Socket::ClientTls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
