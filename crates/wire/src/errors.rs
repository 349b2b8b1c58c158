//! What can go wrong with a client, its body, an upstream, and a response under way.

use std::io;

/// The client's connection ended or took too long to take bytes; nobody is left to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client gone")]
pub struct ClientGone;

/// Why a request body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More than the limit given, or than `max_body_size`: 413.
    #[error("request body too large")]
    TooLarge,
    #[error("client gone")]
    ClientGone,
    /// Bad chunk sizes and the like: 400.
    #[error("malformed request body")]
    Malformed,
    /// `client_body_timeout` passed between two reads: 408.
    #[error("request body timed out")]
    Timeout,
}

/// Why a response could not be relayed to its end. The head may have gone out; the connection closes.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("client gone")]
    ClientGone,
    #[error("upstream failed within the response: {0}")]
    Upstream(&'static str),
}

impl From<ClientGone> for RelayError {
    fn from(_: ClientGone) -> Self {
        RelayError::ClientGone
    }
}

/// An exchange with an upstream that brought no response.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct UpstreamError {
    pub kind: UpstreamErrorKind,
    /// Another target may be tried: nothing of a streamed body was used up, and either no byte went out or the request
    /// is idempotent.
    pub may_retry: bool,
}

impl UpstreamError {
    pub(crate) fn new(kind: UpstreamErrorKind, may_retry: bool) -> Self {
        Self { kind, may_retry }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum UpstreamErrorKind {
    #[error("connect failed: {0}")]
    Connect(io::Error),
    #[error("connect timed out")]
    ConnectTimeout,
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    #[error("sending the request timed out")]
    SendTimeout,
    #[error("waiting for the response timed out")]
    ReadTimeout,
    #[error("upstream closed the connection before its response")]
    Closed,
    #[error("invalid response: {0}")]
    BadResponse(&'static str),
    #[error("response head too large")]
    HeadTooLarge,
    /// A buffered response body was larger than the limit given.
    #[error("response body too large")]
    BodyTooLarge,
    #[error("client gone")]
    ClientGone,
    #[error("{0}")]
    ClientBody(BodyError),
}
