//! HTTP/2 connections of clients, on the `h2` crate.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use super::ends::{Receiving, Sending};
use super::{CONNECTION_WINDOW, ClientStream, HEADER_LIST, OpenStream, STREAM_WINDOW, serve_stream};
use crate::head::Version;
use crate::serve::{Peer, Service};
use crate::socket::Socket;
use crate::worker::Worker;

/// Bytes of responses queued per stream before the upstream is no longer read.
const SEND_BUFFER: usize = 256 * 1024;
/// Streams a client may reset before they were served, and resets of ours it may provoke, before the connection is closed
/// (rapid reset, CVE-2023-44487).
const PENDING_RESETS: usize = 50;
const LOCAL_RESETS: usize = 1024;

/// Serves one connection until it ends.
pub(crate) async fn run<S: Service>(service: Rc<S>, worker: Rc<Worker>, peer: Rc<Peer>, socket: Socket) {
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(worker.settings.http2_max_concurrent_streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        .enable_connect_protocol()
        .handshake::<_, Bytes>(socket);
    let Ok(Ok(mut connection)) = tokio::time::timeout(worker.settings.client_header_timeout, handshake).await else { return };
    let timer = worker.timer();
    let open = Rc::new(Cell::new(0usize));
    let mut requests = 0u64;
    let mut leaving = false;
    loop {
        let accepted = poll_fn(|context| {
            let accepted = connection.poll_accept(context);
            if accepted.is_ready() || open.get() > 0 {
                timer.disarm();
            }
            if accepted.is_ready() {
                return accepted;
            }
            let idle_for_too_long = timer.expired();
            if !leaving && (worker.draining() || idle_for_too_long || requests >= worker.settings.keepalive_requests) {
                leaving = true;
                timer.disarm();
                connection.graceful_shutdown();
                return connection.poll_accept(context);
            }
            if leaving && idle_for_too_long {
                return Poll::Ready(None);
            }
            // Armed also while streams run, for the waker that draining needs; renewed with each stream.
            timer.arm(context, worker.settings.keepalive_timeout);
            if open.get() > 0 {
                timer.disarm();
            }
            Poll::Pending
        })
        .await;
        let Some(Ok((request, respond))) = accepted else { return };
        requests += 1;
        let guard = OpenStream::new(&open);
        let (service, worker, peer) = (service.clone(), worker.clone(), peer.clone());
        let (parts, body) = request.into_parts();
        let client = ClientStream::new(Sending::Http2 { respond, stream: None }, Receiving::Http2(body));
        tokio::task::spawn_local(async move {
            let _guard = guard;
            serve_stream(service, worker, peer, Version::Http2, Ok(parts), client, requests).await;
        });
    }
}
