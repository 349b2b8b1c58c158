//! TLS on both sides, by rustls with aws-lc-rs.
//!
//! - [`keys`]: certificates with their keys: from PEM, and the node's own self-signed pair
//! - [`server`]: towards clients: the certificate is chosen per handshake, from whatever snapshot is served then
//! - [`upstream`]: towards upstreams: client configurations, cached by their settings

mod clients;
mod facts;
pub mod keys;
pub mod server;
pub mod upstream;

use std::sync::Arc;

pub use keys::{certified_key, ends_at, self_signed_default};
pub use rustls::sign::CertifiedKey;
pub use server::{Certificates, Ciphers, ClientCertificates, ServerTls, ServerTlsOptions, Shown, looks_like_tls, peer_facts};
pub use upstream::{Asked, UpstreamConfigs, UpstreamDefaults};

use rustls::crypto::CryptoProvider;

/// One line that says what is wrong with a certificate, a key or a TLS setting.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);

/// The one provider of cryptography, given explicitly so that no process-wide default is needed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
