//! What a handler answers, and how an error becomes an answer.

use bytes::Bytes;
use http::StatusCode;
use portcullis_schema::ApiError;
use portcullis_store::StoreError;
use serde_json::{Value, json};

/// The type of every JSON body.
pub const JSON: &str = "application/json; charset=utf-8";

/// A status and a body; the headers that all answers share are added when it is sent.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: Option<&'static str>,
    pub body: Bytes,
    pub headers: Vec<(&'static str, String)>,
    /// It comes from below the API, where nobody adds the headers for other origins.
    pub bare: bool,
}

impl Answer {
    pub fn json(status: StatusCode, body: &Value) -> Self {
        let body = Bytes::from(body.to_string());
        Self { status, content_type: Some(JSON), body, headers: Vec::new(), bare: false }
    }

    /// A body that is JSON already.
    pub fn written(status: StatusCode, body: Vec<u8>) -> Self {
        Self { status, content_type: Some(JSON), body: body.into(), headers: Vec::new(), bare: false }
    }

    pub fn ok(body: impl Into<Value>) -> Self {
        Self::json(StatusCode::OK, &body.into())
    }

    pub fn created(body: impl Into<Value>) -> Self {
        Self::json(StatusCode::CREATED, &body.into())
    }

    /// 204, which has no body.
    pub fn no_content() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    pub fn empty(status: StatusCode) -> Self {
        Self { status, content_type: None, body: Bytes::new(), headers: Vec::new(), bare: false }
    }

    /// A JSON body that only has a message.
    pub fn message(status: StatusCode, message: impl Into<String>) -> Self {
        Self::json(status, &json!({ "message": message.into() }))
    }

    pub fn not_found() -> Self {
        Self::message(StatusCode::NOT_FOUND, "Not found")
    }

    pub fn text(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type: Some(content_type), body: body.into(), headers: Vec::new(), bare: false }
    }

    /// The page that nginx would send: what Kong answers where it exits without a body.
    pub fn page(status: StatusCode) -> Self {
        let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
        let page = format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
        );
        Self { status, content_type: Some("text/html; charset=UTF-8"), body: page.into(), headers: Vec::new(), bare: false }
    }

    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Why a handler stopped early.
#[derive(Debug)]
pub enum Refusal {
    /// The client is told this.
    Answer(Answer),
    /// The store is away: the client may try again.
    Unavailable(String),
}

/// What every handler returns.
pub type Outcome = Result<Answer, Refusal>;

impl Refusal {
    pub fn message(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Answer(Answer::message(status, message))
    }

    pub fn not_found() -> Self {
        Self::Answer(Answer::not_found())
    }

    /// Our own fault: the cause goes to the log, the client gets none of it.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "admin request failed");
        Self::message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred")
    }

    pub fn into_answer(self) -> Answer {
        match self {
            Self::Answer(answer) => answer,
            Self::Unavailable(cause) => {
                tracing::error!(%cause, "the store cannot be reached");
                Answer::message(StatusCode::SERVICE_UNAVAILABLE, "the configuration store is unavailable").header("retry-after", "1")
            }
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            return Self::internal(error);
        }
        Self::Answer(Answer::json(status, &error.body()))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { error, .. } => error.into(),
            StoreError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}
