//! A model asked by the gateway itself, as the transformers do.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use portcullis_plugin::Env;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::provider::{self, merge_options};
use super::{CHAT, Llm, endpoint};
use crate::client::{Client, Clients, Connections, Outgoing};

/// How long an idle connection to a model is kept.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A model with what it is told to do.
pub struct Assistant {
    llm: Llm,
    prompt: String,
    pattern: Option<Regex>,
    client: Client,
    timeout: Duration,
    http_proxy: Option<(String, u16)>,
    https_proxy: Option<(String, u16)>,
}

/// The settings of a transformer that concern its model.
pub struct Settings {
    pub llm: Llm,
    pub prompt: String,
    pub pattern: Option<String>,
    pub timeout_ms: i64,
    pub verify: bool,
    pub http_proxy: Option<(String, u16)>,
    pub https_proxy: Option<(String, u16)>,
}

impl Assistant {
    /// Errors when the pattern is no regular expression.
    pub fn new(settings: Settings, env: &Env) -> Result<Self, String> {
        let pattern = settings.pattern.map(|pattern| Regex::new(&pattern).map_err(|error| error.to_string())).transpose()?;
        let connections = Connections { verify: settings.verify, keepalive: KEEPALIVE };
        Ok(Self {
            llm: settings.llm,
            prompt: settings.prompt,
            pattern,
            client: env.state.get::<Clients>().with(connections, env),
            timeout: Duration::from_millis(u64::try_from(settings.timeout_ms).unwrap_or(0).max(1)),
            http_proxy: settings.http_proxy,
            https_proxy: settings.https_proxy,
        })
    }

    /// What the model makes of a text. `what` it is goes into messages: `request` or `response`. Errors with what the client
    /// is told.
    pub async fn rewrite(&self, text: &str, what: &str, now: u64) -> Result<String, String> {
        let answer = self.ask(text, now).await.map_err(|error| format!("failed to introspect {what} with AI service: {error}"))?;
        let asked = self.llm.model.name.clone().unwrap_or_default();
        let converted = provider::from_provider(&self.llm.model, CHAT, &asked, &answer).map_err(|error| {
            let provider = &self.llm.model.provider;
            format!("failed to convert AI response to Kong format: transformation failed from type {provider}://{CHAT}: {error}")
        })?;
        let converted = converted.or_else(|| serde_json::from_slice(&answer).ok()).unwrap_or_default();
        let said = converted.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default();
        match &self.pattern {
            None => Ok(said.to_owned()),
            Some(pattern) => match pattern.find(said) {
                Some(found) => Ok(found.as_str().to_owned()),
                None => Err("AI response did not match specified regular expression".to_owned()),
            },
        }
    }

    async fn ask(&self, text: &str, now: u64) -> Result<Bytes, String> {
        let (model, auth) = (&self.llm.model, self.llm.auth.as_ref());
        let name = model.name.clone().unwrap_or_default();
        let mut fields = Map::new();
        fields.insert("messages".to_owned(), json!([{ "role": "system", "content": self.prompt }, { "role": "user", "content": text }]));
        fields.insert("model".to_owned(), name.clone().into());
        fields.insert("stream".to_owned(), false.into());
        merge_options(&mut fields, model.options.as_ref());
        let mut body = provider::to_provider(model, CHAT, &fields)?;
        let place = endpoint::endpoint(model, &name, CHAT, false)?;
        let mut query = place.query.unwrap_or_default();
        let mut arguments = endpoint::arguments(model, false);
        let param = auth.and_then(|auth| Some((auth.param_name.as_deref()?, auth.param_value.clone()?, auth.param_location.as_deref()?)));
        match param {
            Some((name, value, "body")) => body[name] = value.into(),
            Some((name, value, _)) => arguments.push((name, value)),
            None => {}
        }
        for (name, value) in arguments {
            let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair(name, &value).finish();
            query = if query.is_empty() { pair } else { format!("{query}&{pair}") };
        }
        let scheme = if place.https { "https" } else { "http" };
        let host = if place.host.contains(':') { format!("[{}]", place.host) } else { place.host };
        let mut uri = format!("{scheme}://{host}:{}{}", place.port, place.path.as_deref().unwrap_or("/"));
        if !query.is_empty() {
            uri = format!("{uri}?{query}");
        }
        let uri: Uri = uri.parse().map_err(|error| format!("upstream_url: {error}"))?;
        let body = Bytes::from(body.to_string());
        let json_type = "application/json";
        let mut headers =
            if model.provider == "bedrock" { endpoint::sign(model, auth, &uri, json_type, &body, now)? } else { http::HeaderMap::new() };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(json_type));
        let own = auth.and_then(|auth| Some((auth.header_name.clone()?, auth.header_value.clone()?)));
        let named = endpoint::headers(model).into_iter().map(|(name, value)| (name.to_owned(), value)).chain(own);
        for (name, value) in named {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            headers.insert(name, HeaderValue::try_from(value).map_err(|error| error.to_string())?);
        }
        let proxy = if place.https { self.https_proxy.clone() } else { self.http_proxy.clone() };
        let outgoing = Outgoing { method: Method::POST, uri, headers, body, timeout: self.timeout, proxy };
        let answer = self.client.send(outgoing).await?;
        if answer.status != 200 {
            return Err(format!("status code {}", answer.status));
        }
        Ok(answer.body)
    }
}
