//! A client of the Admin API.

use crate::{Connection, Response};
use serde_json::Value;
use std::net::SocketAddr;

/// Sends JSON, reads JSON; a connection for each call.
pub struct Admin {
    address: SocketAddr,
}

/// The Admin API's answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Null when there is no body.
    pub body: Value,
    call: String,
}

impl Answer {
    /// The body, when the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.call, self.body);
        self.body
    }
}

impl Admin {
    pub(crate) fn new(address: SocketAddr) -> Admin {
        Admin { address }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(body))
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, Some(body))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let response = match body {
            Some(body) => self.raw(method, path, "application/json", body.to_string().as_bytes()),
            None => self.raw(method, path, "", b""),
        };
        let call = format!("{method} {path}");
        let body = if response.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("{call} answered {response:?}"))
        };
        Answer { status: response.status, body, call }
    }

    /// Sends any body under any content type.
    pub fn raw(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Response {
        let mut connection = Connection::open(self.address);
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n");
        if !content_type.is_empty() {
            request.push_str(&format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        connection.send(request.as_bytes());
        connection.send(body);
        connection.response()
    }
}
