//! HTTP/3 connections of clients (RFC 9114): `quinn` for QUIC, and our own reading of what is said on it.
//!
//! - [`stream`]: the two ends of a request's stream
//! - [`control`]: the streams that go one way
//! - [`frames`], [`qpack`], [`fields`]: frames, field sections and the requests they are, without I/O
//! - [`codes`]: why a stream or a connection ends

mod codes;
mod control;
mod fields;
mod frames;
mod qpack;
mod stream;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header;
use http::request::Parts;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Connection, IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::codes::Code;
use self::control::Control;
pub(crate) use self::stream::{Receiving, Sending};
use super::{CONNECTION_WINDOW, ClientStream, HEADER_LIST, STREAM_WINDOW, ends, serve_stream};
use crate::head::Version;
use crate::parse::content_length;
use crate::parse::limits::HEADER_TOO_LARGE;
use crate::serve::{Peer, Refusal, Service, TlsPeer};
use crate::tls::{ServerTls, TlsError};
use crate::worker::{Settings, Worker};

/// Streams of the client's that go one way: control and two of QPACK, and some that it may make up (RFC 9114 section 6.2.3).
const OWN_STREAMS: u32 = 8;
/// Bytes of all answers on a connection that are not acknowledged yet.
const SEND_WINDOW: u64 = 1 << 20;
/// A client that says nothing for so long is gone; it is asked for a sign of life every third of it.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest wait for requests that were sent before their client heard that the connection ends.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// What QUIC connections are made of.
///
/// Errors when TLS 1.3 is not spoken, which QUIC needs.
pub(crate) fn server_config(tls: &rustls::ServerConfig, settings: &Settings) -> Result<quinn::ServerConfig, TlsError> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    // Early data may be replayed, so none is taken.
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| TlsError("QUIC needs TLSv1.3".to_owned()))?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(settings.http2_max_concurrent_streams.into())
        .max_concurrent_uni_streams(OWN_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(SILENCE).ok())
        .keep_alive_interval(Some(SILENCE / 3))
        .datagram_receive_buffer_size(None);
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// What the handshake settled, for logs and routing. `quinn` doesn't tell the cipher suite.
pub(crate) fn peer_facts(connection: &Connection, tls: &ServerTls) -> TlsPeer {
    let handshake = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate: Option<Box<[u8]>> = chain.and_then(|chain| chain.first().map(|leaf| leaf.as_ref().into()));
    TlsPeer {
        sni: handshake.and_then(|data| data.server_name).map(|name| name.to_ascii_lowercase().into()),
        version: "TLSv1.3",
        cipher: Box::default(),
        client_verify: tls.client_verify(certificate.as_deref()),
        certificate,
    }
}

/// How far a connection is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// The client was told to begin nothing new; what it had sent by then is still served.
    Leaving,
    /// Streams from this number on are rejected.
    Closing(u64),
}

