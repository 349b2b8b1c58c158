//! A request body on its way to an HTTP/2 upstream, while the response may already be coming.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::task::JoinHandle;

use super::Count;
use crate::errors::UpstreamErrorKind;
use crate::multiplexed::Receiving;

/// A client's upload, taken out of its stream.
pub(crate) struct Relayed {
    pub(crate) body: Receiving,
    /// Came and was not used yet.
    pub(crate) piece: Bytes,
    /// Counts the bytes received.
    pub(crate) received: Count,
}

enum Source {
    Client(Relayed),
    /// Nothing follows the piece at hand.
    Ended,
}

pub(super) struct Upload {
    sending: SendStream<Bytes>,
    source: Source,
    piece: Bytes,
    /// The stream's end is still to be told.
    open: bool,
    progress: Shared,
}

/// What an upload and whoever waits for the response know of each other.
#[derive(Clone, Default)]
struct Shared {
    moved: Count,
    client_gone: Rc<Cell<bool>>,
}

/// An upload under way. Dropping it ends the upload.
#[derive(Default)]
pub(super) struct Progress {
    shared: Shared,
    task: Option<JoinHandle<()>>,
    relayed: bool,
}

impl Progress {
    /// Bytes sent so far.
    pub(super) fn moved(&self) -> u64 {
        self.shared.moved.get()
    }

    /// Why the upload failed, if that was the client's doing.
    pub(super) fn failure(&self) -> Option<UpstreamErrorKind> {
        self.shared.client_gone.get().then_some(UpstreamErrorKind::ClientGone)
    }

    /// Whether the request can be sent again.
    pub(super) fn may_repeat(&self) -> bool {
        !self.relayed
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Upload {
    pub(super) fn whole(sending: SendStream<Bytes>, bytes: Bytes) -> Self {
        Self { sending, source: Source::Ended, piece: bytes, open: true, progress: Shared::default() }
    }

    pub(super) fn relayed(sending: SendStream<Bytes>, mut from: Relayed) -> Self {
        let piece = std::mem::take(&mut from.piece);
        from.received.set(from.received.get() + piece.len() as u64);
        Self { sending, source: Source::Client(from), piece, open: true, progress: Shared::default() }
    }

    /// Sends what can be sent at once; what has to wait goes on in a task.
    pub(super) async fn start(mut self) -> Progress {
        let shared = self.progress.clone();
        let relayed = matches!(self.source, Source::Client(_));
        let done = poll_fn(|context| Poll::Ready(self.poll(context).is_ready())).await;
        let task = (!done).then(|| tokio::task::spawn_local(async move { poll_fn(|context| self.poll(context)).await }));
        Progress { shared, task, relayed }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.open {
            if self.piece.is_empty() {
                if std::task::ready!(self.poll_source(context)).is_err() {
                    self.progress.client_gone.set(true);
                    self.sending.send_reset(Reason::CANCEL);
                    self.open = false;
                }
                continue;
            }
            self.sending.reserve_capacity(self.piece.len());
            let mut capacity = self.sending.capacity();
            if capacity == 0 {
                match std::task::ready!(self.sending.poll_capacity(context)) {
                    Some(Ok(more)) => capacity = more,
                    // The upstream wants no more of it: its answer tells why.
                    _ => break,
                }
            }
            let piece = self.piece.split_to(capacity.min(self.piece.len()));
            let length = piece.len();
            let last = self.piece.is_empty()
                && match &self.source {
                    Source::Client(from) => from.body.has_ended(),
                    Source::Ended => true,
                };
            if self.sending.send_data(piece, last).is_err() {
                break;
            }
            self.progress.moved.set(self.progress.moved.get() + length as u64);
            if let Source::Client(from) = &mut self.source {
                from.body.open_window(length);
            }
            self.open &= !last;
        }
        self.open = false;
        Poll::Ready(())
    }

    /// The next piece, or the end of it all. An error when the client is gone.
    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if let Source::Client(from) = &mut self.source {
            match std::task::ready!(from.body.poll_data(context)) {
                Some(Ok(piece)) => {
                    from.received.set(from.received.get() + piece.len() as u64);
                    self.piece = piece;
                    if !self.piece.is_empty() || !from.body.has_ended() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Some(Err(_)) => return Poll::Ready(Err(())),
                None => {}
            }
            if let Some(trailers) = std::task::ready!(from.body.poll_trailers(context)).map_err(|_| ())? {
                self.open = false;
                // The upstream wants no more of it: its answer tells why.
                let _ = self.sending.send_trailers(trailers);
                return Poll::Ready(Ok(()));
            }
        }
        self.open = false;
        let _ = self.sending.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}
