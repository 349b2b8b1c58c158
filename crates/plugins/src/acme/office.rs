//! Orders certificates, keeps them, and renews them in time. Runs on the control runtime.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_plugin::{Env, Error, OwnCertificates, Result};
use portcullis_wire::tls::certified_key;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::authority::{Account, AccountKey, Authority};
use super::config::Config;
use super::kept::Kept;

const CERTIFICATE: &str = "kong_acme:cert_key:";
const RENEWAL: &str = "kong_acme:renew_config:";
const LOCK: &str = "kong_acme:update_lock:";

/// How long an order may take; a lock that nobody takes back ends after this.
const ORDER: Duration = Duration::from_secs(180);
/// How long answers to challenges stay.
const CHALLENGE_SECS: u64 = 3600;
/// How often certificates are looked after.
const ROUND: Duration = Duration::from_secs(3600);
/// How many names without a certificate are remembered.
const NAMES: usize = 1000;

/// See the module's description.
pub struct Office {
    domains: Vec<String>,
    allow_any_domain: bool,
    email: String,
    api: String,
    external: Option<(String, String)>,
    /// Bits; none for elliptic curves.
    rsa: Option<RsaKeySize>,
    renew_threshold: Duration,
    backoff: Duration,
    pub kept: Kept,
    pub authority: Authority,
    certificates: Arc<OwnCertificates>,
    runtime: Handle,
    /// Until when nothing is done about a name: an order runs, or one has failed.
    busy: Mutex<HashMap<String, Instant>>,
}

impl Office {
    /// Errors when certificates cannot be kept where the configuration says.
    pub fn open(config: Config, env: &Env) -> Result<Arc<Self>> {
        let kept = Kept::of(&config, env)?;
        let api = config.api_uri.clone().unwrap_or_default();
        let rsa = match (config.cert_type.as_deref(), config.rsa_key_size.map(|bits| bits as u32)) {
            (Some("ecc"), _) => None,
            (_, Some(2048)) => Some(RsaKeySize::_2048),
            (_, Some(3072)) => Some(RsaKeySize::_3072),
            _ => Some(RsaKeySize::_4096),
        };
        let office = Arc::new(Self {
            domains: config.domains.unwrap_or_default().iter().map(|name| name.to_ascii_lowercase()).collect(),
            allow_any_domain: config.allow_any_domain == Some(true),
            email: config.account_email,
            authority: Authority::new(api.clone(), env.node.trusted_certificates()),
            api,
            external: config.eab_kid.zip(config.eab_hmac_key),
            rsa,
            renew_threshold: span(config.renew_threshold_days.unwrap_or(14.0) * 86_400.0),
            backoff: span(config.fail_backoff_minutes.unwrap_or(5.0) * 60.0),
            kept,
            certificates: env.state.get(),
            runtime: env.runtime.clone(),
            busy: Mutex::default(),
        });
        office.runtime.spawn(rounds(Arc::downgrade(&office)));
        Ok(office)
    }

    /// Whether certificates are wanted for this name, in lower case.
    pub fn allows(&self, name: &str) -> bool {
        let below = |pattern: &String| pattern.strip_prefix('*').is_some_and(|suffix| name.len() > suffix.len() && name.ends_with(suffix));
        self.allow_any_domain || self.domains.iter().any(|pattern| pattern == name || below(pattern))
    }

    /// A client asked for a name without a certificate.
    pub fn want(self: &Arc<Self>, name: &str) {
        if !self.allows(name) || !is_host_name(name) || !self.occupy(name, ORDER) {
            return;
        }
        let (office, name) = (self.clone(), name.to_owned());
        self.runtime.spawn(async move {
            match office.obtain(&name).await {
                Ok(()) => office.release(&name),
                Err(error) => {
                    warn!(host = name, %error, "no certificate");
                    office.delay(&name, office.backoff);
                }
            }
        });
    }

    fn occupy(&self, name: &str, duration: Duration) -> bool {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        busy.retain(|_, until| now < *until);
        let free = busy.len() < NAMES && !busy.contains_key(name);
        if free {
            busy.insert(name.to_owned(), now + duration);
        }
        free
    }

