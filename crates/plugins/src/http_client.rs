//! HTTP from plugins: pooled connections for whoever asks, and how logs and traces are posted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use portcullis_plugin::Result;
use portcullis_wire::tls::UpstreamConfigs;

pub type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// How much of an answer is read so that the connection can be used again, in bytes.
const MOST_OF_AN_ANSWER: usize = 64 << 10;
/// How long idle connections are kept where users cannot say.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How servers are judged: by CA certificates (PEM), or not at all.
pub fn tls(verify: bool, roots: &[Arc<str>]) -> rustls::ClientConfig {
    let mut tls = (*UpstreamConfigs::new().for_service(verify, None, roots, None).config).clone();
    // The connector sets the protocols itself.
    tls.alpn_protocols.clear();
    tls
}

/// A client over connections that are kept for `keepalive` when idle.
pub fn pooled(tls: rustls::ClientConfig, connect_timeout: Option<Duration>, keepalive: Duration) -> HttpClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(connect_timeout);
    let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(keepalive).build(connector)
}

/// A client that, like Kong, does not check the server's certificate.
pub fn new(connect_timeout: Option<Duration>, keepalive: Duration) -> HttpClient {
    pooled(tls(false, &[]), connect_timeout, keepalive)
}

/// Sends a request and answers the status. Errors name the address and the cause.
pub async fn send(client: &HttpClient, request: Request<Full<Bytes>>) -> std::result::Result<u16, String> {
    let uri = request.uri().clone();
    let response = client.request(request).await.map_err(|error| format!("{uri}: {}", with_causes(&error)))?;
    let status = response.status();
    // A longer answer costs the connection, not the record.
    let _ = Limited::new(response.into_body(), MOST_OF_AN_ANSWER).collect().await;
    Ok(status.as_u16())
}

/// An error with what caused it: clients hide the interesting part.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        out = format!("{out}: {inner}");
        cause = inner.source();
    }
    out
}

/// Where bodies of one type are posted.
pub struct Poster {
    client: HttpClient,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

impl Poster {
    /// `timeout` is for sending and waiting for the answer, together. Errors when the address or a header cannot be sent as it is.
    pub fn new<'h>(
        endpoint: &str,
        content_type: &'static str,
        headers: impl IntoIterator<Item = (&'h String, &'h String)>,
        connect_timeout: Duration,
        timeout: Duration,
    ) -> Result<Self> {
        let uri = endpoint.parse::<Uri>().map_err(|error| format!("{endpoint}: {error}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(format!("{endpoint}: only http and https can be posted to").into());
        }
        let mut all = HeaderMap::new();
        all.insert(USER_AGENT, HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION"))));
        all.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, value) in headers {
            all.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        Ok(Self { client: new(Some(connect_timeout), KEEPALIVE), uri, headers: all, timeout })
    }

    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// All that decides how bodies are sent.
    pub fn describe(&self) -> String {
        format!("{} {:?} {:?}", self.uri, self.headers, self.timeout)
    }

    /// Posts a body and answers the status.
    pub async fn post(&self, body: Vec<u8>) -> std::result::Result<u16, String> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let sent = tokio::time::timeout(self.timeout, send(&self.client, request)).await;
        sent.unwrap_or_else(|_| Err(format!("{} did not answer in time", self.uri)))
    }
}
