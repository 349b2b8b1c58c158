//! Where each provider's models are, and how we make ourselves known there.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use url::Url;

use super::request::{COMPLETIONS, PRESERVE};
use super::{Auth, Model, Options};
use crate::sigv4::{self, Credentials};

/// The region of Bedrock where none is configured.
const DEFAULT_REGION: &str = "us-east-1";

/// The place of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// None keeps the request's own.
    pub path: Option<String>,
    /// Of the configured address.
    pub query: Option<String>,
}

/// The place for this operation of this model. Errors when the configured address cannot be used.
pub fn endpoint(model: &Model, name: &str, route_type: &str, stream: bool) -> Result<Endpoint, String> {
    let none = Options::default();
    let options = model.options.as_ref().unwrap_or(&none);
    let own_path = options.upstream_path.clone();
    if let Some(text) = &options.upstream_url {
        let url = Url::parse(text).map_err(|error| format!("upstream_url: {error}"))?;
        let host = url.host_str().ok_or("upstream_url: no host")?.trim_matches(['[', ']']).to_owned();
        let https = url.scheme() == "https";
        let port = url.port_or_known_default().unwrap_or(if https { 443 } else { 80 });
        let path = own_path.or_else(|| (route_type != PRESERVE).then(|| url.path().to_owned()));
        return Ok(Endpoint { https, host, port, path, query: url.query().map(str::to_owned) });
    }
    let host = host(model, options)?;
    let path = match own_path {
        Some(path) => Some(path),
        None if route_type == PRESERVE => None,
        None => Some(path(model, options, name, route_type, stream)),
    };
    Ok(Endpoint { https: true, host, port: 443, path, query: None })
}

fn host(model: &Model, options: &Options) -> Result<String, String> {
    Ok(match model.provider.as_str() {
        "openai" => "api.openai.com".to_owned(),
        "anthropic" => "api.anthropic.com".to_owned(),
        "cohere" => "api.cohere.com".to_owned(),
        "mistral" => "api.mistral.ai".to_owned(),
        "huggingface" => "api-inference.huggingface.co".to_owned(),
        "azure" => format!("{}.openai.azure.com", options.azure_instance.as_deref().unwrap_or_default()),
        "gemini" => vertex(options).map_or_else(|| "generativelanguage.googleapis.com".to_owned(), |(host, ..)| host.to_owned()),
        "bedrock" => format!("bedrock-runtime.{}.amazonaws.com", region(options)),
        other => return Err(format!("{other}: upstream_url is needed")),
    })
}

fn path(model: &Model, options: &Options, name: &str, route_type: &str, stream: bool) -> String {
    let by_type = |chat: &str, completions: &str| if route_type == COMPLETIONS { completions.to_owned() } else { chat.to_owned() };
    match model.provider.as_str() {
        "anthropic" => by_type("/v1/messages", "/v1/complete"),
        "cohere" => by_type("/v1/chat", "/v1/generate"),
        "azure" => {
            let deployment = options.azure_deployment_id.as_deref().unwrap_or_default();
            format!("/openai/deployments/{deployment}{}", by_type("/chat/completions", "/completions"))
        }
        "huggingface" => by_type(&format!("/models/{name}/v1/chat/completions"), &format!("/models/{name}")),
        "gemini" => {
            let verb = if stream { "streamGenerateContent" } else { "generateContent" };
            match vertex(options) {
                Some((_, project, location)) => {
                    format!("/v1/projects/{project}/locations/{location}/publishers/google/models/{name}:{verb}")
                }
                None => format!("/v1beta/models/{name}:{verb}"),
            }
        }
        "bedrock" => format!("/model/{name}/{}", if stream { "converse-stream" } else { "converse" }),
        _ => by_type("/v1/chat/completions", "/v1/completions"),
    }
}

fn vertex(options: &Options) -> Option<(&str, &str, &str)> {
    let gemini = options.gemini.as_ref()?;
    Some((gemini.api_endpoint.as_deref()?, gemini.project_id.as_deref()?, gemini.location_id.as_deref()?))
}

pub fn region(options: &Options) -> String {
    let configured = options.bedrock.as_ref().and_then(|bedrock| bedrock.aws_region.clone());
    configured
        .or_else(|| std::env::var("AWS_REGION").ok())
        .or_else(|| std::env::var("AWS_DEFAULT_REGION").ok())
        .unwrap_or_else(|| DEFAULT_REGION.to_owned())
}

/// Query arguments a provider wants beside: name and value.
pub fn arguments(model: &Model, stream: bool) -> Vec<(&'static str, String)> {
    match model.provider.as_str() {
        "azure" => {
            let version = model.options.as_ref().and_then(|options| options.azure_api_version.clone());
            vec![("api-version", version.unwrap_or_else(|| "2023-05-15".to_owned()))]
        }
        "gemini" if stream => vec![("alt", "sse".to_owned())],
        _ => Vec::new(),
    }
}

/// Headers a provider wants beside.
pub fn headers(model: &Model) -> Vec<(&'static str, String)> {
    let version = || model.options.as_ref().and_then(|options| options.anthropic_version.clone());
    match model.provider.as_str() {
        "anthropic" => version().map(|version| vec![("anthropic-version", version)]).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Signs a request to Bedrock. Errors with what is missing.
pub fn sign(model: &Model, auth: Option<&Auth>, uri: &Uri, content_type: &str, body: &[u8], now: u64) -> Result<HeaderMap, String> {
    let none = Options::default();
    let options = model.options.as_ref().unwrap_or(&none);
    let region = region(options);
    let configured = auth.and_then(|auth| Some((auth.aws_access_key_id.clone()?, auth.aws_secret_access_key.clone()?)));
    let of_environment = || Some((std::env::var("AWS_ACCESS_KEY_ID").ok()?, std::env::var("AWS_SECRET_ACCESS_KEY").ok()?));
    let (token, (key, secret)) = match configured {
        Some(pair) => (None, pair),
        None => {
            let pair = of_environment().ok_or("no AWS credentials are configured, nor in the environment")?;
            (std::env::var("AWS_SESSION_TOKEN").ok(), pair)
        }
    };
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_str(content_type).map_err(|error| error.to_string())?);
    let scope = sigv4::Scope { region: &region, service: "bedrock", now };
    sigv4::sign("POST", uri, &mut headers, body, &Credentials { key, secret, token }, scope)?;
    headers.remove(HeaderName::from_static("content-type"));
    Ok(headers)
}
