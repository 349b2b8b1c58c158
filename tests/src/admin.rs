//! A client of the Admin API.

use std::net::SocketAddr;

use serde_json::Value;

use crate::Client;

/// Talks JSON to the Admin API, one connection a request.
#[derive(Clone, Copy)]
pub struct Admin {
    address: SocketAddr,
}

/// What the Admin API said; `body` is null if it said nothing.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The parsed body.
    pub body: Value,
}

impl Admin {
    /// The Admin API at `address`.
    pub fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends any request; a body is sent as it stands, as JSON.
    pub fn send(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        let mut client = Client::connect(self.address);
        let length = body.map(|body| format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())).unwrap_or_default();
        let body = body.unwrap_or_default();
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: admin.test\r\nConnection: close\r\n{length}\r\n{body}"));
        let answer = client.answer_to(method);
        let body = if answer.body.is_empty() { Value::Null } else { answer.json() };
        Reply { status: answer.status, body }
    }

    fn sure(&self, method: &str, path: &str, body: Option<&Value>, status: u16) -> Value {
        let reply = self.send(method, path, body.map(Value::to_string).as_deref());
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        reply.body
    }

    /// Makes an entity and gives it back.
    pub fn post(&self, path: &str, body: Value) -> Value {
        self.sure("POST", path, Some(&body), 201)
    }

    /// Changes an entity and gives it back.
    pub fn patch(&self, path: &str, body: Value) -> Value {
        self.sure("PATCH", path, Some(&body), 200)
    }

    /// Reads an entity or a page of them.
    pub fn get(&self, path: &str) -> Value {
        self.sure("GET", path, None, 200)
    }

    /// Deletes an entity.
    pub fn delete(&self, path: &str) {
        self.sure("DELETE", path, None, 204);
    }
}
