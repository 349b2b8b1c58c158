//! Request and response heads, and how the body that follows is framed.

use std::ops::Range;

use crate::headers::Headers;

/// The protocol a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    Http11,
    Http2,
    Http3,
}

impl Version {
    /// As `Via` and logs write it: `1.1`, `2`.
    pub fn text(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
            Version::Http3 => "3",
        }
    }
}

/// A request method: the common ones by name, others by their text in the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    Connect,
    Other,
}

impl Method {
    pub fn of(text: &[u8]) -> Self {
        match text {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"PATCH" => Method::Patch,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// Whether a request may be sent again after bytes of it went out (nginx: all but POST, PATCH and LOCK).
    pub fn may_be_retried(self, text: &[u8]) -> bool {
        !matches!(self, Method::Post | Method::Patch) && text != b"LOCK"
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// This many bytes.
    Length(u64),
    Chunked,
    /// Responses only: until the connection closes.
    UntilClose,
}

/// A request head: the bytes as they came and what the engine understood of them.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub version: Version,
    pub method: Method,
    pub(crate) method_text: Range<usize>,
    /// The request target as sent, without an absolute form's scheme and authority: `/path?query`.
    pub(crate) target: Range<usize>,
    /// Host and port of an absolute-form target.
    pub(crate) authority: Option<Range<usize>>,
    pub headers: Headers,
    pub framing: Framing,
    /// The client lets the connection stay open after this exchange.
    pub keep_alive: bool,
    /// An HTTP/1.1 request without a body that has an `Upgrade` header. Like nginx and Kong, no `Connection` token is asked for.
    pub upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            version: Version::Http11,
            method: Method::Get,
            method_text: 0..0,
            target: 0..0,
            authority: None,
            headers: Headers::default(),
            framing: Framing::None,
            keep_alive: true,
            upgrade: false,
            expects_continue: false,
        }
    }
}

impl RequestHead {
    /// Empties the head and keeps its buffers.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.version = Version::Http11;
        self.method = Method::Get;
        self.method_text = 0..0;
        self.target = 0..0;
        self.authority = None;
        self.framing = Framing::None;
        self.keep_alive = true;
        self.upgrade = false;
        self.expects_continue = false;
    }

    /// A head made of its parts, without headers: `target` is `/path?query`.
    pub fn of(method: &str, target: &str) -> Self {
        let mut head = Self { method: Method::of(method.as_bytes()), ..Self::default() };
        head.method_text = head.headers.push_raw(method.as_bytes());
        head.target = head.headers.push_raw(target.as_bytes());
        head
    }

    pub fn method_text(&self) -> &[u8] {
        self.headers.raw(self.method_text.clone())
    }
    /// Path and query as sent: `/path?query`.
    pub fn target(&self) -> &[u8] {
        self.headers.raw(self.target.clone())
    }
    /// The target's path as sent, without the query.
    pub fn path(&self) -> &[u8] {
        let target = self.target();
        &target[..memchr::memchr(b'?', target).unwrap_or(target.len())]
    }
    /// The query as sent, without the `?`; none when there is no `?`.
    pub fn query(&self) -> Option<&[u8]> {
        let target = self.target();
        memchr::memchr(b'?', target).map(|at| &target[at + 1..])
    }
    /// Host and port of an absolute-form target, or HTTP/2's `:authority`.
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.clone().map(|range| self.headers.raw(range))
    }
}

/// A response head.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    pub status: u16,
    pub headers: Headers,
    /// How the body that follows is framed, as the upstream said or as the gateway's own answer has it.
    pub framing: Framing,
}

impl ResponseHead {
    /// A head without header lines.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Empties the head and keeps its buffers.
    pub fn clear(&mut self) {
        self.status = 0;
        self.headers.clear();
        self.framing = Framing::None;
    }

    /// The reason phrase as the upstream sent it, or the usual one of the status.
    pub fn reason(&self) -> &[u8] {
        self.headers.reason(self.status).unwrap_or_else(|| reason_of(self.status).as_bytes())
    }
}

/// The usual reason phrase of a status, as nginx has it; empty for unknown ones.
pub fn reason_of(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Time-out",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}
