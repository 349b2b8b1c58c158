//! aws-lambda: answers requests with what a function on AWS Lambda answers.
//!
//! - [`config`]: what users set
//! - [`payload`]: the event a function gets of a request
//! - [`proxied`]: the answer that a function describes
//! - [`credentials`]: where AWS credentials come from

mod config;
mod credentials;
mod payload;
mod proxied;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis_plugin::{Answer, Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Record};
use portcullis_wire::Framing;
use serde_json::{Value, json};
use url::Url;

use crate::client::{Client, Clients, Connections, Incoming, Outgoing};
use crate::sigv4;
pub use config::Config;
use credentials::{Chain, Chains};

/// See the module's description.
pub struct AwsLambda {
    config: Config,
    client: Client,
    credentials: Arc<Chain>,
    proxy: Option<(String, u16)>,
    via: String,
}

impl Plugin for AwsLambda {
    const NAME: &'static str = "aws-lambda";
    const PRIORITY: i32 = 750;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        // As in Kong, AWS's certificate is not checked.
        let connections = Connections { verify: false, keepalive: milliseconds(config.keepalive) };
        let client = env.state.get::<Clients>().with(connections, env);
        let proxy = config.proxy_url.as_deref().and_then(|text| {
            let url = Url::parse(text).ok()?;
            Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
        });
        let settings = credentials::Settings {
            own: config.aws_key.clone().zip(config.aws_secret.clone()),
            assume_role: config.aws_assume_role_arn.clone(),
            session_name: config.aws_role_session_name.clone().unwrap_or_else(|| "kong".to_owned()),
            sts_endpoint: config.aws_sts_endpoint_url.clone(),
            region: region(&config),
            metadata_v2: config.aws_imds_protocol_version == "v2",
        };
        let credentials = env.state.get::<Chains>().of(settings, client.clone());
        Ok(Self { config, client, credentials, proxy, via: format!("2 {}", env.node.product()) })
    }

    fn checks() -> Vec<Check> {
        vec![
            Check::MutuallyRequired(vec!["config.aws_key", "config.aws_secret"]),
            Check::Custom { fields: vec!["config.proxy_url"], check: check_proxy },
        ]
    }
}

impl Handler for AwsLambda {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        let limit = if self.config.skip_large_bodies == Some(false) { LARGEST_BODY } else { HELD_IN_MEMORY };
        match request.head.framing {
            Framing::None => None,
            // One that turns out larger is refused; one that says so is left out.
            Framing::Chunked => Some(LARGEST_BODY),
            _ => Some(limit),
        }
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        Step::later(async move {
            let event = payload::event(&self.config, request);
            let answered = self.invoke(event, request.started_at_ms / 1000).await?;
            Ok(Some(Box::new(self.answer(answered)?)))
        })
    }
}

impl AwsLambda {
    async fn invoke(&self, event: Vec<u8>, now: u64) -> Result<Incoming> {
        let config = &self.config;
        let region = region(config).ok_or("no region specified: neither in the configuration nor in the environment")?;
        let host = config.host.clone().unwrap_or_else(|| format!("lambda.{region}.amazonaws.com"));
        let port = config.port.unwrap_or(443);
        let scheme = if config.disable_https == Some(true) { "http" } else { "https" };
        let function = utf8_percent_encode(config.function_name.as_deref().unwrap_or_default(), NOT_IN_A_SEGMENT);
        let mut uri = format!("{scheme}://{host}:{port}/2015-03-31/functions/{function}/invocations");
        if let Some(qualifier) = &config.qualifier {
            uri = format!("{uri}?Qualifier={}", utf8_percent_encode(qualifier, NOT_IN_A_SEGMENT));
        }
        let uri: Uri = uri.parse()?;
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-amz-invocation-type", &config.invocation_type), ("x-amz-log-type", &config.log_type)] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        }
        let credentials = self.credentials.get(now).await?;
        sigv4::sign("POST", &uri, &mut headers, &event, &credentials, sigv4::Scope { region: &region, service: "lambda", now })?;
        let timeout = milliseconds(config.timeout);
        let outgoing = Outgoing { method: Method::POST, uri, headers, body: event.into(), timeout, proxy: self.proxy.clone() };
        Ok(self.client.send(outgoing).await?)
    }

