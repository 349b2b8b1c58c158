//! HTTP/2 towards upstreams, which gRPC needs, on the `h2` crate.
//!
//! A request comes as the HTTP/1.1 head the proxy has written, and a response body leaves as chunks: what is before and behind
//! this room is the same for both protocols. Body and trailers flow both ways at once, so an upload that has to wait runs in a
//! task of its own ([`upload`]).

mod pool;
mod request;
mod stream;
mod upload;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::client::ResponseFuture;

use self::pool::Lease;
pub(super) use self::pool::Shared;
pub(super) use self::stream::Stream;
pub(crate) use self::upload::Relayed;
use self::upload::{Progress, Upload};
use super::pool::Pools;
use super::{Moments, RequestBody, Target, Timeouts, UpstreamResponse};
use crate::downstream::{Downstream, Side};
use crate::errors::{BodyError, UpstreamError, UpstreamErrorKind};
use crate::head::{Framing, Method, RequestHead, ResponseHead};

/// Largest body taken from an HTTP/1.1 client for an HTTP/2 upstream, where bodies have to be whole before they go.
const WHOLE_BODY: u64 = 64 << 20;

type Answered = (ResponseHead, UpstreamResponse);

impl Pools {
    /// As [`Pools::send`], to an upstream that speaks HTTP/2 (with prior knowledge where there is no TLS).
    ///
    /// Connections are shared by requests that run at the same time. A request that a connection refused before it did anything
    /// is sent once more on a fresh one.
    #[expect(clippy::too_many_arguments)]
    pub async fn send_http2(
        &self,
        target: &Target<'_>,
        server_name: &str,
        head: &[u8],
        body: RequestBody<'_>,
        idempotent: bool,
        request: &RequestHead,
        down: &mut Downstream,
        timeouts: &Timeouts,
        moments: &mut Moments,
    ) -> Result<Answered, UpstreamError> {
        down.timer.disarm();
        let bytes = match body {
            RequestBody::Whole(bytes) => Some(Bytes::copy_from_slice(bytes)),
            RequestBody::Empty => Some(Bytes::new()),
            RequestBody::Stream if matches!(down.side, Side::Stream(_)) && !down.body_is_read() => None,
            RequestBody::Stream => Some(read_whole(down).await?),
        };
        let mut fresh = false;
        loop {
            let (lease, reused) = self.http2_connection(target, server_name, fresh, timeouts.connect).await?;
            moments.reused = reused;
            moments.connected = Some(if reused { self.worker.clock().last() } else { self.worker.clock().now() });
            let message = request::message(head, target.tls.is_some())
                .ok_or(UpstreamError::new(UpstreamErrorKind::BadResponse("a request that HTTP/2 cannot carry"), false))?;
            match self.http2_attempt(lease, message, bytes.clone(), request, down, timeouts, moments).await {
                Err(Failure { untouched: true, .. }) if reused && !fresh => fresh = true,
                Err(Failure { kind, untouched }) => {
                    return Err(UpstreamError::new(kind, untouched || (idempotent && bytes.is_some())));
                }
                Ok(answered) => return Ok(answered),
            }
        }
    }

