//! azure-functions: answers requests with what a function on Azure answers.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use portcullis_plugin::{Answer, Env, Handler, Instance, Phases, Plugin, Request, Result, Step};
use portcullis_schema::Fields;
use serde::Deserialize;

use crate::client::{Client, Clients, Connections, Outgoing};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Milliseconds the function may take.
    #[field(number().default(600000))]
    pub timeout: Option<f64>,
    /// Milliseconds an idle connection is kept.
    #[field(number().default(60000))]
    pub keepalive: Option<f64>,
    /// Whether the connection is TLS.
    #[field(boolean().default(true))]
    pub https: Option<bool>,
    /// Whether Azure's certificate is checked.
    #[field(boolean().default(false))]
    pub https_verify: Option<bool>,
    /// The function's key.
    #[field(string().encrypted().referenceable())]
    pub apikey: Option<String>,
    /// The client id, where the key is used for several.
    #[field(string().encrypted().referenceable())]
    pub clientid: Option<String>,
    /// The application's name.
    #[field(string().required())]
    pub appname: String,
    /// The domain that follows the application's name.
    #[field(string().required().default("azurewebsites.net"))]
    pub hostdomain: String,
    /// What the path begins with.
    #[field(string().default("api"))]
    pub routeprefix: Option<String>,
    /// The function's name.
    #[field(string().required())]
    pub functionname: String,
}

/// See the module's description.
pub struct AzureFunctions {
    client: Client,
    /// The function's address, without a query.
    address: String,
    timeout: Duration,
    key: Option<HeaderValue>,
    client_id: Option<HeaderValue>,
    via: String,
}

impl Plugin for AzureFunctions {
    const NAME: &'static str = "azure-functions";
    const PRIORITY: i32 = 749;
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let connections =
            Connections { verify: config.https_verify == Some(true), keepalive: milliseconds(config.keepalive.unwrap_or(60_000.0)) };
        let scheme = if config.https == Some(false) { "http" } else { "https" };
        let prefix = config.routeprefix.as_deref().unwrap_or("api").trim_matches('/');
        let place = [prefix, config.functionname.as_str()]
            .iter()
            .filter(|part| !part.is_empty())
            .fold(String::new(), |path, part| format!("{path}/{part}"));
        let header = |text: Option<String>| text.map(HeaderValue::try_from).transpose();
        Ok(Self {
            client: env.state.get::<Clients>().with(connections, env),
            address: format!("{scheme}://{}.{}{place}", config.appname, config.hostdomain),
            timeout: milliseconds(config.timeout.unwrap_or(600_000.0)),
            key: header(config.apikey)?,
            client_id: header(config.clientid)?,
            via: format!("2 {}", env.node.product()),
        })
    }
}

/// The largest body that is sent on, in bytes.
const LARGEST_BODY: u64 = 64 << 20;

/// Headers that are a connection's own.
const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
];

impl Handler for AzureFunctions {
    fn body_limit(&self, _: &Request) -> Option<u64> {
        Some(LARGEST_BODY)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        Step::later(async move {
            let answered = self.client.send(self.call(request)?).await?;
            let mut answer = Answer::bytes(answered.status, None, answered.body.to_vec()).header("Via", self.via.clone());
            for (name, value) in &answered.headers {
                if !OF_THE_CONNECTION.contains(&name.as_str()) {
                    answer = answer.header(name.as_str().to_owned(), value.as_bytes());
                }
            }
            Ok(Some(Box::new(answer)))
        })
    }
}

impl AzureFunctions {
    /// The client's request, as the function gets it. The request's path has no part in it.
    fn call(&self, request: &Request) -> Result<Outgoing> {
        let mut address = self.address.clone();
        if let Some(query) = request.upstream.query.as_deref().filter(|query| !query.is_empty()) {
            address = format!("{address}?{}", String::from_utf8_lossy(query));
        }
        let uri: Uri = address.parse()?;
        let mut headers = HeaderMap::new();
        for (name, value) in request.head.headers.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
                && name != http::header::HOST
                && !OF_THE_CONNECTION.contains(&name.as_str())
            {
                headers.append(name, value);
            }
        }
        for (name, value) in [("x-functions-key", &self.key), ("x-functions-clientid", &self.client_id)] {
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value.clone());
            }
        }
        let method = request.upstream.method.as_deref().map_or(request.head.method_text(), str::as_bytes);
        let body = request.upstream.body.as_deref().or(request.body.as_deref()).unwrap_or_default();
        Ok(Outgoing { method: Method::from_bytes(method)?, uri, headers, body: body.to_vec().into(), timeout: self.timeout, proxy: None })
    }
}

fn milliseconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number.max(1.0) / 1000.0).unwrap_or(Duration::MAX)
}
