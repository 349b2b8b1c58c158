//! Certificates kept in Consul's or in Vault's key-value store, where and how Kong keeps them: either finds what the other left.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use portcullis_plugin::{Env, Error, Result};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::config::{Consul, Vault};
use crate::client::{Client, Clients, Connections, Incoming, Outgoing};

/// Where Kubernetes puts the token of the account a pod runs under.
const ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A server that keeps things under names.
#[derive(Clone)]
pub struct Remote {
    client: Client,
    runtime: Handle,
    /// `https://host:port`
    base: String,
    timeout: Duration,
    /// The name to ask for in the handshake, where it is not the host's.
    server_name: Option<String>,
    login: Login,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// The path of the keys: `/v1/kv/acme/`.
    Consul(String),
    /// The paths of values and of what is said of them.
    Vault { data: String, metadata: String },
}

#[derive(Clone)]
enum Login {
    Token(Option<String>),
    Kubernetes { path: String, role: Option<String>, file: String },
}

impl Remote {
    pub fn consul(config: &Consul, env: &Env) -> Self {
        let path = format!("/v1/kv{}/", rooted(config.kv_path.as_deref()));
        let kind = Kind::Consul(path);
        let login = Login::Token(config.token.clone());
        let base = base(config.https, config.host.as_deref(), config.port.unwrap_or(8500));
        Self::at(base, config.timeout, true, login, kind, env)
    }

    pub fn vault(config: &Vault, env: &Env) -> Self {
        let path = rooted(config.kv_path.as_deref());
        let cut = path[1..].find('/').map_or(path.len(), |at| at + 1);
        let (mount, rest) = path.split_at(cut);
        let kind = Kind::Vault { data: format!("/v1{mount}/data{rest}/"), metadata: format!("/v1{mount}/metadata{rest}/") };
        let login = match config.auth_method.as_deref() {
            Some("kubernetes") => Login::Kubernetes {
                path: config.auth_path.clone().unwrap_or_else(|| "kubernetes".to_owned()),
                role: config.auth_role.clone(),
                file: config.jwt_path.clone().unwrap_or_else(|| ACCOUNT_TOKEN.to_owned()),
            },
            _ => Login::Token(config.token.clone()),
        };
        let base = base(config.https, config.host.as_deref(), config.port.unwrap_or(8200));
        let server_name = config.tls_server_name.clone().filter(|_| config.https == Some(true));
        Self { server_name, ..Self::at(base, config.timeout, config.tls_verify != Some(false), login, kind, env) }
    }

    fn at(base: String, timeout: Option<f64>, verify: bool, login: Login, kind: Kind, env: &Env) -> Self {
        let client = env.state.get::<Clients>().with(Connections { verify, keepalive: Duration::from_secs(60) }, env);
        let timeout = Duration::try_from_secs_f64(timeout.unwrap_or(2000.0) / 1000.0).unwrap_or(Duration::from_secs(2));
        Self { client, runtime: env.runtime.clone(), base, timeout, server_name: None, login, kind }
    }

    pub async fn get(&self, key: &str) -> Result<Option<String>> {
        Ok(self.find(key).await?.value)
    }

    /// Keeps a value, in the place of an older one.
    pub async fn set(&self, key: &str, value: &str, ttl: Option<u64>) -> Result<()> {
        if self.put(key, value, ttl, None).await? { Ok(()) } else { Err(Error::from(format!("{key} was not kept"))) }
    }

    /// Keeps a value unless there is one. Answers whether it was kept.
    pub async fn add(&self, key: &str, value: &str, ttl: u64) -> Result<bool> {
        let found = self.find(key).await?;
        if found.value.is_some() {
            return Ok(false);
        }
        self.put(key, value, Some(ttl), Some(found.version)).await
    }

    pub async fn delete(&self, key: &str) -> Result<()> {
        let path = match &self.kind {
            Kind::Consul(path) => path,
            Kind::Vault { metadata, .. } => metadata,
        };
        self.ask(Method::DELETE, &format!("{path}{}", spelled(key)), None).await.map(drop)
    }

    /// The names of everything there is.
    pub async fn names(&self) -> Result<Vec<String>> {
        let (listed, at) = match &self.kind {
            Kind::Consul(path) => (self.ask(Method::GET, &format!("{path}?keys"), None).await?, ""),
            Kind::Vault { metadata, .. } => {
                let list = Method::from_bytes(b"LIST").map_err(|error| Error::from(error.to_string()))?;
                (self.ask(list, metadata, None).await?, "/data/keys")
            }
        };
        let names = listed.as_ref().and_then(|listed| listed.pointer(at)).and_then(Value::as_array);
        Ok(names.into_iter().flatten().filter_map(|name| Some(name.as_str()?.rsplit('/').next()?.to_owned())).collect())
    }

