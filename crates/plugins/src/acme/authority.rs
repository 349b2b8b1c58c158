//! The authority: RFC 8555, as far as an order with HTTP-01 takes it. Runs on the control runtime.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, header};
use portcullis_plugin::{Error, Result};
use serde_json::{Value, json};

use crate::http_client::{self, HttpClient};

/// Longer answers than this are not read, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long idle connections are kept.
const KEEPALIVE: Duration = Duration::from_secs(90);
/// How often the authority is asked whether it is done, and how long between.
const POLLS: u32 = 60;
const BETWEEN_POLLS: Duration = Duration::from_secs(1);

/// The key that an account is known by.
pub struct AccountKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl AccountKey {
    pub fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let pkcs8 = pair.to_pkcs8v1()?.as_ref().to_vec();
        Ok(Self { pair, pkcs8 })
    }

    /// None if it is no PKCS#8 PEM of a P-256 key.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let pkcs8 = STANDARD.decode(body).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).ok()?;
        Some(Self { pair, pkcs8 })
    }

    pub fn to_pem(&self) -> String {
        let text = STANDARD.encode(&self.pkcs8);
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }

    /// The public key (RFC 7517), its members in the order a thumbprint wants them.
    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let coordinate = |at: usize| URL_SAFE_NO_PAD.encode(point.get(at..at + 32).unwrap_or_default());
        json!({ "crv": "P-256", "kty": "EC", "x": coordinate(1), "y": coordinate(33) })
    }

    /// What proves, beside a token, that it was asked for with this key (RFC 8555, 8.1).
    pub fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let text = |name: &str| jwk[name].as_str().unwrap_or_default().to_owned();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, text("x"), text("y"));
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        Ok(self.pair.sign(&rand::SystemRandom::new(), text)?.as_ref().to_vec())
    }
}

/// Who orders.
pub struct Account {
    pub email: String,
    pub key: AccountKey,
    /// Binds it to an account outside of ACME: the id of a key, and the key in base64 for URLs.
    pub external: Option<(String, String)>,
}

/// What the directory names.
struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
}

struct Reply {
    status: u16,
    location: Option<String>,
    nonce: Option<String>,
    body: Bytes,
}

impl Reply {
    fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// What the authority complains of (RFC 7807).
    fn problem(&self) -> String {
        let body = self.json().unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("status {}: {} {}", self.status, text("type"), text("detail")).trim_end().to_owned()
    }
}

pub struct Authority {
    http: HttpClient,
    directory: String,
}

/// Where answers to challenges are put for the authority to see. Futures are boxed, so that one type serves all stores.
pub type Publish<'a> = &'a (dyn Fn(String, String) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> + Send + Sync);

impl Authority {
    /// `roots` are the CA certificates (PEM) that its API is trusted by.
    pub fn new(directory: String, roots: std::sync::Arc<str>) -> Self {
        Self { http: http_client::pooled(http_client::tls(true, &[roots]), None, KEEPALIVE), directory }
    }

    /// A certificate chain in PEM for a name, after proof that the name leads here. `csr` is the request for it in DER.
    pub async fn order(&self, account: &Account, name: &str, csr: &[u8], publish: Publish<'_>) -> Result<String> {
        let directory = self.get(&self.directory).await?.json()?;
        let entry = |name: &str| directory.get(name).and_then(Value::as_str).map(str::to_owned);
        let entry = |name: &str| entry(name).ok_or_else(|| Error::from(format!("the authority's directory has no {name}")));
        let directory = Directory { new_nonce: entry("newNonce")?, new_account: entry("newAccount")?, new_order: entry("newOrder")? };
        let mut session = Session { authority: self, account, directory, kid: None, nonce: None };
        session.log_in().await?;

        let new_order = session.directory.new_order.clone();
        let order = session.post(&new_order, Some(json!({ "identifiers": [{ "type": "dns", "value": name }] }))).await?;
        let order_url = order.location.clone().ok_or("the authority names no place for the order")?;
        let order = order.json()?;
        for url in order.get("authorizations").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            session.authorize(url, publish).await?;
        }
        let finalize = order.get("finalize").and_then(Value::as_str).ok_or("the order cannot be finalized")?;
        session.post(finalize, Some(json!({ "csr": URL_SAFE_NO_PAD.encode(csr) }))).await?;
        let order = session.poll(&order_url, "order", &["valid"]).await?;
        let certificate = order.get("certificate").and_then(Value::as_str).ok_or("the order has no certificate")?;
        let chain = session.post(certificate, None).await?;
        Ok(String::from_utf8(chain.body.to_vec())?)
    }

    /// A plain GET, as anybody could make it.
    pub async fn fetch(&self, url: &str) -> Result<(u16, Bytes)> {
        let reply = self.get(url).await?;
        Ok((reply.status, reply.body))
    }

    async fn get(&self, url: &str) -> Result<Reply> {
        self.send(Request::builder().method(Method::GET).uri(url), Bytes::new()).await
    }

    async fn send(&self, request: hyper::http::request::Builder, body: Bytes) -> Result<Reply> {
        let request = request.header(header::USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION"))).body(Full::new(body))?;
        let exchange = async {
            let response = self.http.request(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok::<_, Error>((head, body))
        };
        let (head, body) = tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "the authority does not answer")??;
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Reply { status: head.status.as_u16(), location: text("location"), nonce: text("replay-nonce"), body })
    }
}

