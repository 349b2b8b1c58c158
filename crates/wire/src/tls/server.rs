//! TLS towards clients.

use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::{TlsError, provider};
use crate::serve::TlsPeer;

/// Chooses the certificate of a handshake. Called on worker threads: must neither wait nor block.
pub trait Certificates: Send + Sync {
    /// The certificate for the name a client asked for, in lower case; none refuses the handshake.
    fn find(&self, sni: Option<&str>) -> Option<Arc<CertifiedKey>>;
}

#[derive(Clone, Copy, Debug)]
pub struct ServerTlsOptions {
    /// Offer HTTP/2 beside HTTP/1.1.
    pub http2: bool,
    pub tls12: bool,
    pub tls13: bool,
    /// Hand out session tickets, so that clients may resume.
    pub session_tickets: bool,
}

impl Default for ServerTlsOptions {
    fn default() -> Self {
        Self { http2: true, tls12: true, tls13: true, session_tickets: true }
    }
}

/// A listener's side of TLS. Clones share everything.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

impl ServerTls {
    pub fn new(certificates: Arc<dyn Certificates>, options: &ServerTlsOptions) -> Result<Self, TlsError> {
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        if options.tls13 {
            versions.push(&rustls::version::TLS13);
        }
        if options.tls12 {
            versions.push(&rustls::version::TLS12);
        }
        let failed = |error: rustls::Error| TlsError(format!("TLS settings: {error}"));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(certificates)));
        if options.http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        if options.session_tickets {
            config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(failed)?;
            config.send_tls13_tickets = 2;
        } else {
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config) })
    }

    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.config.clone().into()
    }
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
        self.0.find(name.as_deref())
    }
}

/// Whether a connection's first byte starts a TLS handshake record. Plain HTTP on a TLS port does not.
pub fn looks_like_tls(first: u8) -> bool {
    first == 0x16
}

/// What the handshake settled, for logs and routing.
pub fn peer_facts(connection: &ServerConnection) -> TlsPeer {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).map_or_else(String::new, openssl_name);
    TlsPeer { sni: connection.server_name().map(|name| name.to_ascii_lowercase().into()), version, cipher: cipher.into() }
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
