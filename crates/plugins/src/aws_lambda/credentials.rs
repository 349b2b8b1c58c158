//! Where AWS credentials come from: the configuration, the environment, the container, the cluster, the machine; and a role taken
//! on with them, where one is configured.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::Value;

use crate::client::{Client, Outgoing};
use crate::sigv4::{self, Credentials};

/// Credentials are got anew this long before they end.
const MARGIN_SECS: u64 = 300;
/// Credentials that name no end are got anew after this long.
const UNTOLD_SECS: u64 = 900;
/// The machine's and the container's services are near: who does not answer at once is not there.
const NEARBY: Duration = Duration::from_secs(2);
const STS: Duration = Duration::from_secs(30);
const CONTAINER: &str = "http://169.254.170.2";
const MACHINE: &str = "http://169.254.169.254";

/// What decides which credentials there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    pub own: Option<(String, String)>,
    pub assume_role: Option<String>,
    pub session_name: String,
    pub sts_endpoint: Option<String>,
    pub region: Option<String>,
    /// The machine's metadata service is asked in its second version.
    pub metadata_v2: bool,
}

/// The sources of this process, by their settings; outlives configurations so that what was got stays.
#[derive(Default)]
pub struct Chains {
    chains: Mutex<HashMap<Settings, Arc<Chain>>>,
}

/// One source, with what it gave last.
pub struct Chain {
    settings: Settings,
    client: Client,
    last: tokio::sync::Mutex<Option<Lasting>>,
}

#[derive(Clone)]
struct Lasting {
    credentials: Credentials,
    /// Seconds since the epoch from which on others are got.
    until: u64,
}

impl Chains {
    pub fn of(&self, settings: Settings, client: Client) -> Arc<Chain> {
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        chains.retain(|_, chain| Arc::strong_count(chain) > 1);
        let chain = || Arc::new(Chain { settings: settings.clone(), client, last: Default::default() });
        chains.entry(settings.clone()).or_insert_with(chain).clone()
    }
}

impl Chain {
    /// The credentials to use now. Errors with one line when there are none.
    pub async fn get(&self, now: u64) -> Result<Credentials, String> {
        let mut last = self.last.lock().await;
        if let Some(lasting) = last.as_ref().filter(|lasting| now < lasting.until) {
            return Ok(lasting.credentials.clone());
        }
        let mut fresh = self.first(now).await?;
        if let Some(role) = &self.settings.assume_role {
            fresh = self.assume(role, &fresh.credentials, now).await?;
        }
        *last = Some(fresh.clone());
        Ok(fresh.credentials)
    }

    async fn first(&self, now: u64) -> Result<Lasting, String> {
        let forever = |key: &str, secret: &str, token: Option<String>| Lasting {
            credentials: Credentials { key: key.to_owned(), secret: secret.to_owned(), token },
            until: u64::MAX,
        };
        if let Some((key, secret)) = &self.settings.own {
            return Ok(forever(key, secret, None));
        }
        if let Some((key, secret)) = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY")) {
            return Ok(forever(&key, &secret, variable("AWS_SESSION_TOKEN")));
        }
        if let Some(path) = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            return told(&self.fetch(Method::GET, &format!("{CONTAINER}{path}"), &[]).await?, now);
        }
        if let Some(address) = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
            let token = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
            let headers: Vec<(&'static str, &str)> = token.iter().map(|token| ("authorization", token.as_str())).collect();
            return told(&self.fetch(Method::GET, &address, &headers).await?, now);
        }
        if let Some((role, file)) = variable("AWS_ROLE_ARN").zip(variable("AWS_WEB_IDENTITY_TOKEN_FILE")) {
            return self.by_web_identity(&role, &file, now).await;
        }
        self.of_machine(now).await.map_err(|error| format!("no AWS credentials: {error}"))
    }

    async fn of_machine(&self, now: u64) -> Result<Lasting, String> {
        let mut token = String::new();
        if self.settings.metadata_v2 {
            let wanted = [("x-aws-ec2-metadata-token-ttl-seconds", "60")];
            token = text(&self.fetch(Method::PUT, &format!("{MACHINE}/latest/api/token"), &wanted).await?);
        }
        let headers: &[(&'static str, &str)] = if token.is_empty() { &[] } else { &[("x-aws-ec2-metadata-token", &token)] };
        let place = format!("{MACHINE}/latest/meta-data/iam/security-credentials/");
        let role = text(&self.fetch(Method::GET, &place, headers).await?);
        let role = role.lines().next().unwrap_or_default();
        told(&self.fetch(Method::GET, &format!("{place}{role}"), headers).await?, now)
    }

    async fn fetch(&self, method: Method, address: &str, headers: &[(&'static str, &str)]) -> Result<Bytes, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(|error| error.to_string())?);
        }
        let uri: Uri = address.parse().map_err(|error| format!("{address}: {error}"))?;
        let outgoing = Outgoing { method, uri, headers: map, body: Bytes::new(), timeout: NEARBY, proxy: None };
        let answer = self.client.send(outgoing).await.map_err(|error| format!("{address}: {error}"))?;
        if answer.status != 200 {
            return Err(format!("{address}: status {}", answer.status));
        }
        Ok(answer.body)
    }

    async fn by_web_identity(&self, role: &str, file: &str, now: u64) -> Result<Lasting, String> {
        let token = tokio::fs::read_to_string(file).await.map_err(|error| format!("{file}: {error}"))?;
        let session = variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| self.settings.session_name.clone());
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", &session),
            ("WebIdentityToken", token.trim()),
        ];
        self.ask_sts(&form, None, now).await
    }

    async fn assume(&self, role: &str, with: &Credentials, now: u64) -> Result<Lasting, String> {
        let form = [
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", self.settings.session_name.as_str()),
        ];
        self.ask_sts(&form, Some(with), now).await
    }

    async fn ask_sts(&self, form: &[(&str, &str)], with: Option<&Credentials>, now: u64) -> Result<Lasting, String> {
        let region = self.settings.region.as_deref().unwrap_or("us-east-1");
        let address = self.settings.sts_endpoint.clone().unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com"));
        let uri: Uri = address.parse().map_err(|error| format!("{address}: {error}"))?;
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"));
        if let Some(with) = with {
            sigv4::sign("POST", &uri, &mut headers, body.as_bytes(), with, sigv4::Scope { region, service: "sts", now })?;
        }
        let outgoing = Outgoing { method: Method::POST, uri, headers, body: body.into(), timeout: STS, proxy: None };
        let answer = self.client.send(outgoing).await.map_err(|error| format!("{address}: {error}"))?;
        let xml = text(&answer.body);
        let between = |tag: &str| {
            let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
            Some(rest.split_once(&format!("</{tag}>"))?.0.trim().to_owned())
        };
        let missing = || format!("{address}: status {}, no credentials in the answer", answer.status);
        let (key, secret) = between("AccessKeyId").zip(between("SecretAccessKey")).ok_or_else(missing)?;
        let until = now + UNTOLD_SECS;
        Ok(Lasting { credentials: Credentials { key, secret, token: between("SessionToken") }, until: until - MARGIN_SECS })
    }
}

/// The credentials that a nearby service tells as JSON.
fn told(body: &[u8], now: u64) -> Result<Lasting, String> {
    let fields: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let (key, secret) = text("AccessKeyId").zip(text("SecretAccessKey")).ok_or("no credentials in the answer")?;
    let until = now + UNTOLD_SECS - MARGIN_SECS;
    Ok(Lasting { credentials: Credentials { key, secret, token: text("Token") }, until })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
