//! Tokens: taken apart, their signature and their claims checked.

use aws_lc_rs::{hmac, signature};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::secret;

/// A token whose signature is yet to be checked.
#[derive(Debug)]
pub struct Token<'a> {
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
    pub algorithm: Algorithm,
    /// Header and claims as they were signed.
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// How a token is signed. `none` is no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
    EdDsa,
}

/// In the order in which schemas list them.
pub const NAMES: [&str; 13] =
    ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"];

const ALL: [Algorithm; 13] = [
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::EdDsa,
];

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(|at| ALL[at])
    }

    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// Whether client and gateway share a secret.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    pub(super) fn verifies(self, key: &[u8], signed: &[u8], signature: &[u8]) -> bool {
        let shared = |algorithm| hmac::verify(&hmac::Key::new(algorithm, key), signed, signature).is_ok();
        let public = |algorithm: &'static dyn signature::VerificationAlgorithm| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok()
        };
        match self {
            Self::Hs256 => shared(hmac::HMAC_SHA256),
            Self::Hs384 => shared(hmac::HMAC_SHA384),
            Self::Hs512 => shared(hmac::HMAC_SHA512),
            Self::Rs256 => public(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => public(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => public(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => public(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => public(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => public(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 => public(&signature::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => public(&signature::ECDSA_P384_SHA384_FIXED),
            Self::Es512 => public(&signature::ECDSA_P521_SHA512_FIXED),
            Self::EdDsa => public(&signature::ED25519),
        }
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart. Errors with what clients hear of it.
    pub fn parse(text: &'a [u8]) -> Result<Self, &'static str> {
        let mut parts = text.splitn(3, |byte| *byte == b'.');
        let (Some(head), Some(claims), Some(last)) = (parts.next(), parts.next(), parts.next()) else { return Err("invalid JSON") };
        let json = |part: &[u8]| secret::base64_url(part).and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let (Some(header), Some(payload)) = (json(head), json(claims)) else { return Err("invalid JSON") };
        // What is no object has no algorithm; whatever `typ` says is let through, as in Kong.
        let Value::Object(header) = header else { return Err("invalid alg") };
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::of).ok_or("invalid alg")?;
        let payload = match payload {
            Value::Object(payload) => payload,
            // A list is a table without any named claim to Kong.
            Value::Array(_) => Map::new(),
            _ => return Err("invalid claims"),
        };
        let signature = secret::base64_url(last).ok_or("invalid signature")?;
        Ok(Self { header, claims: payload, algorithm, signed: &text[..head.len() + 1 + claims.len()], signature })
    }

    /// Whether this secret, or the private half of this public key, signed the token.
    pub fn is_signed_with(&self, key: &[u8]) -> bool {
        self.algorithm.verifies(key, self.signed, &self.signature)
    }
}

/// A registered claim that can be checked.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    Exp,
    Nbf,
}

/// What is asked of the claims.
pub struct Claims {
    pub verified: Vec<Claim>,
    /// Seconds from now within which a token has to end; 0 sets no bound.
    pub maximum_expiration: f64,
}

impl Claims {
    /// Errors with what is wrong, by claim. `now` is in seconds.
    pub fn check(&self, claims: &Map<String, Value>, now: f64) -> Result<(), Map<String, Value>> {
        let mut wrong = Map::new();
        for claim in &self.verified {
            let name = if *claim == Claim::Exp { "exp" } else { "nbf" };
            let complaint = match (claim, claims.get(name).and_then(Value::as_f64)) {
                (_, None) => "must be a number",
                (Claim::Exp, Some(end)) if end <= now => "token expired",
                (Claim::Nbf, Some(start)) if start > now => "token not valid yet",
                _ => continue,
            };
            wrong.insert(name.to_owned(), complaint.into());
        }
        if wrong.is_empty() && self.maximum_expiration > 0.0 {
            let end = claims.get("exp").and_then(Value::as_f64);
            if end.is_none_or(|end| end - now > self.maximum_expiration) {
                wrong.insert("exp".to_owned(), "exceeds maximum allowed expiration".into());
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}
