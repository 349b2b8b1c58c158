//! The client's side of one exchange: HTTP/1.1 over TCP, TLS or a unix socket, or one HTTP/2 stream.

use std::rc::Rc;

use crate::errors::{BodyError, ClientGone, RelayError};
use crate::head::ResponseHead;
use crate::serve::{BodyFilter, Peer};
use crate::upstream::UpstreamResponse;
use crate::worker::Worker;

/// The client's side of one exchange.
pub struct Downstream {
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    requests: u64,
}

impl Downstream {
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub fn peer(&self) -> &Rc<Peer> {
        &self.peer
    }

    /// Requests on this connection so far, this one included.
    pub fn requests_on_connection(&self) -> u64 {
        self.requests
    }

    /// Bytes of this exchange received from the client so far, its head included.
    pub fn bytes_received(&self) -> u64 {
        0
    }

    /// Bytes of this exchange sent to the client so far, the head included.
    pub fn bytes_sent(&self) -> u64 {
        0
    }

    /// Body bytes of the request that are unread and in memory already, as they came (chunk sizes included).
    pub fn buffered(&self) -> usize {
        0
    }

    /// Reads what is left of the request body, without its chunked coding, and appends it to `into`; more than `limit` bytes
    /// in all is [`BodyError::TooLarge`]. Says `100 Continue` first if the client waits for it.
    pub async fn read_body(&mut self, into: &mut Vec<u8>, limit: u64) -> Result<(), BodyError> {
        let _ = (into, limit);
        Err(BodyError::ClientGone)
    }

    /// Sends a complete answer of the gateway's own. Sets `Content-Length` unless the status forbids a body; the body stays
    /// unsent for HEAD.
    pub async fn respond(&mut self, head: &mut ResponseHead, body: &[u8]) -> Result<(), ClientGone> {
        let _ = (head, body);
        Err(ClientGone)
    }

    /// Streams an upstream's response to the client: the head as edited, and the body as `up` delivers it. Ends once the last
    /// byte is with the kernel, with the number of body bytes sent; the upstream connection goes back to its pool if clean.
    ///
    /// A filter sees the decoded body, which is framed anew: `Content-Length` only if it is still in `head.headers`, else
    /// chunked, or until close for HTTP/1.0. Without a filter chunked bodies go to HTTP/1.1 clients as they came.
    pub async fn relay(
        &mut self,
        head: &mut ResponseHead,
        up: UpstreamResponse,
        filter: Option<&mut dyn BodyFilter>,
    ) -> Result<u64, RelayError> {
        let _ = (head, up, filter);
        Err(RelayError::ClientGone)
    }

    /// After a 101: sends the head, then bytes both ways until either side ends. Answers (bytes to the client, bytes from it).
    pub async fn tunnel(&mut self, head: &mut ResponseHead, up: UpstreamResponse) -> Result<(u64, u64), RelayError> {
        let _ = (head, up);
        Err(RelayError::ClientGone)
    }

    /// Closes the connection (or resets the stream) without an answer.
    pub fn abort(&mut self) {}

    /// Closes the connection after this exchange and says so in the answer.
    pub fn close_after(&mut self) {}
}
