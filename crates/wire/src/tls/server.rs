//! TLS towards clients.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion};

use super::{TlsError, provider};
use crate::serve::TlsPeer;

/// The certificates of one server name: one, or two with keys of different kinds.
#[derive(Clone, Debug)]
pub struct Shown {
    pub first: Arc<CertifiedKey>,
    pub second: Option<Arc<CertifiedKey>>,
}

impl From<Arc<CertifiedKey>> for Shown {
    fn from(first: Arc<CertifiedKey>) -> Self {
        Self { first, second: None }
    }
}

impl Shown {
    /// The one this client can verify: of two the elliptic one, whose handshakes cost a tenth.
    fn choose(self, schemes: &[SignatureScheme]) -> Arc<CertifiedKey> {
        let Some(second) = self.second else { return self.first };
        let is_rsa = |key: &CertifiedKey| key.key.algorithm() == SignatureAlgorithm::RSA;
        let (preferred, other) = if is_rsa(&self.first) { (second, self.first) } else { (self.first, second) };
        if preferred.key.choose_scheme(schemes).is_some() { preferred } else { other }
    }
}

/// Chooses the certificate of a handshake. Called on worker threads: must neither wait nor block.
pub trait Certificates: Send + Sync {
    /// The certificates for the name a client asked for, in lower case; none refuses the handshake.
    fn find(&self, sni: Option<&str>) -> Option<Shown>;
}

/// Whether clients are asked for certificates (nginx' `ssl_verify_client`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    #[default]
    Never,
    /// Taken if there, verified against these roots (PEM).
    Optional(String),
    /// Taken if there, whatever it is: for plugins that verify it themselves.
    Unverified,
    /// Nobody connects without one that these roots (PEM) vouch for.
    Required(String),
}

/// Which cipher suites of TLS 1.2 are offered; those of TLS 1.3 are all safe and always there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ciphers {
    #[default]
    All,
    /// An OpenSSL cipher list; names it knows and we don't are passed over.
    List(String),
}

#[derive(Clone, Debug)]
pub struct ServerTlsOptions {
    /// Offer HTTP/2 beside HTTP/1.1.
    pub http2: bool,
    pub tls12: bool,
    pub tls13: bool,
    /// Hand out session tickets, so that clients may resume.
    pub session_tickets: bool,
    pub ciphers: Ciphers,
    pub client_certificates: ClientCertificates,
}

impl Default for ServerTlsOptions {
    fn default() -> Self {
        Self {
            http2: true,
            tls12: true,
            tls13: true,
            session_tickets: true,
            ciphers: Ciphers::All,
            client_certificates: ClientCertificates::Never,
        }
    }
}

/// A listener's side of TLS. Clones share everything.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// Certificates of clients are verified where they are shown.
    verifies_clients: bool,
}

impl ServerTls {
    /// Errors when no cipher suite is left or a root cannot be read.
    pub fn new(certificates: Arc<dyn Certificates>, options: &ServerTlsOptions) -> Result<Self, TlsError> {
        let mut protocols = vec![b"http/1.1".to_vec()];
        if options.http2 {
            protocols.insert(0, b"h2".to_vec());
        }
        Self::with_protocols(certificates, options, protocols)
    }

    /// For streams: no protocol is named in the handshake.
    pub fn for_streams(certificates: Arc<dyn Certificates>, options: &ServerTlsOptions) -> Result<Self, TlsError> {
        Self::with_protocols(certificates, options, Vec::new())
    }

    fn with_protocols(certificates: Arc<dyn Certificates>, options: &ServerTlsOptions, protocols: Vec<Vec<u8>>) -> Result<Self, TlsError> {
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        if options.tls13 {
            versions.push(&rustls::version::TLS13);
        }
        if options.tls12 {
            versions.push(&rustls::version::TLS12);
        }
        let failed = |error: rustls::Error| TlsError(format!("TLS settings: {error}"));
        let provider = with_ciphers(&options.ciphers);
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions).map_err(failed)?;
        let builder = match super::clients::verifier(&options.client_certificates, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Resolver(certificates)));
        config.alpn_protocols = protocols;
        if options.session_tickets {
            config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(failed)?;
            config.send_tls13_tickets = 2;
        } else {
            config.send_tls13_tickets = 0;
        }
        let verifies_clients = matches!(options.client_certificates, ClientCertificates::Optional(_) | ClientCertificates::Required(_));
        Ok(Self { config: Arc::new(config), verifies_clients })
    }

    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.config.clone().into()
    }

    /// What became of a certificate that a client showed, in nginx' words.
    pub(crate) fn client_verify(&self, certificate: Option<&[u8]>) -> &'static str {
        match (certificate, self.verifies_clients) {
            (None, _) => "NONE",
            (Some(_), true) => "SUCCESS",
            // What OpenSSL says of a certificate whose issuer it doesn't know.
            (Some(_), false) => "FAILED:unable to verify the first certificate",
        }
    }

    /// The settings themselves, for protocols that make their own connections of them.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

fn with_ciphers(ciphers: &Ciphers) -> Arc<CryptoProvider> {
    let Ciphers::List(list) = ciphers else { return provider() };
    let mut chosen = (*provider()).clone();
    let named = |suite: &str| list.split([':', ',', ' ']).any(|entry| entry == suite || matches!(entry, "ALL" | "HIGH" | "DEFAULT"));
    let excluded =
        |suite: &str| list.split([':', ',', ' ']).any(|entry| entry.strip_prefix(['!', '-']).is_some_and(|entry| entry == suite));
    chosen.cipher_suites.retain(|suite| {
        let name = suite.suite().as_str().map_or_else(String::new, openssl_name);
        suite.tls13().is_some() || (named(&name) && !excluded(&name))
    });
    Arc::new(chosen)
}

struct Resolver(Arc<dyn Certificates>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        self.0.find(name.as_deref()).map(|shown| shown.choose(hello.signature_schemes()))
    }
}

/// Whether a connection's first byte starts a TLS handshake record. Plain HTTP on a TLS port does not.
pub fn looks_like_tls(first: u8) -> bool {
    first == 0x16
}

/// What the handshake settled, for logs and routing.
pub fn peer_facts(connection: &ServerConnection, tls: &ServerTls) -> TlsPeer {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).map_or_else(String::new, openssl_name);
    let certificate = connection.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.as_ref().into());
    let client_verify = tls.client_verify(certificate.as_deref());
    let sni = connection.server_name().map(|name| name.to_ascii_lowercase().into());
    TlsPeer { sni, version, cipher: cipher.into(), certificate, client_verify }
}

/// `TLS13_AES_256_GCM_SHA384` → `TLS_AES_256_GCM_SHA384`; `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256` →
/// `ECDHE-RSA-AES128-GCM-SHA256`.
fn openssl_name(suite: &str) -> String {
    if let Some(rest) = suite.strip_prefix("TLS13_") {
        return format!("TLS_{rest}");
    }
    let name = suite.trim_start_matches("TLS_").replace("_WITH_", "_").replace("AES_", "AES").replace('_', "-");
    name.replace("CHACHA20-POLY1305-SHA256", "CHACHA20-POLY1305")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cipher_suites_are_named_as_openssl_names_them() {
        assert_eq!(openssl_name("TLS13_AES_256_GCM_SHA384"), "TLS_AES_256_GCM_SHA384");
        assert_eq!(openssl_name("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "ECDHE-RSA-AES128-GCM-SHA256");
        assert_eq!(openssl_name("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"), "ECDHE-ECDSA-CHACHA20-POLY1305");
    }
}
