//! Services: where requests are sent.

use portcullis_schema::build::*;
use portcullis_schema::{Check, Fields, Rule, Schema, Shorthand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Entity, Ref};

/// An upstream application: protocol, host, port and path, with its timeouts and TLS settings.
#[derive(Clone, Debug, Deserialize, Serialize, Fields)]
pub struct Service {
    /// The service's id.
    #[field(id())]
    pub id: Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
    /// A name to find it by.
    #[field(utf8_name().unique())]
    pub name: Option<String>,
    /// How often a request is tried again on a connection failure.
    #[field(integer().between(0, 32767).default(5))]
    pub retries: Option<u16>,
    /// How the application is spoken to.
    #[field(protocol().required().default("http"))]
    pub protocol: Protocol,
    /// Name of an upstream entity, or a host name or address.
    #[field(host().required())]
    pub host: String,
    /// The port at the host; upstream entities have their own.
    #[field(port().required().default(80))]
    pub port: u16,
    /// Put before the path of every request.
    #[field(path())]
    pub path: Option<String>,
    /// Milliseconds to wait for a connection.
    #[field(integer().between(1, 2147483646).default(60000))]
    pub connect_timeout: Option<u64>,
    /// Milliseconds between two writes to the upstream.
    #[field(integer().between(1, 2147483646).default(60000))]
    pub write_timeout: Option<u64>,
    /// Milliseconds between two reads from the upstream.
    #[field(integer().between(1, 2147483646).default(60000))]
    pub read_timeout: Option<u64>,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
    /// The certificate shown to the upstream.
    #[field(foreign("certificates"))]
    pub client_certificate: Option<Ref>,
    /// Whether the upstream's certificate is checked; null leaves it to the node's configuration.
    #[field(boolean())]
    pub tls_verify: Option<bool>,
    /// How long a chain of certificates may be.
    #[field(integer().between(0, 64).default(Value::Null))]
    pub tls_verify_depth: Option<u8>,
    /// Ids of the CA certificates trusted for this upstream.
    #[field(array(uuid()))]
    pub ca_certificates: Option<Vec<Uuid>>,
    /// A disabled service is as if it, and what belongs to it, weren't there.
    #[field(boolean().required().default(true))]
    pub enabled: bool,
}

/// What a service or a route speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Grpc,
    Grpcs,
    Http,
    Https,
    Tcp,
    Tls,
    TlsPassthrough,
    Udp,
}

impl Protocol {
    /// The word users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::TlsPassthrough => "tls_passthrough",
            Self::Udp => "udp",
        }
    }
}

impl Entity for Service {
    const NAME: &'static str = "services";
    const ENDPOINT_KEY: Option<&'static str> = Some("name");

    fn schema() -> Schema {
        let mut checks = vec![must_be_null("path", Rule::OneOf(words(&["tcp", "tls", "udp", "grpc", "grpcs"])))];
        for field in ["client_certificate", "tls_verify", "tls_verify_depth", "ca_certificates"] {
            checks.push(must_be_null(field, Rule::NotOneOf(words(&["https", "tls"]))));
        }
        let url = Shorthand { name: "url", field: string(), expand: expand_url };
        Schema { checks, shorthands: vec![url], ..Self::base() }
    }
}

fn words(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| json!(word)).collect()
}

fn must_be_null(then_field: &'static str, protocols: Rule) -> Check {
    Check::Conditional {
        if_field: "protocol",
        if_match: vec![protocols],
        then_field,
        then_match: vec![Rule::Eq(Value::Null)],
        then_required: false,
        then_error: None,
    }
}

/// Splits `url` into protocol, host, port and path. It wins over those fields given beside it. Whatever is given is taken for a
/// URL: what it lacks, the service lacks.
fn expand_url(url: &Value, record: &mut portcullis_schema::Record) -> Result<(), String> {
    let url = Url::split(url.as_str().unwrap_or("userdata: NULL"));
    let number = url.port.and_then(|port| port.parse::<u64>().ok());
    let protocol = url.scheme.unwrap_or(if number == Some(443) { "https" } else { "http" });
    let port = match (number, url.port) {
        (Some(number), _) => number.into(),
        (None, Some(text)) => text.into(),
        (None, None) => Value::from(if protocol == "https" { 443 } else { 80 }),
    };
    let or_null = |part: Option<&str>| part.map_or(Value::Null, Value::from);
    record.insert("protocol".to_owned(), protocol.into());
    record.insert("host".to_owned(), or_null(url.host));
    record.insert("port".to_owned(), port);
    record.insert("path".to_owned(), or_null(url.path));
    Ok(())
}

/// The parts of a URL as the library finds them that Kong reads them with: nothing is checked, empty parts are missing.
struct Url<'a> {
    scheme: Option<&'a str>,
    host: Option<&'a str>,
    port: Option<&'a str>,
    path: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn split(text: &'a str) -> Self {
        let text = text.split('#').next().unwrap_or_default();
        let is_scheme = |scheme: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
            scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) && scheme.bytes().all(fits)
        };
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            _ => (None, text),
        };
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let authority = authority.split_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let path = rest.split(['?', ';']).next();
        let filled = |part: &&str| !part.is_empty();
        Self { scheme, host: Some(host).filter(filled), port: port.filter(filled), path: path.filter(filled) }
    }
}