    #[expect(clippy::too_many_arguments)]
    async fn http2_attempt(
        &self,
        mut lease: Lease,
        message: http::Request<()>,
        bytes: Option<Bytes>,
        request: &RequestHead,
        down: &mut Downstream,
        timeouts: &Timeouts,
        moments: &mut Moments,
    ) -> Result<Answered, Failure> {
        let empty = bytes.as_ref().is_some_and(Bytes::is_empty);
        let ready = poll_fn(|context| match lease.sender.poll_ready(context) {
            Poll::Pending => down.poll_gone(context).map(|()| None),
            Poll::Ready(ready) => Poll::Ready(Some(ready)),
        });
        ready.await.ok_or(Failure::kept(UpstreamErrorKind::ClientGone))?.map_err(|_| lease.broken())?;
        let (mut response, sending) = lease.sender.send_request(message, empty).map_err(|_| lease.broken())?;
        let mut progress = Progress::default();
        if !empty {
            let relayed = match (&bytes, &mut down.side) {
                (None, Side::Stream(client)) => client.take_upload(),
                _ => None,
            };
            let upload = match relayed {
                Some(relayed) => Upload::relayed(sending, relayed),
                None => Upload::whole(sending, bytes.unwrap_or_default()),
            };
            progress = upload.start().await;
        }
        let head = self.http2_head(&mut response, &progress, down, timeouts).await;
        let answer = head.map_err(|kind| match kind {
            None => Failure::kept(UpstreamErrorKind::ClientGone),
            Some(Waiting::TimedOut) => Failure::kept(UpstreamErrorKind::ReadTimeout),
            Some(Waiting::Failed(error)) => {
                if let Some(client) = progress.failure() {
                    return Failure::kept(client);
                }
                let refused = error.reason() == Some(Reason::REFUSED_STREAM);
                // What a streamed body has given away cannot be sent again.
                Failure { kind: UpstreamErrorKind::Closed, untouched: (refused || lease.is_closed()) && progress.may_repeat() }
            }
        })?;
        moments.first_byte = Some(self.worker.clock().now());
        let (parts, body) = answer.into_parts();
        let mut head = self.worker.take_response();
        head.status = parts.status.as_u16();
        for (name, value) in &parts.headers {
            head.headers.append(name.as_str(), value.as_bytes());
        }
        let bodiless = request.method == Method::Head || body.is_end_stream();
        head.framing = if bodiless { Framing::None } else { Framing::Chunked };
        let (stream, framing) = (Stream::new(body, lease, progress), head.framing);
        Ok((head, UpstreamResponse::of_stream(&self.worker, stream, framing, timeouts.read)))
    }

    /// Waits for the response's head, with an eye on the client. None when the client went.
    async fn http2_head(
        &self,
        response: &mut ResponseFuture,
        progress: &Progress,
        down: &mut Downstream,
        timeouts: &Timeouts,
    ) -> Result<http::Response<h2::RecvStream>, Option<Waiting>> {
        let seen = Cell::new(progress.moved());
        let answer = poll_fn(|context| {
            if let Poll::Ready(answer) = Pin::new(&mut *response).poll(context) {
                return Poll::Ready(answer.map_err(|error| Some(Waiting::Failed(error))));
            }
            if down.timer.expired() {
                down.timer.disarm();
                // An upstream need not answer while it is still being told things.
                if seen.replace(progress.moved()) == progress.moved() {
                    return Poll::Ready(Err(Some(Waiting::TimedOut)));
                }
            }
            down.timer.arm(context, timeouts.read);
            down.poll_gone(context).map(|()| Err(None))
        })
        .await;
        down.timer.disarm();
        answer
    }
}

enum Waiting {
    TimedOut,
    Failed(h2::Error),
}

/// An attempt that brought no response.
struct Failure {
    kind: UpstreamErrorKind,
    /// The upstream has done nothing, and the request can be sent again.
    untouched: bool,
}

impl Failure {
    fn kept(kind: UpstreamErrorKind) -> Self {
        Self { kind, untouched: false }
    }
}

impl Lease {
    /// The connection was of no use; nothing of the request was given away.
    fn broken(&self) -> Failure {
        self.close();
        Failure { kind: UpstreamErrorKind::Closed, untouched: true }
    }
}

async fn read_whole(down: &mut Downstream) -> Result<Bytes, UpstreamError> {
    let mut bytes = Vec::new();
    let read = down.read_body(&mut bytes, WHOLE_BODY).await;
    let failed = |error| match error {
        BodyError::ClientGone => UpstreamErrorKind::ClientGone,
        error => UpstreamErrorKind::ClientBody(error),
    };
    read.map_err(|error| UpstreamError::new(failed(error), false))?;
    Ok(bytes.into())
}

/// A counter that a task and whoever started it both see.
type Count = Rc<Cell<u64>>;
