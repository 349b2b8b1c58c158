//! TLS towards upstreams.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::provider;
use crate::upstream::UpstreamTls;

/// What one service asks of its TLS; what it leaves open is the node's to say ([`UpstreamDefaults`]).
#[derive(Clone, Default)]
pub struct Asked<'a> {
    pub verify: Option<bool>,
    /// How many certificates may stand between the upstream's own and a root.
    pub depth: Option<u8>,
    /// CA certificates in PEM.
    pub roots: &'a [Arc<str>],
    /// The certificate shown to the upstream.
    pub client: Option<Arc<CertifiedKey>>,
    /// Speak HTTP/2, as gRPC does.
    pub http2: bool,
    /// Speak no HTTP at all: no protocol is named in the handshake.
    pub stream: bool,
}

/// What the node's configuration says for services that say nothing themselves.
#[derive(Clone, Debug, Default)]
pub struct UpstreamDefaults {
    pub verify: bool,
    pub depth: Option<u8>,
    pub roots: Option<Arc<str>>,
    pub client: Option<Arc<CertifiedKey>>,
}

/// What a client configuration depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Settings {
    verify: bool,
    depth: Option<u8>,
    roots: Vec<Arc<str>>,
    /// The address of the shared key: equal keys are the same allocation for as long as the entry keeps them.
    client: Option<usize>,
    protocol: Option<&'static [u8]>,
}

/// A configuration, and the key whose address its settings name.
type Made = (Arc<UpstreamTls>, Option<Arc<CertifiedKey>>);

/// Makes client configurations; equal settings get the same one, so that connections are shared and sessions resumed.
#[derive(Default)]
pub struct UpstreamConfigs {
    defaults: UpstreamDefaults,
    next: AtomicU64,
    made: Mutex<HashMap<Settings, Made>>,
}

impl UpstreamConfigs {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_defaults(defaults: UpstreamDefaults) -> Self {
        Self { defaults, ..Self::default() }
    }

    /// [`UpstreamConfigs::make`] for HTTP/1.1, with everything said.
    pub fn for_service(&self, verify: bool, depth: Option<u8>, roots: &[Arc<str>], client: Option<Arc<CertifiedKey>>) -> Arc<UpstreamTls> {
        self.make(Asked { verify: Some(verify), depth, roots, client, ..Asked::default() })
    }

    /// The configuration for a service. Verification without any root refuses every upstream, as Kong does.
    pub fn make(&self, asked: Asked<'_>) -> Arc<UpstreamTls> {
        let defaults = &self.defaults;
        let client = asked.client.or_else(|| defaults.client.clone());
        let roots = if asked.roots.is_empty() { defaults.roots.iter().cloned().collect() } else { asked.roots.to_vec() };
        let settings = Settings {
            verify: asked.verify.unwrap_or(defaults.verify),
            depth: asked.depth.or(defaults.depth),
            roots,
            client: client.as_ref().map(|key| Arc::as_ptr(key) as usize),
            protocol: match asked {
                Asked { stream: true, .. } => None,
                Asked { http2: true, .. } => Some(b"h2"),
                _ => Some(b"http/1.1"),
            },
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // Configurations nobody uses any more (rotated certificates) go; what is in use stays shared.
        made.retain(|_, (tls, _)| Arc::strong_count(tls) > 1);
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = made.entry(settings).or_insert_with_key(|settings| {
            let config = Arc::new(configuration(settings, client.clone()));
            (Arc::new(UpstreamTls { config, id: next }), client)
        });
        entry.0.clone()
    }
}

fn configuration(settings: &Settings, client: Option<Arc<CertifiedKey>>) -> ClientConfig {
    let provider = provider();
    let verifier = Arc::new(Verifier::new(settings, &provider));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match client {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols.extend(settings.protocol.map(<[u8]>::to_vec));
    config
}

/// Verification as a service asks for it.
///
/// Without it handshake signatures are not checked either: they would prove that the peer has the key of a certificate that
/// anybody can make, and checking them refuses certificates of X.509 version 1, which OpenSSL takes.
#[derive(Debug)]
struct Verifier {
    /// None accepts any certificate.
    chain: Option<Chain>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct Chain {
    /// None when there are no roots: nothing verifies.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    roots: Vec<CertificateDer<'static>>,
    depth: Option<u8>,
}

impl Verifier {
    fn new(settings: &Settings, provider: &Arc<CryptoProvider>) -> Self {
        let chain = settings.verify.then(|| {
            let certificates: Vec<_> =
                settings.roots.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes())).flatten().collect();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates.iter().cloned());
            let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok();
            Chain { webpki, roots: certificates, depth: settings.depth }
        });
        Self { chain, provider: provider.clone() }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let Some(webpki) = &chain.webpki else { return Err(CertificateError::UnknownIssuer.into()) };
        // OpenSSL counts the certificates between the upstream's own and the root.
        if chain.depth.is_some_and(|depth| intermediates.len() > usize::from(depth)) {
            return Err(Error::General("certificate chain is longer than tls_verify_depth allows".to_owned()));
        }
        match webpki.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // A root that serves by itself, which is what `openssl req -x509` makes.
            Err(Error::InvalidCertificate(_)) if chain.roots.contains(&end_entity.clone().into_owned()) => {
                super::facts::check_self_signed(end_entity, name, now).map(|()| ServerCertVerified::assertion())
            }
            Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }))
                if super::facts::common_name_fits(end_entity, name) =>
            {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.chain.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.chain.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
