//! Certificates and keys in PEM, as far as checks look into them: does it parse, do they belong together, of what kind.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::{digest, signature};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

/// One block between `-----BEGIN …-----` and `-----END …-----`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `CERTIFICATE`, `PRIVATE KEY`, `RSA PRIVATE KEY`, …
    pub label: String,
    pub der: Vec<u8>,
}

/// Every block of a text, in order. Blocks that are not base64 inside are left out.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, after)) = after.split_once("-----") else { break };
        let end = format!("-----END {label}-----");
        let Some((body, after)) = after.split_once(&end) else { break };
        let packed: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        if let Ok(der) = STANDARD.decode(packed) {
            blocks.push(Block { label: label.to_owned(), der });
        }
        rest = after;
    }
    blocks
}

/// What of a public key is compared: its algorithm and its bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// `1.2.840.113549.1.1.1` for RSA, `1.2.840.10045.2.1` for elliptic curves, …
    pub algorithm: String,
    pub bits: Vec<u8>,
}

impl PublicKey {
    fn of(info: &SubjectPublicKeyInfo<'_>) -> Self {
        Self { algorithm: info.algorithm.algorithm.to_id_string(), bits: info.subject_public_key.data.to_vec() }
    }

    /// Reads `PUBLIC KEY` in PEM.
    pub fn from_pem(text: &str) -> Option<Self> {
        let block = blocks(text).into_iter().find(|block| block.label == "PUBLIC KEY")?;
        Self::from_der(&block.der)
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        SubjectPublicKeyInfo::from_der(der).ok().map(|(_, info)| Self::of(&info))
    }
}

/// What checks ask of a certificate.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    pub public_key: PublicKey,
    /// The end of its validity, in seconds since the epoch.
    pub not_after: i64,
    /// Whether it says that it is a CA.
    pub is_ca: bool,
    /// SHA-256 of the DER, in hexadecimal.
    pub digest: String,
}

/// Reads the first certificate of a text. None if there is none or it does not parse.
pub fn certificate(text: &str) -> Option<CertificateFacts> {
    let block = blocks(text).into_iter().find(|block| block.label.ends_with("CERTIFICATE"))?;
    let (_, parsed) = X509Certificate::from_der(&block.der).ok()?;
    let sha256 = digest::digest(&digest::SHA256, &block.der);
    Some(CertificateFacts {
        public_key: PublicKey::of(parsed.public_key()),
        not_after: parsed.validity().not_after.timestamp(),
        is_ca: parsed.basic_constraints().ok().flatten().is_some_and(|constraints| constraints.value.ca),
        digest: sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// The public half of the first private key of a text: PKCS#8, PKCS#1 or SEC1. None if there is none or it does not parse.
pub fn public_half(text: &str) -> Option<PublicKey> {
    let block = blocks(text).into_iter().find(|block| block.label.ends_with("PRIVATE KEY"))?;
    let der = &block.der;
    let rsa = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok();
    if let Some(key) = rsa {
        return spki(key.public_key().as_der());
    }
    for curve in [
        &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        &signature::ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ] {
        if let Ok(key) = EcdsaKeyPair::from_private_key_der(curve, der) {
            return spki(key.public_key().as_der());
        }
    }
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().and_then(|key| spki(key.public_key().as_der()))
}

fn spki(der: Result<PublicKeyX509Der<'_>, aws_lc_rs::error::Unspecified>) -> Option<PublicKey> {
    PublicKey::from_der(der.ok()?.as_ref())
}