    /// The client's answer, made of Lambda's.
    fn answer(&self, answered: Incoming) -> Result<Answer> {
        if answered.status >= 400 {
            return Err(format!("lambda answered {}: {}", answered.status, String::from_utf8_lossy(&answered.body)).into());
        }
        if self.config.is_proxy_integration == Some(true) {
            return Ok(match proxied::answer(&answered.body) {
                Ok(answer) => answer,
                Err(problem) => {
                    let error = format!("could not JSON decode Lambda function response: {problem}");
                    Answer::json(502, json!({ "message": "Bad Gateway", "error": error }))
                }
            });
        }
        let failed = answered.headers.get("x-amz-function-error").is_some_and(|error| error == "Unhandled");
        let status = self.config.unhandled_status.filter(|_| failed).unwrap_or(answered.status);
        let mut answer = Answer::bytes(status, None, self.body(&answered)).header("Via", self.via.clone());
        for (name, value) in &answered.headers {
            if !OF_THE_CONNECTION.contains(&name.as_str()) {
                answer = answer.header(name.as_str().to_owned(), value.as_bytes());
            }
        }
        Ok(answer)
    }

    /// The body as it came, or with its empty lists as objects: what Kong's decoder and encoder make of them.
    fn body(&self, answered: &Incoming) -> Vec<u8> {
        if self.config.empty_arrays_mode == "correct" || !answered.body.contains(&b'[') {
            return answered.body.to_vec();
        }
        match serde_json::from_slice::<Value>(&answered.body) {
            Ok(mut value) => {
                if emptied(&mut value) {
                    value.to_string().into_bytes()
                } else {
                    answered.body.to_vec()
                }
            }
            Err(_) => answered.body.to_vec(),
        }
    }
}

/// Makes objects of empty lists; whether there were any.
fn emptied(value: &mut Value) -> bool {
    match value {
        Value::Array(list) if list.is_empty() => {
            *value = json!({});
            true
        }
        Value::Array(list) => list.iter_mut().fold(false, |any, inner| emptied(inner) | any),
        Value::Object(fields) => fields.values_mut().fold(false, |any, inner| emptied(inner) | any),
        _ => false,
    }
}

/// Bodies up to here are held in memory, as `client_body_buffer_size` is by default.
const HELD_IN_MEMORY: u64 = 8 << 10;
/// The largest event AWS takes, in bytes.
const LARGEST_BODY: u64 = 6 << 20;

const NOT_IN_A_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Headers that are the connection's own.
const OF_THE_CONNECTION: [&str; 6] = ["connection", "content-length", "transfer-encoding", "keep-alive", "date", "server"];

fn milliseconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number.max(1.0) / 1000.0).unwrap_or(Duration::MAX)
}

fn region(config: &Config) -> Option<String> {
    let of_environment = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    config.aws_region.clone().or_else(|| of_environment("AWS_REGION")).or_else(|| of_environment("AWS_DEFAULT_REGION"))
}

/// A proxy is spoken to without TLS.
fn check_proxy(record: &Record) -> std::result::Result<(), Vec<(String, Value)>> {
    let proxy = record.get("config").and_then(|config| config.get("proxy_url")).and_then(Value::as_str);
    let scheme = proxy.and_then(|proxy| proxy.split_once("://")).map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| scheme != "http" && !scheme.is_empty() && !scheme.contains(':')) {
        return Err(vec![("@entity".to_owned(), "proxy_url scheme must be http".into())]);
    }
    Ok(())
}
