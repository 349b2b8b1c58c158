//! HTTP/3 connections of clients: `quinn` for QUIC, the `h3` crate for what is said on it.
//!
//! - [`stream`]: the two ends of a request's stream
//! - [`transport`]: QUIC as `h3` wants it

mod stream;
mod transport;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h3::server::RequestResolver;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;

pub(crate) use self::stream::{Receiving, Sending};
use self::transport::Raws;
use super::{CONNECTION_WINDOW, ClientStream, HEADER_LIST, OpenStream, STREAM_WINDOW, ends, serve_stream};
use crate::head::Version;
use crate::serve::{Peer, Service, TlsPeer};
use crate::tls::TlsError;
use crate::worker::{Settings, Worker};

/// Streams that HTTP/3 itself has each way (control and two of QPACK), and some that the client may make up (RFC 9114 section 6.2.3).
const OWN_STREAMS: u32 = 8;
/// Bytes of all answers on a connection that are not acknowledged yet.
const SEND_WINDOW: u64 = 1 << 20;
/// A client that says nothing for so long is gone; it is asked for a sign of life every third of it.
const SILENCE: Duration = Duration::from_secs(30);

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
pub(crate) fn peer_facts(connection: &quinn::Connection) -> TlsPeer {
    let handshake = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    TlsPeer {
        sni: handshake.and_then(|data| data.server_name).map(|name| name.to_ascii_lowercase().into()),
        version: "TLSv1.3",
        cipher: Box::default(),
        certificate: chain.and_then(|chain| chain.first().map(|leaf| leaf.as_ref().into())),
    }
}

/// Serves one connection until it ends.
pub(crate) async fn run<S: Service>(service: Rc<S>, worker: Rc<Worker>, peer: Rc<Peer>, connection: quinn::Connection) {
    let (transport, raws) = transport::Connection::new(connection.clone());
    let mut builder = h3::server::builder();
    builder.max_field_section_size(HEADER_LIST.into()).send_grease(false);
    let Ok(mut requests) = builder.build::<_, Bytes>(transport).await else { return };
    let timer = worker.timer();
    let open = Rc::new(Cell::new(0usize));
    let mut count = 0u64;
    let mut leaving = false;
    while let Next::Request(resolver) = next(&mut requests, &timer, &open, &worker, &mut leaving, count).await {
        count += 1;
        let guard = OpenStream::new(&open);
        let (service, worker, peer, raws) = (service.clone(), worker.clone(), peer.clone(), raws.clone());
        tokio::task::spawn_local(async move {
            let _guard = guard;
            let resolving = tokio::time::timeout(worker.settings.client_header_timeout, resolver.resolve_request());
            let Ok(Ok((request, stream))) = resolving.await else { return };
            let (sending, receiving) = stream.split();
            let Some(client) = client_stream(sending, receiving, &raws) else { return };
            serve_stream(service, worker, peer, Version::Http3, request.into_parts().0, client, count).await;
        });
    }
    // Closes the connection. Its driver, a task of its own, has to run once more for the client to hear of it.
    drop(requests);
    tokio::task::yield_now().await;
}
