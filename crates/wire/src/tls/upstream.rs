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

/// What a client configuration depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Settings {
    verify: bool,
    depth: Option<u8>,
    roots: Vec<Arc<str>>,
    /// The address of the shared key: equal keys are the same allocation for as long as the entry keeps them.
    client: Option<usize>,
}

/// A configuration, and the key whose address its settings name.
type Made = (Arc<UpstreamTls>, Option<Arc<CertifiedKey>>);

/// Makes client configurations; equal settings get the same one, so that connections are shared and sessions resumed.
#[derive(Default)]
pub struct UpstreamConfigs {
    next: AtomicU64,
    made: Mutex<HashMap<Settings, Made>>,
}

impl UpstreamConfigs {
    pub fn new() -> Self {
        Self::default()
    }

    /// The configuration for a service: whether and against which CA certificates (PEM) the upstream is verified, how many
    /// certificates may stand between its own and a root, and the certificate shown to it.
    ///
    /// Verification without any root refuses every upstream, as Kong does.
    pub fn for_service(&self, verify: bool, depth: Option<u8>, roots: &[Arc<str>], client: Option<Arc<CertifiedKey>>) -> Arc<UpstreamTls> {
        let settings = Settings { verify, depth, roots: roots.to_vec(), client: client.as_ref().map(|key| Arc::as_ptr(key) as usize) };
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
    config.alpn_protocols.push(b"http/1.1".to_vec());
    config
}

/// Verification as a service asks for it. Handshake signatures are checked in any case.
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
    depth: Option<u8>,
}

impl Verifier {
    fn new(settings: &Settings, provider: &Arc<CryptoProvider>) -> Self {
        let chain = settings.verify.then(|| {
            let mut roots = RootCertStore::empty();
            for pem in &settings.roots {
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
            }
            let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok();
            Chain { webpki, depth: settings.depth }
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
        webpki.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
