//! The access logs of the APIs.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::body::Body;
use hyper::header::HOST;
use hyper::{HeaderMap, Method, Request, Response, Uri, Version};
use portcullis_proxy::access_log::{Format, Tap, Variable};

/// An access log as an API writes it.
pub struct ApiLog {
    format: Arc<Format>,
    tap: Tap,
}

/// What a line tells of a request, noted before the request is consumed.
pub struct ApiCall {
    client: Option<SocketAddr>,
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    started: Instant,
}

impl ApiCall {
    pub fn of<B>(request: &Request<B>, client: Option<SocketAddr>) -> Self {
        Self {
            client,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            started: Instant::now(),
        }
    }
}

impl ApiLog {
    pub fn new(format: Arc<Format>, tap: Tap) -> Self {
        Self { format, tap }
    }

    pub fn write<B: Body>(&self, call: &ApiCall, response: &Response<B>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.tap.write(now.as_millis() as u64, |out, time| {
            self.format.write(out, |variable, out| {
                let target = || call.uri.path_and_query().map_or("/", |target| target.as_str());
                // Writing to a vector cannot fail.
                let _ = match variable {
                    Variable::RemoteAddress => match call.client {
                        Some(client) => write!(out, "{}", client.ip()),
                        None => write!(out, "unix:"),
                    },
                    Variable::RemotePort => call.client.map_or(Ok(()), |client| write!(out, "{}", client.port())),
                    Variable::TimeLocal => write!(out, "{}", time.common),
                    Variable::TimeIso => write!(out, "{}", time.iso),
                    Variable::Milliseconds => write!(out, "{}", seconds(now)),
                    Variable::Request => write!(out, "{} {} {}", call.method, target(), protocol(call.version)),
                    Variable::Method => write!(out, "{}", call.method),
                    Variable::RequestUri => write!(out, "{}", target()),
                    Variable::Path => write!(out, "{}", call.uri.path()),
                    Variable::Arguments => write!(out, "{}", call.uri.query().unwrap_or_default()),
                    Variable::Protocol => write!(out, "{}", protocol(call.version)),
                    Variable::Scheme => write!(out, "{}", call.uri.scheme_str().unwrap_or("http")),
                    Variable::Host => out.write_all(call.headers.get(HOST).map_or(&b""[..], |host| host.as_bytes())),
                    Variable::Status => write!(out, "{}", response.status().as_u16()),
                    Variable::BodyBytesSent | Variable::BytesSent => write!(out, "{}", response.body().size_hint().lower()),
                    Variable::RequestLength => write!(out, "0"),
                    Variable::RequestTime => write!(out, "{}", seconds(call.started.elapsed())),
                    Variable::KongLatency => write!(out, "{}", call.started.elapsed().as_millis()),
                    Variable::Source => write!(out, "kong"),
                    Variable::RequestHeader(name) => out.write_all(value(&call.headers, name)),
                    Variable::ResponseHeader(name) => out.write_all(value(response.headers(), name)),
                    Variable::Process => write!(out, "{}", std::process::id()),
                    _ => Ok(()),
                };
            });
        });
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> &'a [u8] {
    headers.get(name).map_or(&b""[..], |value| value.as_bytes())
}

/// Seconds with milliseconds: `0.042`.
fn seconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