/// Requests of one account, each signed and with a nonce of its own.
struct Session<'a> {
    authority: &'a Authority,
    account: &'a Account,
    directory: Directory,
    /// How the authority knows the account.
    kid: Option<String>,
    nonce: Option<String>,
}

impl Session<'_> {
    async fn log_in(&mut self) -> Result<()> {
        let mut fields = json!({ "termsOfServiceAgreed": true, "contact": [format!("mailto:{}", self.account.email)] });
        let url = self.directory.new_account.clone();
        if let Some((id, key)) = &self.account.external {
            let key = crate::secret::base64_url(key.as_bytes()).ok_or("eab_hmac_key is not base64 for URLs")?;
            let protected = encoded(&json!({ "alg": "HS256", "kid": id, "url": url }));
            let payload = encoded(&self.account.key.jwk());
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{protected}.{payload}").as_bytes());
            let signature = URL_SAFE_NO_PAD.encode(tag);
            fields["externalAccountBinding"] = json!({ "protected": protected, "payload": payload, "signature": signature });
        }
        let reply = self.post(&url, Some(fields)).await?;
        self.kid = Some(reply.location.ok_or("the authority names no account")?);
        Ok(())
    }

    async fn authorize(&mut self, url: &str, publish: Publish<'_>) -> Result<()> {
        let authorization = self.post(url, None).await?.json()?;
        if authorization.get("status").and_then(Value::as_str) == Some("valid") {
            return Ok(());
        }
        let challenges = authorization.get("challenges").and_then(Value::as_array).into_iter().flatten();
        let challenge = challenges.into_iter().find(|challenge| challenge.get("type").and_then(Value::as_str) == Some("http-01"));
        let challenge = challenge.ok_or("the authority does not offer http-01")?;
        let field = |name: &str| challenge.get(name).and_then(Value::as_str).map(str::to_owned).ok_or("the challenge is incomplete");
        let (token, challenge_url) = (field("token")?, field("url")?);
        let answer = format!("{token}.{}", self.account.key.thumbprint());
        publish(token, answer).await?;
        self.post(&challenge_url, Some(json!({}))).await?;
        self.poll(url, "authorization", &["valid"]).await?;
        Ok(())
    }

    /// Asks for a thing until its status is one of these.
    async fn poll(&mut self, url: &str, what: &str, wanted: &[&str]) -> Result<Value> {
        for _ in 0..POLLS {
            let thing = self.post(url, None).await?.json()?;
            let status = thing.get("status").and_then(Value::as_str).unwrap_or_default();
            if wanted.contains(&status) {
                return Ok(thing);
            }
            if matches!(status, "invalid" | "deactivated" | "expired" | "revoked") {
                let challenges = thing.get("challenges").and_then(Value::as_array).into_iter().flatten();
                let mut complaints = challenges.filter_map(|challenge| challenge.get("error")?.get("detail")?.as_str());
                let detail = thing.get("error").and_then(|error| error.get("detail")?.as_str()).or_else(|| complaints.next());
                return Err(format!("the {what} is {status}: {}", detail.unwrap_or("no reason is given")).into());
            }
            tokio::time::sleep(BETWEEN_POLLS).await;
        }
        Err(format!("the {what} is not done in time").into())
    }

    /// A signed request; without a payload one that only reads.
    async fn post(&mut self, url: &str, payload: Option<Value>) -> Result<Reply> {
        let payload = payload.map_or_else(String::new, |payload| encoded(&payload));
        // A nonce may have run out meanwhile: the answer brings another.
        for attempt in 0..3 {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.fresh_nonce().await?,
            };
            let mut protected = json!({ "alg": "ES256", "nonce": nonce, "url": url });
            match &self.kid {
                Some(kid) => protected["kid"] = kid.as_str().into(),
                None => protected["jwk"] = self.account.key.jwk(),
            }
            let protected = encoded(&protected);
            let signature = URL_SAFE_NO_PAD.encode(self.account.key.sign(format!("{protected}.{payload}").as_bytes())?);
            let body = json!({ "protected": protected, "payload": payload, "signature": signature });
            let request = Request::builder().method(Method::POST).uri(url).header(header::CONTENT_TYPE, "application/jose+json");
            let mut reply = self.authority.send(request, serde_json::to_vec(&body)?.into()).await?;
            self.nonce = reply.nonce.take();
            if reply.status < 400 {
                return Ok(reply);
            }
            let problem = reply.problem();
            if attempt == 2 || !problem.contains("badNonce") {
                return Err(format!("{url}: {problem}").into());
            }
        }
        Err("the authority takes no nonce".into())
    }

    async fn fresh_nonce(&self) -> Result<String> {
        let reply = self.authority.send(Request::builder().method(Method::HEAD).uri(&self.directory.new_nonce), Bytes::new()).await?;
        reply.nonce.ok_or_else(|| "the authority gives no nonce".into())
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    #[test]
    fn an_account_key_survives_being_kept() {
        let key = AccountKey::generate().unwrap();
        let again = AccountKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.thumbprint(), again.thumbprint());
        let signature = again.sign(b"text").unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref()).verify(b"text", &signature).unwrap();
        assert!(AccountKey::from_pem("-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----").is_none());
    }
}