    fn delay(&self, name: &str, duration: Duration) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Instant::now() + duration);
    }

    fn release(&self, name: &str) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Serves the certificate that is kept for a name, or a new one.
    async fn obtain(&self, name: &str) -> Result<()> {
        if self.load(name).await? {
            return Ok(());
        }
        self.order_alone(name).await
    }

    /// Orders unless another node does.
    async fn order_alone(&self, name: &str) -> Result<()> {
        let lock = format!("{LOCK}{name}");
        if !self.kept.add(&lock, "ordering", ORDER.as_secs()).await? {
            return Err("another order for this name runs".into());
        }
        let ordered = tokio::time::timeout(ORDER, self.order(name)).await.unwrap_or_else(|_| Err("the order takes too long".into()));
        if let Err(error) = self.kept.delete(&lock).await {
            warn!(host = name, %error, "the lock of an order stays until it ends by itself");
        }
        ordered
    }

    /// Orders a certificate, whether or not there is one, and serves it.
    pub async fn order(&self, name: &str) -> Result<()> {
        let account = self.account().await?;
        let (rsa, host) = (self.rsa, name.to_owned());
        // A long RSA key takes seconds to find.
        let made = tokio::task::spawn_blocking(move || request(&host, rsa)).await?;
        let (key, csr) = made?;
        let publish = |token: String, answer: String| {
            let kept = self.kept.clone();
            let publishing = async move { kept.set(&format!("{token}#http-01"), &answer, Some(CHALLENGE_SECS)).await };
            Box::pin(publishing) as std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>
        };
        let chain = self.authority.order(&account, name, &csr, &publish).await?;
        let pair = certified_key(&chain, &key)?;
        let value = json!({ "cert": chain, "key": key }).to_string();
        self.kept.set(&format!("{CERTIFICATE}{name}"), &value, None).await?;
        let renewal = json!({ "host": name, "expire_at": expiry(&chain) }).to_string();
        self.kept.set(&format!("{RENEWAL}{name}"), &renewal, None).await?;
        self.certificates.insert(name, pair);
        info!(host = name, "a certificate was issued");
        Ok(())
    }

    /// The account's key, made when there is none; all nodes use the same.
    async fn account(&self) -> Result<Account> {
        let name = format!("kong_acme:account:{}:{}", URL_SAFE_NO_PAD.encode(&self.api), URL_SAFE_NO_PAD.encode(&self.email));
        let read = |text: String| AccountKey::from_pem(serde_json::from_str::<Value>(&text).ok()?.get("key")?.as_str()?);
        let key = match self.kept.get(&name).await?.and_then(read) {
            Some(key) => key,
            None => {
                let key = AccountKey::generate()?;
                self.kept.set(&name, &json!({ "key": key.to_pem() }).to_string(), None).await?;
                key
            }
        };
        Ok(Account { email: self.email.clone(), key, external: self.external.clone() })
    }

    /// Chain and key that are kept for a name, in PEM.
    pub async fn pair(&self, name: &str) -> Result<Option<(String, String)>> {
        let Some(text) = self.kept.get(&format!("{CERTIFICATE}{name}")).await? else { return Ok(None) };
        let value: Value = serde_json::from_str(&text)?;
        let field = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        Ok(field("cert").zip(field("key")))
    }

    /// Serves what is kept for a name. Answers whether there was anything.
    async fn load(&self, name: &str) -> Result<bool> {
        let Some((chain, key)) = self.pair(name).await? else { return Ok(false) };
        self.certificates.insert(name, certified_key(&chain, &key)?);
        Ok(true)
    }

    /// The names that certificates are kept for.
    pub async fn names(&self) -> Result<Vec<String>> {
        self.kept.names(CERTIFICATE).await
    }

    /// Renews what ends soon and serves everything else as it is kept, which another node may have renewed.
    pub async fn renew(&self) {
        let names = match self.names().await {
            Ok(names) => names,
            Err(error) => return warn!(%error, "the certificates to renew are not known"),
        };
        for name in names.iter().filter(|name| self.allows(name)) {
            let done = async {
                let ends = self.pair(name).await?.map_or(0, |(chain, _)| expiry(&chain));
                if ends.saturating_sub(now()) >= self.renew_threshold.as_secs() {
                    return self.load(name).await.map(|_| ());
                }
                self.order_alone(name).await
            };
            let done: Result<()> = done.await;
            if let Err(error) = done {
                warn!(host = name, %error, "a certificate was not renewed");
            }
        }
    }
}

async fn rounds(office: Weak<Office>) {
    let mut tick = tokio::time::interval(ROUND);
    loop {
        tick.tick().await;
        let Some(office) = office.upgrade() else { return };
        office.renew().await;
    }
}

/// A new key in PEM and the request for a certificate in DER.
fn request(name: &str, rsa: Option<RsaKeySize>) -> Result<(String, Vec<u8>)> {
    let key = match rsa {
        None => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        Some(bits) => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, bits)?,
    };
    let mut parameters = CertificateParams::new(vec![name.to_owned()])?;
    parameters.distinguished_name = DistinguishedName::new();
    let csr = parameters.serialize_request(&key).map_err(|error| Error::from(error.to_string()))?;
    Ok((key.serialize_pem(), csr.der().to_vec()))
}

/// When the first certificate of a chain ends, in seconds since the epoch; 0 if that cannot be read.
fn expiry(chain: &str) -> u64 {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(chain.as_bytes()) else { return 0 };
    pem.parse_x509().map_or(0, |certificate| u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0))
}

fn is_host_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    name.contains('.') && name.len() <= 253 && name.bytes().all(fits) && name.parse::<std::net::IpAddr>().is_err()
}

/// A length of time as settings give it; none is longer than a century.
fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 100.0 * 365.0 * 86_400.0)).unwrap_or_default()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_too_long_is_a_century() {
        assert_eq!(span(90.0), Duration::from_secs(90));
        assert_eq!(span(-1.0), Duration::ZERO);
        assert_eq!(span(1e300), Duration::from_secs(100 * 365 * 86_400));
    }
}