    async fn find(&self, key: &str) -> Result<Found> {
        match &self.kind {
            Kind::Consul(path) => {
                let answer = self.ask(Method::GET, &format!("{path}{}", spelled(key)), None).await?;
                let Some(row) = answer.as_ref().and_then(|rows| rows.get(0)) else { return Ok(Found::default()) };
                let version = row["ModifyIndex"].as_u64().unwrap_or(0);
                // Consul forgets nothing by itself: the end of a value stands in its flags, in milliseconds.
                let ends = row["Flags"].as_u64().unwrap_or(0);
                let live = ends == 0 || ends > now_ms();
                let value = row["Value"].as_str().filter(|_| live).and_then(|text| STANDARD.decode(text).ok());
                Ok(Found { value: value.and_then(|bytes| String::from_utf8(bytes).ok()), version })
            }
            Kind::Vault { data, .. } => {
                let answer = self.ask(Method::GET, &format!("{data}{}", spelled(key)), None).await?.unwrap_or_default();
                let value = answer.pointer("/data/data/value").and_then(Value::as_str).map(str::to_owned);
                Ok(Found { value, version: answer.pointer("/data/metadata/version").and_then(Value::as_u64).unwrap_or(0) })
            }
        }
    }

    /// Answers false where the value has another version than the one given.
    async fn put(&self, key: &str, value: &str, ttl: Option<u64>, version: Option<u64>) -> Result<bool> {
        match &self.kind {
            Kind::Consul(path) => {
                let ends = ttl.map(|ttl| format!("flags={}", now_ms().saturating_add(ttl.saturating_mul(1000))));
                let parameters: Vec<String> = ends.into_iter().chain(version.map(|version| format!("cas={version}"))).collect();
                let path = format!("{path}{}?{}", spelled(key), parameters.join("&"));
                let answer = self.ask(Method::PUT, &path, Some(value.to_owned())).await?;
                Ok(answer == Some(Value::Bool(true)))
            }
            Kind::Vault { data, metadata } => {
                if let Some(ttl) = ttl {
                    let lives = json!({ "delete_version_after": format!("{}ms", ttl.max(1).saturating_mul(1000)) });
                    self.ask(Method::POST, &format!("{metadata}{}", spelled(key)), Some(lives.to_string())).await?;
                }
                let mut body = json!({ "data": { "value": value } });
                if let Some(version) = version {
                    body["options"] = json!({ "cas": version });
                }
                match self.ask(Method::POST, &format!("{data}{}", spelled(key)), Some(body.to_string())).await {
                    Ok(_) => Ok(true),
                    Err(error) if version.is_some() && error.to_string().contains("check-and-set") => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// What the server says; none where there is nothing.
    async fn ask(&self, method: Method, path: &str, body: Option<String>) -> Result<Option<Value>> {
        let (name, token) = match (&self.kind, &self.login) {
            (Kind::Consul(_), Login::Token(token)) => ("x-consul-token", token.clone()),
            (_, Login::Token(token)) => ("x-vault-token", token.clone()),
            (_, Login::Kubernetes { path, role, file }) => ("x-vault-token", Some(self.log_in(path, role.as_deref(), file).await?)),
        };
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&token)?);
        }
        let answer = self.send(method, path, headers, body).await?;
        match answer.status {
            404 | 204 => Ok(None),
            // Whether an answer is JSON or a line of text is the server's choice.
            200..300 => Ok(serde_json::from_slice(&answer.body).ok()),
            status => Err(format!("{}: status {status}: {}", self.base, String::from_utf8_lossy(&answer.body).trim()).into()),
        }
    }

    async fn log_in(&self, path: &str, role: Option<&str>, file: &str) -> Result<String> {
        let file = file.to_owned();
        let reading = self.runtime.spawn_blocking(move || std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}")));
        let jwt = reading.await.map_err(|error| Error::from(error.to_string()))??;
        let body = json!({ "role": role, "jwt": jwt.trim() }).to_string();
        let answer = self.send(Method::POST, &format!("/v1/auth/{path}/login"), HeaderMap::new(), Some(body)).await?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let token = answer.pointer("/auth/client_token").and_then(Value::as_str);
        token.map(str::to_owned).ok_or_else(|| format!("{}: logging in with the account of Kubernetes failed", self.base).into())
    }

    async fn send(&self, method: Method, path: &str, headers: HeaderMap, body: Option<String>) -> Result<Incoming> {
        let uri: Uri = format!("{}{path}", self.base).parse()?;
        let outgoing = Outgoing { method, uri, headers, body: Bytes::from(body.unwrap_or_default()), timeout: self.timeout, proxy: None };
        let sent = match &self.server_name {
            Some(name) => self.client.send_to(outgoing, name.clone()).await,
            None => self.client.send(outgoing).await,
        };
        sent.map_err(|error| format!("{}: {error}", self.base).into())
    }
}

/// What there is under a name.
#[derive(Default)]
struct Found {
    value: Option<String>,
    /// Of the value or of what was there before it; 0 if nothing ever was.
    version: u64,
}

fn base(https: Option<bool>, host: Option<&str>, port: u16) -> String {
    let scheme = if https == Some(true) { "https" } else { "http" };
    format!("{scheme}://{}:{port}", host.unwrap_or("127.0.0.1"))
}

/// A path from the root, without an end.
fn rooted(path: Option<&str>) -> String {
    let path = path.unwrap_or("acme").trim_matches('/');
    format!("/{}", if path.is_empty() { "acme" } else { path })
}

/// A key as these stores take it.
fn spelled(key: &str) -> String {
    key.replace('/', "-")
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
