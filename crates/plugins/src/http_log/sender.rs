//! Sends batches of records over HTTP.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use portcullis_plugin::{Error, Result};
use url::Url;

use super::Config;
use crate::arguments;
use crate::http_client::{self, HttpClient};
use crate::queue::Send;
use crate::sinks::milliseconds;

/// Where and how records are sent.
pub struct Sender {
    uri: Uri,
    method: Method,
    headers: HeaderMap,
    timeout: Duration,
    keepalive: Duration,
    /// Records go as a list, even a single one.
    as_list: bool,
}

impl Sender {
    /// Errors when the endpoint or a header cannot be sent as it is.
    pub fn new(config: &Config, as_list: bool) -> Result<Self> {
        let url = Url::parse(&config.http_endpoint).map_err(|error| format!("http_endpoint: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::from(format!("http_endpoint: the scheme `{}` is not supported", url.scheme())));
        }
        let host = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        // As in Kong the query is not sent.
        let uri = format!("{}://{authority}{}", url.scheme(), url.path()).parse::<Uri>()?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION"))));
        if !url.username().is_empty() || url.password().is_some() {
            headers.insert(AUTHORIZATION, basic(&url)?);
        }
        for (name, value) in config.headers.iter().flatten() {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        let content_type = config.content_type.as_deref().unwrap_or("application/json");
        headers.insert(CONTENT_TYPE, HeaderValue::try_from(content_type)?);
        Ok(Self {
            uri,
            method: config.method.as_deref().unwrap_or("POST").parse()?,
            headers,
            timeout: milliseconds(config.timeout, 10_000.0),
            keepalive: milliseconds(config.keepalive, 60_000.0),
            as_list,
        })
    }

    /// All that decides how records are sent: equal senders may share a queue.
    pub fn describe(&self) -> String {
        // Debug of a header map tells values in full unless they are marked as sensitive, which none is.
        format!("{} {} {:?} {:?} {:?}", self.method, self.uri, self.headers, self.timeout, self.keepalive)
    }

    pub fn into_send(self) -> Send<Box<[u8]>> {
        let client = http_client::new(None, self.keepalive);
        let sender = Arc::new(self);
        Box::new(move |batch| {
            let (client, sender) = (client.clone(), sender.clone());
            Box::pin(async move {
                match tokio::time::timeout(sender.timeout, sender.send(&client, &batch)).await {
                    Ok(sent) => sent,
                    Err(_) => Err(format!("{} did not answer in time", sender.uri)),
                }
            })
        })
    }

    async fn send(&self, client: &HttpClient, batch: &[Box<[u8]>]) -> std::result::Result<(), String> {
        let mut request = Request::new(Full::new(self.body(batch)));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let status = http_client::send(client, request).await?;
        if status < 300 { Ok(()) } else { Err(format!("{} answered {status}", self.uri)) }
    }

    fn body(&self, batch: &[Box<[u8]>]) -> Bytes {
        if !self.as_list {
            return batch.first().map(|record| Bytes::copy_from_slice(record)).unwrap_or_default();
        }
        let mut body = Vec::with_capacity(batch.iter().map(|record| record.len() + 1).sum::<usize>() + 1);
        body.push(b'[');
        for (at, record) in batch.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(record);
        }
        body.push(b']');
        body.into()
    }
}

/// The user and password of a URL as an `Authorization` value.
fn basic(url: &Url) -> Result<HeaderValue> {
    // A plus is a plus here, unlike in a query.
    let plain = |text: &str| arguments::decode(text.replace('+', "%2B").as_bytes()).into_owned();
    let mut credentials = plain(url.username());
    if let Some(password) = url.password() {
        credentials.push(b':');
        credentials.extend(plain(password));
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
    Ok(HeaderValue::try_from(format!("Basic {encoded}"))?)
}
