//! Keys: JSON Web Keys and PEM pairs for plugins that sign or verify.

use portcullis_schema::{Check, Fields, Record, Schema};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{Entity, Ref, pem};

/// A key under its id (`kid`), as a JWK or as a PEM pair.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Key {
    /// The row's id.
    #[field(id())]
    pub id: Uuid,
    /// The set it belongs to.
    #[field(foreign_cascade("key_sets").shown("required", false))]
    pub set: Option<Ref>,
    /// A name to find it by.
    #[field(string().unique().shown("required", false))]
    pub name: Option<String>,
    /// The key id that tokens carry; unique within the set.
    #[field(string().required().shown("unique", false))]
    pub kid: String,
    /// A JSON Web Key, as text.
    #[field(string().referenceable().encrypted())]
    pub jwk: Option<String>,
    /// A pair in PEM, or half of one.
    #[field(record::<PemPair>().checks(vec![Check::AtLeastOneOf(vec!["private_key", "public_key"])]).custom(check_pair).shown("required", false))]
    pub pem: Option<PemPair>,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
}

/// A private and a public key in PEM.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct PemPair {
    /// The private key.
    #[field(string().referenceable().encrypted().shown("required", false))]
    pub private_key: Option<String>,
    /// The public key.
    #[field(string().referenceable().shown("required", false))]
    pub public_key: Option<String>,
}

impl Entity for Key {
    const NAME: &'static str = "keys";
    const ENDPOINT_KEY: Option<&'static str> = Some("name");

    fn schema() -> Schema {
        let checks = vec![
            Check::MutuallyExclusive(vec!["jwk", "pem"]),
            Check::AtLeastOneOf(vec!["jwk", "pem"]),
            Check::Custom { fields: vec!["jwk", "pem", "kid"], check: check_key },
        ];
        Schema { cache_key: &["kid", "set"], checks, ..Self::base() }
    }
}

const BAD_JWK: &str = "could not load JWK, likely not a valid key";

/// What a JWK may hold.
const JWK: [&str; 25] = [
    "issuer", "kty", "use", "key_ops", "alg", "kid", "x5u", "x5c", "x5t", "x5t#S256", "k", "x", "y", "crv", "n", "e", "d", "p", "q", "dp",
    "dq", "qi", "oth", "r", "t",
];

/// Whether a JWK is of a known type and has what that type needs.
fn is_key(jwk: &Value) -> bool {
    let has = |names: &[&str]| names.iter().all(|name| jwk.get(*name).and_then(Value::as_str).is_some_and(is_base64url));
    let curve = jwk.get("crv").and_then(Value::as_str);
    match jwk.get("kty").and_then(Value::as_str) {
        Some("RSA") => has(&["n", "e"]),
        Some("EC") => matches!(curve, Some("P-256" | "P-384" | "P-521" | "secp256k1")) && has(&["x", "y"]),
        Some("OKP") => matches!(curve, Some("Ed25519" | "X25519" | "Ed448" | "X448")) && has(&["x"]),
        _ => false,
    }
}

fn is_base64url(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
}

fn check_key(record: &Record) -> Result<(), Vec<(String, Value)>> {
    let complain = |field: &str, text: &str| Err(vec![(field.to_owned(), Value::from(text))]);
    if let Some(text) = record.get("jwk").and_then(Value::as_str) {
        let Ok(jwk) = serde_json::from_str::<Value>(text) else { return complain("@entity", "could not json decode jwk string") };
        if jwk.get("kid") != record.get("kid") {
            return complain("@entity", "kid in jwk.kid must be equal to keys.kid");
        }
        if !is_key(&jwk) {
            return complain("@entity", BAD_JWK);
        }
        let mut unknown: Vec<_> =
            jwk.as_object().into_iter().flatten().map(|(name, _)| name).filter(|name| !JWK.contains(&name.as_str())).collect();
        unknown.sort();
        if !unknown.is_empty() {
            let told: Vec<String> = unknown.iter().map(|name| format!("{name}: unknown field")).collect();
            return complain("@entity", &format!("Validation error: {}", told.join("; ")));
        }
    }
    Ok(())
}

/// What OpenSSL says of a text that is no key; Kong glues it to its own words.
const NO_KEY: &str =
    "pkey.new:load_key: error:1E08010C:DECODER routines:OSSL_DECODER_from_bio:unsupported:crypto/encode_decode/decoder_lib.c:102:";

/// Whether a pair consists of keys, and of halves of one key. Nobody knows what a secret kept elsewhere will be.
fn check_pair(pair: &Value) -> Result<(), String> {
    let given = |name: &str| pair.get(name).filter(|value| !value.is_null());
    if [given("private_key"), given("public_key")].into_iter().flatten().any(portcullis_schema::is_reference) {
        return Ok(());
    }
    let half = |name: &str| given(name).and_then(Value::as_str);
    let complain = |text: &str| Err(text.to_owned());
    let public = match half("public_key") {
        Some(text) => match pem::PublicKey::from_pem(text) {
            Some(key) => Some(key),
            None => return complain("could not load public key"),
        },
        None => None,
    };
    let private = match half("private_key") {
        Some(text) => match pem::public_half(text) {
            Some(key) => Some(key),
            None => return Err(format!("could not load private key{NO_KEY}")),
        },
        None => None,
    };
    match (public, private) {
        (Some(public), Some(private)) if public != private => complain("public key does not match private key"),
        _ => Ok(()),
    }
}
