//! Answers a plugin gives instead of letting the request through.

use std::borrow::Cow;

use serde_json::Value;

/// How the body of an [`Answer`] comes about.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Kong's `error()`: the message in the format the client accepts, with the request id.
    Negotiated(Cow<'static, str>),
    /// Kong's `exit(status, table)`: JSON as it is, without a request id.
    Json(Value),
    /// Bytes as they are; without a content type none is sent.
    Bytes { content_type: Option<Cow<'static, str>>, bytes: Vec<u8> },
    /// Kong's `exit(status)` without a body: what the gateway says for that status by default, or nothing.
    Default,
    /// No body at all, whatever the status.
    Empty,
}

/// A complete answer of a plugin's own. The gateway adds its own headers (`Server`, latencies, request id).
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(Cow<'static, str>, Vec<u8>)>,
    pub body: Body,
}

impl Answer {
    /// A negotiated error body (behaviour checklist 6.3).
    pub fn error(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Negotiated(message.into()) }
    }

    /// A plain JSON body.
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Body::Json(body) }
    }

    /// The gateway's default text for this status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Default }
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Empty }
    }

    pub fn bytes(status: u16, content_type: Option<Cow<'static, str>>, bytes: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes { content_type, bytes } }
    }

    /// Adds a response header.
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}
