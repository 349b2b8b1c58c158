//! HTTP/2 connections to upstreams: kept per target, and shared by the requests that run at the same time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;

use super::super::pool::connect;
use super::super::{PoolSettings, Pools, Target};
use crate::errors::{UpstreamError, UpstreamErrorKind};

/// Streams on one connection before another one is opened: responses of one connection share its window and its socket.
const STREAMS: usize = 100;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const SEND_BUFFER: usize = 256 * 1024;
const HEADER_LIST: u32 = 32 * 1024;

type Key = (SocketAddr, Option<u64>);

/// The connections of one worker thread.
#[derive(Default)]
pub(in crate::upstream) struct Shared {
    connections: RefCell<HashMap<Key, Vec<Rc<Connection>>>>,
}

struct Connection {
    sender: SendRequest<Bytes>,
    server_name: Box<str>,
    streams: Cell<usize>,
    requests: Cell<u32>,
    used: Cell<Instant>,
    closed: Rc<Cell<bool>>,
}

impl Connection {
    fn has_room(&self, settings: &PoolSettings) -> bool {
        let limit = self.sender.current_max_send_streams().min(STREAMS);
        !self.closed.get() && self.streams.get() < limit && self.requests.get() < settings.max_requests
    }
}

/// One request's share of a connection.
pub(in crate::upstream) struct Lease {
    pub(super) sender: SendRequest<Bytes>,
    connection: Rc<Connection>,
}

impl Lease {
    fn of(connection: &Rc<Connection>, now: Instant) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.requests.set(connection.requests.get() + 1);
        connection.used.set(now);
        Self { sender: connection.sender.clone(), connection: connection.clone() }
    }

    /// Nobody else gets this connection.
    pub(super) fn close(&self) {
        self.connection.closed.set(true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.closed.get()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
    }
}

impl Shared {
    /// Forgets what is closed, did its share of requests, or was idle for too long. Streams that run go on.
    pub(in crate::upstream) fn sweep(&self, now: Instant, settings: &PoolSettings) {
        self.connections.borrow_mut().retain(|_, connections| {
            connections.retain(|connection| {
                let spent = connection.closed.get() || connection.requests.get() >= settings.max_requests;
                let idle = connection.streams.get() == 0 && now.duration_since(connection.used.get()) >= settings.idle;
                !spent && !idle
            });
            !connections.is_empty()
        });
    }
}

impl Pools {
    /// A share of a connection with room, or of a new one. Says whether it was there before.
    pub(super) async fn http2_connection(
        &self,
        target: &Target<'_>,
        server_name: &str,
        fresh: bool,
        connect_timeout: Duration,
    ) -> Result<(Lease, bool), UpstreamError> {
        let key = (target.address, target.tls.map(|tls| tls.id));
        let name = if target.tls.is_some() { server_name } else { "" };
        let now = self.worker.clock().last();
        if !fresh && let Some(connections) = self.http2.connections.borrow().get(&key) {
            let fits = |connection: &&Rc<Connection>| *connection.server_name == *name && connection.has_room(&self.settings);
            if let Some(connection) = connections.iter().find(fits) {
                return Ok((Lease::of(connection, now), true));
            }
        }
        self.count_connect();
        let connecting = Box::pin(async {
            let socket = connect(target, server_name).await?;
            h2::client::Builder::new()
                .enable_push(false)
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buffer_size(SEND_BUFFER)
                .max_header_list_size(HEADER_LIST)
                .handshake::<_, Bytes>(socket)
                .await
                .map_err(|_| UpstreamErrorKind::Closed)
        });
        let (sender, driver) = match tokio::time::timeout(connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(|kind| UpstreamError::new(kind, true))?,
            Err(_) => return Err(UpstreamError::new(UpstreamErrorKind::ConnectTimeout, true)),
        };
        let closed = Rc::new(Cell::new(false));
        let connection = Rc::new(Connection {
            sender,
            server_name: name.into(),
            streams: Cell::new(0),
            requests: Cell::new(0),
            used: Cell::new(now),
            closed: closed.clone(),
        });
        tokio::task::spawn_local(async move {
            // However it ended: its streams have heard of it.
            let _ = driver.await;
            closed.set(true);
        });
        let lease = Lease::of(&connection, now);
        if self.settings.size > 0 {
            self.http2.connections.borrow_mut().entry(key).or_default().push(connection);
        }
        Ok((lease, false))
    }
}