/// Serves one connection until it ends. `peer` tells who the client is, which changes when it moves to another address.
pub(crate) async fn run<S: Service>(service: Rc<S>, worker: Rc<Worker>, peer: impl Fn(&Connection) -> Rc<Peer>, connection: Connection) {
    let Some(mut control) = Control::open(&connection).await else { return };
    // Ends with this function.
    let mut hearing = JoinSet::new();
    hearing.spawn_local(control::hear(connection.clone()));
    let streams = Rc::new(Streams::default());
    let (mut stage, mut requests, mut unused) = (Stage::Serving, 0u64, 0u64);
    let mut peer_now = peer(&connection);
    let mut idle = pin!(streams.idle_for(worker.settings.client_header_timeout));
    let mut last_look = pin!(sleep(Duration::ZERO));
    loop {
        let serving = stage == Stage::Serving;
        let leave = tokio::select! {
            biased;
            opened = connection.accept_bi() => {
                let Ok((send, recv)) = opened else { break };
                let id = VarInt::from(send.id()).into_inner();
                if matches!(stage, Stage::Closing(from) if id >= from) {
                    reject(send, recv);
                    continue;
                }
                unused = unused.max(id + 4);
                requests += 1;
                // A client may move to another address (RFC 9000 section 9).
                if peer_now.address.is_none_or(|address| address != crate::listener::canonical(connection.remote_address())) {
                    peer_now = peer(&connection);
                }
                let open = streams.open();
                let (service, worker, peer, connection) = (service.clone(), worker.clone(), peer_now.clone(), connection.clone());
                idle.set(streams.idle_for(worker.settings.keepalive_timeout));
                let last = requests >= worker.settings.keepalive_requests;
                tokio::task::spawn_local(async move {
                    let _open = open;
                    let delivered = send.stopped();
                    let send_timeout = worker.settings.send_timeout;
                    serve_one(service, worker, peer, connection, (send, recv), requests).await;
                    // What was sent may have to be sent again: the connection must not end before it has arrived.
                    let _ = timeout(send_timeout, delivered).await;
                });
                last
            }
            () = worker.drain_begun(), if serving => true,
            () = &mut idle, if serving => true,
            () = &mut last_look, if stage == Stage::Leaving => {
                stage = Stage::Closing(unused);
                if control.go_away(unused).await.is_none() {
                    break;
                }
                false
            }
            () = streams.none_open(), if matches!(stage, Stage::Closing(_)) => break,
        };
        if leave && serving {
            stage = Stage::Leaving;
            // What is on its way is not lost: the number is the last that can be (RFC 9114 section 5.2).
            if control.go_away((1 << 62) - 4).await.is_none() {
                break;
            }
            last_look.set(sleep((connection.rtt() * 2).min(LAST_LOOK)));
        }
    }
    connection.close(Code::NO_ERROR.into(), b"");
    // The connection's driver, a task of its own, has to run once more for the client to hear of it.
    tokio::task::yield_now().await;
}

/// Tells the client that it may try again elsewhere.
fn reject(mut send: SendStream, mut recv: RecvStream) {
    // Both fail only for a stream that is closed already.
    let _ = recv.stop(Code::REQUEST_REJECTED.into());
    let _ = send.reset(Code::REQUEST_REJECTED.into());
}

async fn serve_one<S: Service>(
    service: Rc<S>,
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    connection: Connection,
    (send, recv): (SendStream, RecvStream),
    requests: u64,
) {
    let (sending, mut receiving) = stream::ends(connection, send, recv);
    let Some(parts) = read_head(&mut receiving, worker.settings.client_header_timeout).await else { return };
    let client = ClientStream::new(ends::Sending::Http3(Box::new(sending)), ends::Receiving::Http3(Box::new(receiving)));
    serve_stream(service, worker, peer, Version::Http3, parts, client, requests).await;
}

/// The request's head, or why it is refused. None when the stream is to be reset, for a reason that `receiving` keeps.
async fn read_head(receiving: &mut Receiving, limit: Duration) -> Option<Result<Parts, Refusal>> {
    let Ok(section) = timeout(limit, poll_fn(|context| receiving.poll_head(context))).await else {
        receiving.fail(Code::REQUEST_INCOMPLETE);
        return None;
    };
    let section = section.ok()?;
    let lines = match qpack::decode(&section, HEADER_LIST as usize) {
        Ok(lines) => lines,
        Err(qpack::Unreadable::TooLarge) => return Some(Err(HEADER_TOO_LARGE)),
        Err(qpack::Unreadable::Broken) => {
            receiving.fail_connection(Code::QPACK_DECOMPRESSION_FAILED);
            return None;
        }
    };
    let Ok(parts) = fields::request(lines) else {
        receiving.fail(Code::MESSAGE_ERROR);
        return None;
    };
    receiving.declare(parts.headers.get(header::CONTENT_LENGTH).and_then(|value| content_length(value.as_bytes())));
    Some(Ok(parts))
}

/// The requests of a connection that are being served.
#[derive(Default)]
struct Streams {
    open: Cell<usize>,
    none: Notify,
}

impl Streams {
    fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(self.clone())
    }

    async fn none_open(&self) {
        while self.open.get() > 0 {
            self.none.notified().await;
        }
    }

    async fn idle_for(self: &Rc<Self>, time: Duration) {
        self.none_open().await;
        sleep(time).await;
    }
}

/// Counts one request while it lives.
struct Open(Rc<Streams>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.none.notify_waiters();
        }
    }
}
